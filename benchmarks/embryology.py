"""All analyses of a checkpoint beside the straightforward way: one input at a time, one script a probe and layer.

`python -m benchmarks.embryology [--size 150] [--checkpoints 3]` reads random models of BERT-mini's size (4 layers of 256) on
the generated language. The straightforward way, written here with transformers alone, hides one word at a time in an input
of its own, computes all logits, and encodes all passages again for each probe and layer; attention and similarity are
ours, a text at a time. It prints the largest difference between the two ways' numbers, the ratio of their CPU times
(aim: at least 5), and how time and memory grow with checkpoints. CPU time of the process, so that a busy machine does not
bear on the ratio. 300 are the sizes that analyses take by themselves; with fewer things the 400 steps of each probe's fit,
which are the same in both ways, weigh more.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import resident

NAMES = ("reconstruction", "prediction", "minimal_pairs", "knowledge", "probing", "attention", "similarity")
BASE = "prediction"
"""Whose size is given; those of the others stand to it as their usual ones do."""


def checkpoint(folder: Path, seed: int) -> str:
    """A random model of BERT-mini's size that reads the generated language."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    from plm.data.tokenizer import files, word_level
    from plm.data.world import World

    words = tuple(World().vocabulary())
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(words) + 5, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024,
        max_position_embeddings=128, initializer_range=0.1,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    for name, data in files(word_level(words)).items():
        (folder / name).write_bytes(data)
    return str(folder)


def ours(path: str, size: int) -> dict[str, float]:
    """The numbers of all analyses."""
    found: dict[str, float] = {}
    for name in NAMES:
        asked, subject = prepared(name, path, size)
        rows = asked.rows(subject)
        found |= {f"{name} {key}": value for key, value in asked.summary(rows).items()}
    return found


def prepared(name: str, path: str, size: int) -> tuple[Any, Any]:
    """An analysis of some size, and what it looks at."""
    import torch

    from plm import external
    from plm.analyses import analysis
    from plm.build import Cache
    from plm.reading import subject_of
    from plm.registry import member
    from plm.store import Store

    usual: dict[str, Any] = {each: member("analyses", each) for each in (name, BASE)}
    asked = analysis(name, "world", size=max(1, round(size * usual[name].usual / usual[BASE].usual)))
    if name == "probing":
        asked = asked.fewer(asked.size)  # type: ignore[attr-defined]  # as many passages to score
    source = external(path)
    return asked, subject_of(source, asked.head, Store.at(Path(path).parent), Cache(), torch.device("cpu"))


# ---------------------------------------------------------------------------------------------------------------------
# The straightforward way


class Model:
    """A model that is asked one input at a time."""

    def __init__(self, path: str) -> None:
        from transformers import AutoTokenizer, BertForMaskedLM

        self.model = BertForMaskedLM.from_pretrained(path).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(path)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=True)["input_ids"][:128]

    def scores(self, ids: Sequence[int]) -> Any:
        """Log-probabilities (T, V)."""
        import torch

        return self.model(torch.tensor([list(ids)])).logits[0].log_softmax(-1)

    def masked(self, ids: Sequence[int], place: int) -> Any:
        """Log-probabilities (V) at one place when it is hidden."""
        hidden = [self.tokenizer.mask_token_id if i == place else token for i, token in enumerate(ids)]
        return self.scores(hidden)[place]


def straightforward(path: str, size: int) -> dict[str, float]:
    """The numbers that are compared, each by a script of its own."""
    found: dict[str, float] = {}
    for script in (reconstructed, predicted, preferred, known, probed, one_by_one):
        found |= dict(script(path, size))
    return found


def reconstructed(path: str, size: int) -> Iterator[tuple[str, float]]:
    """Sentence by sentence."""
    model, (asked, _) = Model(path), prepared("reconstruction", path, size)
    right = [
        model.scores(ids)[1:-1].argmax(-1).tolist()[k] == token
        for _, sentence in asked.data.sentences(asked.size, asked.seed)
        for ids in [model.ids(sentence.text)]
        for k, token in enumerate(ids[1:-1])
    ]
    yield "reconstruction accuracy", float(np.mean(right))


def predicted(path: str, size: int) -> Iterator[tuple[str, float]]:
    """Word by word."""
    model, (asked, _) = Model(path), prepared("prediction", path, size)
    right = [
        int(model.masked(ids, place).argmax()) == ids[place]
        for _, sentence in asked.data.sentences(asked.size, asked.seed)
        for ids in [model.ids(sentence.text)]
        for place in range(1, len(ids) - 1)
    ]
    yield "prediction accuracy", float(np.mean(right))


def preferred(path: str, size: int) -> Iterator[tuple[str, float]]:
    """Pseudo-log-likelihoods, a place at a time."""
    model, (asked, _) = Model(path), prepared("minimal_pairs", path, size)

    def nats(sentence: str) -> float:
        ids = model.ids(sentence)
        return sum(float(model.masked(ids, place)[ids[place]]) for place in range(1, len(ids) - 1))

    by_paradigm: dict[str, list[float]] = {}
    for pair in asked.data.pairs(asked.size, asked.seed):
        by_paradigm.setdefault(pair.paradigm, []).append(float(nats(pair.good) > nats(pair.bad)))
    yield "minimal_pairs accuracy", float(np.mean([np.mean(own) for own in by_paradigm.values()]))


