"""The embedded default is worth looking at: the parent has learned the language, and what it learned can be lost.

One parent is pretrained as the default does it (minutes), then asked the questions that the grid rests on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from plm import Execution, RunSpec, Store, finetune, reinit, steps, train
from plm.build import Cache
from plm.data.corpus import Corpus, blocks
from plm.objectives import IGNORED
from plm.recipes import world_bert
from plm.train import open_stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("default")]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.at(tmp_path_factory.mktemp("default"))
    train(world_bert(), store=store, execution=Execution(keep=(0,)))
    return store


@pytest.fixture(scope="module")
def cache() -> Cache:
    return Cache()


def masked_words(store: Store) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of the evaluation blocks, end to end."""
    batches = list(open_stream(world_bert(), store, Cache()).evaluation())
    return tuple(torch.cat([b[name] for b in batches]).numpy() for name in ("input_ids", "labels"))  # type: ignore[return-value]


def ngram_accuracy(store: Store, inputs: np.ndarray, labels: np.ndarray, sides: str) -> float:
    """Guess each masked word from the words that stand left and right of it, backing off to fewer."""
    data = world_bert().data
    assert isinstance(data, Corpus)
    text = blocks(data, "train", 32, store.root / "data")[:].reshape(-1).tolist()
    seen: dict[Any, Counter[int]] = defaultdict(Counter)
    for left, word, right in zip(text, text[1:], text[2:], strict=False):
        seen[()][word] += 1
        seen["l", left][word] += 1
        if sides == "both":
            seen[left, right][word] += 1
    best = {context: counts.most_common(1)[0][0] for context, counts in seen.items()}
    right_guesses = []
    for row, column in np.argwhere(labels != IGNORED):
        left = int(inputs[row, column - 1]) if column else -1
        right = int(inputs[row, column + 1]) if column + 1 < inputs.shape[1] else -1
        contexts = {"both": [(left, right), ("l", left), ()], "left": [("l", left), ()], "none": [()]}[sides]
        guess = next(best[c] for c in contexts if c in best)
        right_guesses.append(guess == labels[row, column])
    return float(np.mean(right_guesses))


@torch.no_grad()
def test_the_parent_predicts_masked_words_far_better_than_neighbours_do(store: Store) -> None:
    inputs, labels = masked_words(store)
    model = AutoModelForMaskedLM.from_pretrained(store.checkpoint(world_bert().final)).eval()
    guesses = torch.cat(
        [model(input_ids=part).logits.argmax(-1) for part in torch.from_numpy(inputs).split(64)]
    ).numpy()
    ours = float((guesses == labels)[labels != IGNORED].mean())
    none, left, both = (ngram_accuracy(store, inputs, labels, sides) for sides in ("none", "left", "both"))
    assert none < left < both, (none, left, both)
    assert ours > both + 0.07, (
        f"masked-word accuracy {ours:.3f}; from both neighbours {both:.3f}, from the left one {left:.3f}"
    )


def test_a_checkpoint_is_a_folder_that_transformers_loads(store: Store) -> None:
    folder: Path = store.checkpoint(world_bert().final)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("the", add_special_tokens=True)["input_ids"][0] == tokenizer.cls_token_id
    assert tokenizer.mask_token == "[MASK]"


def score(store: Store, cache: Cache, init: Any, size: int, task: str = "sentiment", seed: int = 0) -> float:
    spec: RunSpec = finetune(task, init=init, size=size, seed=seed, lr=5e-4, duration=steps(200))
    return train(spec, store=store, cache=cache).metrics["val/score"]


def test_a_fresh_model_stays_near_chance_and_the_parent_does_not(store: Store, cache: Cache) -> None:
    for task in ("sentiment", "acceptability"):
        assert score(store, cache, world_bert().at(0), 400, task) < 0.65
        assert score(store, cache, world_bert().final, 400, task) > 0.85


def lost(store: Store, cache: Cache, mask: str, size: int, task: str) -> float:
    """How much redrawing lowers the score, over two seeds."""
    parent = world_bert().final
    return float(
        np.mean(
            [
                score(store, cache, parent, size, task, seed)
                - score(store, cache, reinit(parent, mask, seed=seed), size, task, seed)
                for seed in (0, 1)
            ]
        )
    )


def test_redrawing_costs_more_with_fewer_examples(store: Store, cache: Cache) -> None:
    few, many = (lost(store, cache, "0111", size, "sentiment") for size in (100, 400))
    assert few > 0.05
    assert few > many + 0.03


def test_what_is_lost_depends_on_the_layers(store: Store, cache: Cache) -> None:
    all_layers, top_layer = (lost(store, cache, mask, 400, "acceptability") for mask in ("1111", "0001"))
    assert all_layers > 0.25
    assert all_layers > top_layer + 0.2
