"""A question small enough to be asked in a test: a tiny encoder, a toy task, and a grid over both."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plm import RunSpec, Store, finetune, reinit, steps
from search_spaces.finetuning import learning_rates, models, schemes, tasks
from search_spaces.masks import masks, preserved, unablated
from search_spaces.seeds import seeds
from sweeps.engine.sweep import Curve, Sweep

WORDS = tuple(f"{a}{b}" for a in "bdfgklmn" for b in "aeiou")
CURVE = Curve(axis="mask", position=preserved, label="preserved layers", line="lr", control="scheme", beside="task")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Figures that a test drew and did not save; what saves one closes it."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a BERT of two layers, 32 wide."""
    import torch
    from transformers import BertConfig, BertModel

    from plm.data.tokenizer import files, word_level

    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(WORDS) + 5,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
        )
    ).save_pretrained(folder)
    for name, data in files(word_level(WORDS)).items():
        (folder / name).write_bytes(data)
    return str(folder)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a task: does the first word come early in the list?"""
    folder = tmp_path_factory.mktemp("task") / "toy"
    folder.mkdir()
    for split, count in (("train", 64), ("validation", 40)):
        rows = [
            {
                "sentence": " ".join(WORDS[(7 * i + 11 * j) % len(WORDS)] for j in range(4)),
                "label": int((7 * i) % len(WORDS) < len(WORDS) // 2),
            }
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(folder)


class Silent:
    """A pusher that shows nothing."""

    message = None

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def no_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that do not look at MLflow: making its tables takes seconds."""
    monkeypatch.setattr("sweeps.engine.tracking.Pusher", Silent)


@pytest.fixture(scope="session")
def prose(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small text: documents of a few sentences."""
    folder = tmp_path_factory.mktemp("text") / "prose"
    folder.mkdir()
    for split, count in (("train", 60), ("validation", 40)):
        documents = [
            [" ".join(WORDS[(i * j + 7 * k) % len(WORDS)] for k in range(3 + j)) + " ." for j in range(3 + i % 4)]
            for i in range(count)
        ]
        rows = [json.dumps({"text": "\n".join(sentences)}) + "\n" for sentences in documents]
        (folder / f"{split}.jsonl").write_text("".join(rows))
    return str(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "store")


@pytest.fixture
def question(encoder: str, toy: str) -> Sweep:
    """Three masks, two seeds, three steps each: six runs."""
    return make_question(encoder, toy)


def make_question(encoder: str, toy: str) -> Sweep:
    def run(*, model: str, task: str, lr: float, scheme: str, mask: str, seed: int) -> RunSpec:
        return finetune(
            task,
            init=reinit(model, mask, scheme=scheme, seed=seed),
            size=24,
            seed=seed,
            lr=lr,
            batch_size=8,
            duration=steps(3),
            dtype="float32",
        )

    grid: dict[str, Any] = {
        "model": models(encoder),
        "task": tasks(toy),
        "lr": learning_rates(1e-3),
        "scheme": schemes("bert"),
        "mask": masks("progressive"),
        "seed": seeds(2),
    }
    return Sweep(
        run,
        over=grid,
        baseline=lambda cell: cell | {"mask": unablated(cell["mask"])},
        arms=("mask", "scheme"),
        curve=CURVE,
    )


@pytest.fixture(scope="session", name="steps")
def three_steps(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folders of a tiny masked LM, named after three steps."""
    from tiny import SIZES, perturbed, save_model
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("trainings") / "tiny"
    for step in (0, 4, 16):
        save_model(perturbed(BertForMaskedLM(BertConfig(**SIZES)), seed=step), folder / f"step{step}")
    return str(folder)