def known(path: str, size: int) -> Iterator[tuple[str, float]]:
    """Statement by statement, with the subject and without."""
    model, (asked, _) = Model(path), prepared("knowledge", path, size)
    by_relation: dict[str, list[tuple[float, float]]] = {}
    for fact in asked.data.facts(asked.cardinalities, asked.size, asked.seed):
        ids = model.ids(f"{fact.subject} {fact.relation} {fact.object} .")
        with_subject = model.masked(ids, 4)
        without = model.masked([ids[0], model.tokenizer.mask_token_id, *ids[2:]], 4)
        own = (float(with_subject[ids[4]].exp()), float(without.argmax() == ids[4]))
        by_relation.setdefault(fact.relation, []).append(own)
    probability, prior = np.mean([np.mean(own, axis=0) for own in by_relation.values()], axis=0)
    yield "knowledge probability", probability
    yield "knowledge prior_accuracy", prior


def probed(path: str, size: int) -> Iterator[tuple[str, float]]:
    """A script for each label set and layer: encode all passages, fit the probe, fit its control."""
    from transformers import BertModel

    asked, subject = prepared("probing", path, size)
    body = BertModel.from_pretrained(path).eval()
    for task in asked._tasks():
        for layer in range(body.config.num_hidden_layers + 1):
            yield from _probe(asked, task, layer, body, subject)


def _probe(asked: Any, task: Any, layer: int, body: Any, subject: Any) -> Iterator[tuple[str, float]]:
    import torch

    from plm.linear_probes import fit

    def read(passages: Any) -> tuple[Any, list[str]]:
        vectors, labels = [], []
        for passage in passages:
            lines = passage.text.split("\n")
            starts = np.cumsum([0, *(len(line) + 1 for line in lines[:-1])])
            cut = [subject.tokenizer.backend_tokenizer.encode(line, add_special_tokens=False) for line in lines]
            ids, offsets = [2], [(0, 0)]
            for start, line in zip(starts, cut, strict=True):
                ids += [*line.ids, 3]
                offsets += [*((a + start, b + start) for a, b in line.offsets), (0, 0)]
            states = body(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
            for item in passage.items:
                parts = [
                    states[[k for k, (a, b) in enumerate(offsets) if a < end and b > begin]].mean(0)
                    for begin, end in item.stretches
                ]
                vectors.append(torch.cat(parts))
                labels.append(item.label)
        return torch.stack(vectors)[None], labels

    (features, labels), (test, gold) = read(task.train), read(task.test)
    classes = sorted(set(labels))
    numbers = torch.tensor([classes.index(label) for label in labels])
    said = fit(features, [numbers], [len(classes)], seed=asked.seed).predict(test)[0][0]
    fit(features, [numbers.flip(0)], [len(classes)], seed=asked.seed).predict(test)  # the work of a control
    right = [classes[k] == label for k, label in zip(said, gold, strict=True)]
    yield f"probing f1/{task.name}/layer_{layer}", float(np.mean(right))


def one_by_one(path: str, size: int) -> Iterator[tuple[str, float]]:
    """Attention and similarity, a text at a time."""
    from plm import inference

    batches, inference.by_length = inference.by_length, lambda lengths: [[row] for row in range(len(lengths))]
    try:
        for name in ("attention", "similarity"):
            asked, subject = prepared(name, path, size)
            yield from ((f"{name} {key}", value) for key, value in asked.summary(asked.rows(subject)).items())
    finally:
        inference.by_length = batches


# ---------------------------------------------------------------------------------------------------------------------


def timed(way: Callable[[str, int], dict[str, float]], path: str, size: int) -> tuple[dict[str, float], float]:
    """What a way finds, and its CPU seconds."""
    import torch

    began = time.process_time()
    with torch.no_grad():
        found = way(path, size)
    return found, time.process_time() - began


def main() -> None:
    """Compare the two ways on one checkpoint, then read several our way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=150)
    parser.add_argument("--checkpoints", type=int, default=3)
    given = parser.parse_args()
    import torch

    from sweeps.engine.worker import quiet

    quiet()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        paths = [checkpoint(Path(name) / f"step{k}", k) for k in range(given.checkpoints)]
        timed(ours, paths[0], given.size)  # what is made once a process: imports, the language, its n-grams
        (found, fast), (expected, slow) = (timed(way, paths[0], given.size) for way in (ours, straightforward))
        worst = max(expected, key=lambda key: abs(expected[key] - found[key]))
        print(
            f"{len(expected)} numbers compared; largest difference {abs(expected[worst] - found[worst]):.2g} ({worst})"
        )
        print(f"ours {fast:.1f} s   straightforward {slow:.1f} s   ratio {slow / fast:.1f}")
        seconds, memory = [fast], [resident()]
        for path in paths[1:]:
            seconds.append(timed(ours, path, given.size)[1])
            memory.append(resident())
        print(f"CPU seconds a checkpoint: {', '.join(f'{s:.1f}' for s in seconds)}")
        print(f"resident memory: {memory[1]:.0f} MB after 2 checkpoints, {memory[-1]:.0f} MB after {len(memory)}")
        print(f"ratio: {memory[-1] / memory[1]:.3f}")


if __name__ == "__main__":
    main()
