"""Edge probing: what a linear classifier reads off the vectors of spans, layer by layer.

A probe may learn its labels by heart instead of reading them off. Its control task, labels drawn at random for each type
of word, shows how much it can learn so; the difference is its selectivity. A span counts as its last word there: few spans
come twice, and what comes once can be learnt by heart by nobody.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from plm.analyses import FIRST, Analysis, Row, Subject, Unit, check_size
from plm.data.spans import Item, Passage, Probed, Task, probed, subset
from plm.rows import groups, numbers

if TYPE_CHECKING:
    from torch import Tensor

    from plm.models import Shape
    from plm.pooling import Pooled

PIECES_PER_CHARACTER = 0.25
PORTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
"""Of the training items (Voita and Titov 2020, section 3.2)."""


class Example(NamedTuple):
    """An item, and what is known of it without a model."""

    passage: int
    text: str
    item: Item

    @property
    def type(self) -> str:
        """The words of its stretches, case ignored."""
        return "\t".join(self.text[begin:end].casefold() for begin, end in self.item.stretches)

    @property
    def ends(self) -> str:
        """The last word of each stretch, case ignored: the type that a control task labels."""
        return "\t".join(self.text[begin:end].casefold().split()[-1] for begin, end in self.item.stretches)


@dataclass(frozen=True)
class Probing(Analysis):
    """Micro-F1 of linear probes on the whole test set, beside their control tasks and guesses that need no model.

    Each item has one label, so that micro-F1 is accuracy. A test label that training has not shown counts as missed.
    `control` and `selectivity` are of the items whose type training has shown, which `seen` is the share of; where there is
    none there is no selectivity.

    Source: Tenney et al. 2019 (edge probing), with the linear classifier and the means over pieces of Chiang et al. 2020;
        Hewitt and Liang 2019 (control tasks); Voita and Titov 2020 (online description length).
    """

    kind: ClassVar[str] = "analyses/probing"
    version: ClassVar[int] = 2
    head: ClassVar[str] = "body"
    usual: ClassVar[int] = 1000
    curves: ClassVar[tuple[str, ...]] = ("f1", "selectivity", "macro_f1", "compression")
    baseline: ClassVar[str | None] = "type_guess"
    unit: ClassVar[Unit | None] = Unit(value="correct", by=("probe",), cluster="passage")
    floor: ClassVar[str | None] = FIRST
    data: tuple[Probed, ...]
    size: int | None = None
    """Training passages of each label set; None: all."""
    test_size: int | None = None
    """Test passages; None: all."""
    seed: int = 0
    """Which passages, their order in training, and the labels of control tasks."""
    layers: tuple[int, ...] | None = None
    """0 is the embeddings; None: all."""
    description_length: bool = False
    """Also code the training labels online, portion by portion: eleven more fits."""

    def __post_init__(self) -> None:
        check_size(self.size, "passages to train on")
        check_size(self.test_size, "passages to score")
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))

    @classmethod
    def of(cls, data: str, *, size: int | None = None, seed: int = 0) -> Probing:
        return cls(probed(data), size, None, seed)

    def fewer(self, size: int) -> Probing:
        return replace(self, size=min(size, self.size or size), test_size=min(size, self.test_size or size))

    def check(self, shape: Shape) -> None:
        wrong = [layer for layer in self.layers or () if not 0 <= layer <= shape.num_hidden_layers]
        if wrong:
            raise ValueError(f"layers {wrong}: the model has layers 0 (embeddings) to {shape.num_hidden_layers}.")

    def flops(self, shape: Shape) -> float:
        from plm.linear_probes import BATCH, STEPS

        tasks = list(self._tasks())
        texts = {passage.text for task in tasks for passage in (*task.train, *task.test)}
        pieces = PIECES_PER_CHARACTER * sum(map(len, texts))
        layers = shape.num_hidden_layers + 1 if self.layers is None else len(self.layers)
        fits = 1 + len(PORTIONS) * self.description_length
        weights = sum(2 * len(_classes(task)) * _stretches(task) * shape.hidden_size for task in tasks)
        read = shape.flops_per_token(pieces / max(1, len(texts)))
        return pieces * read + fits * STEPS * BATCH * 6 * layers * weights

    def _tasks(self) -> Iterator[Task]:
        """The label sets, with the passages that are chosen; those without items are never chosen."""
        for source in self.data:
            for task in source.tasks():
                train, test = ([p for p in passages if p.items] for passages in (task.train, task.test))
                chosen = Task(
                    task.name,
                    tuple(subset(train, self.size, self.seed, "train")),
                    tuple(subset(test, self.test_size, self.seed, "test")),
                )
                if chosen.train and chosen.test:
                    yield chosen

    def rows(self, subject: Subject) -> list[Row]:
        from plm.pooling import pooled

        tasks = list(self._tasks())
        wanted = [
            (p.text, [stretch for item in p.items for stretch in item.stretches])
            for task in tasks
            for p in (*task.train, *task.test)
        ]
        vectors = pooled(subject, wanted, self.layers)
        return [row for task in tasks for row in self._of_task(task, vectors)]

    def _of_task(self, task: Task, vectors: Pooled) -> list[Row]:
        import torch

        from plm.linear_probes import fit

        train, test = (_examples(passages, vectors) for passages in (task.train, task.test))
        if not train or not test:
            return []
        labels, features = [example.item.label for example in train], _features(train, vectors)
        classes = sorted(set(labels))
        control = Control(labels, self.seed, task.name)
        gold = torch.tensor([classes.index(label) for label in labels], device=features.device)
        drawn = torch.tensor([classes.index(control.label(e.ends)) for e in train], device=features.device)
        probe = fit(features, [gold, drawn], [len(classes)] * 2, seed=self.seed)
        said, of_control = probe.predict(_features(test, vectors))
        guess, shown = TypeGuess(train), {e.ends for e in train}
        found = [
            {
                "id": f"{task.name}/{layer}/{number}",
                "task": task.name,
                "layer": layer,
                "probe": f"{task.name}/layer_{layer}",
                "passage": f"{task.name}/{example.passage}",
                "gold": example.item.label,
                "predicted": classes[said[i, number]],
                "correct": classes[said[i, number]] == example.item.label,
                "control_correct": classes[of_control[i, number]] == control.label(example.ends),
                "control_seen": example.ends in shown,
                "majority_correct": guess.majority == example.item.label,
                "type_guess_correct": guess.label(example.type) == example.item.label,
                "portion": None,
                "bits": None,
                "items": None,
                "classes": None,
            }
            for i, layer in enumerate(self._layers(len(features)))
            for number, example in enumerate(test)
        ]
        return found + (self._coded(task.name, features, gold, len(classes)) if self.description_length else [])

    def _layers(self, count: int) -> Sequence[int]:
        return range(count) if self.layers is None else self.layers

    def _coded(self, name: str, features: Tensor, gold: Tensor, classes: int) -> list[Row]:
        """Bits of each portion's labels, coded with a probe that was fitted on the portions before it."""
        import torch

        from plm.linear_probes import fit
        from plm.rng import numpy_stream

        order = torch.from_numpy(numpy_stream(self.seed, "portions", name).permutation(len(gold))).to(gold.device)
        ends = sorted({max(1, round(share * len(gold))) for share in PORTIONS})
        found: list[Row] = []
        for portion, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
            own = order[begin:end]
            if begin == 0:
                bits = np.full(len(features), (end - begin) * np.log2(classes))
            else:
                known = order[:begin]
                probe = fit(features[:, known], [gold[known]], [classes], seed=self.seed)
                bits = probe.bits(features[:, own], gold[own])
            found += [
                dict.fromkeys(COLUMNS)
                | {
                    "id": f"{name}/{layer}/portion_{portion}",
                    "task": name,
                    "layer": layer,
                    "probe": "",
                    "portion": portion,
                }
                | {"bits": float(bits[i]), "items": end - begin, "classes": classes}
                for i, layer in enumerate(self._layers(len(features)))
            ]
        return found

    def summary(self, rows: list[Row]) -> dict[str, float]:
        scored, found = [row for row in rows if row["portion"] is None], dict[str, float]()
        columns = ("correct", "control_correct", "control_seen", "majority_correct", "type_guess_correct")
        correct, control, seen, majority, guess = (numbers(scored, name) for name in columns)
        for name, own in groups(scored, "task", "layer").items():
            task, _, layer = name.rpartition("/")
            where = f"{task}/layer_{layer}"
            known = own[seen[own] > 0]
            if len(known):
                of_control = float(control[known].mean())
                found[f"control/{where}"] = of_control
                found[f"selectivity/{where}"] = float(correct[known].mean()) - of_control
            found |= {
                f"f1/{where}": float(correct[own].mean()),
                f"seen/{where}": len(known) / len(own),
                f"macro_f1/{where}": _macro_f1([scored[i] for i in own]),
                f"majority/{where}": float(majority[own].mean()),
                f"type_guess/{where}": float(guess[own].mean()),
            }
        for task, own in groups(scored, "task").items():
            layers = groups([scored[i] for i in own], "layer")
            found[f"items/{task}"] = len(own) / len(layers)
        return found | _description_lengths([row for row in rows if row["portion"] is not None])


COLUMNS = (
    *("id", "task", "layer", "probe", "passage", "gold", "predicted", "correct", "control_correct", "control_seen"),
    *("majority_correct", "type_guess_correct", "portion", "bits", "items", "classes"),
)


# ---------------------------------------------------------------------------------------------------------------------
# Labels


class Control:
    """Labels at random, one a type, in the shares that the labels of training have.

    A label depends on the type's letters alone, so that it is the same whatever else is asked.
    """

    def __init__(self, labels: Sequence[str], seed: int, name: str) -> None:
        counts = sorted(Counter(labels).items())
        self._classes = [label for label, _ in counts]
        self._cumulative = list(accumulate(count for _, count in counts))
        self._key = f"{seed}\x1f{name}\x1f"

    def label(self, type: str) -> str:
        """The label of a type."""
        digest = hashlib.sha256((self._key + type).encode()).digest()
        return self._classes[bisect(self._cumulative, int.from_bytes(digest[:8], "big") % self._cumulative[-1])]


class TypeGuess:
    """What training labels alone would guess: the commonest label of the type, or of all."""

    def __init__(self, train: Sequence[Example]) -> None:
        self.majority = _commonest(Counter(example.item.label for example in train))
        by_type: dict[str, Counter[str]] = {}
        for example in train:
            by_type.setdefault(example.type, Counter())[example.item.label] += 1
        self._by_type = {name: _commonest(counts) for name, counts in by_type.items()}

    def label(self, type: str) -> str:
        """The guess for a type."""
        return self._by_type.get(type, self.majority)


def _commonest(counts: Counter[str]) -> str:
    return min(counts, key=lambda label: (-counts[label], label))


def _classes(task: Task) -> set[str]:
    return {item.label for passage in task.train for item in passage.items}


def _stretches(task: Task) -> int:
    return len(task.train[0].items[0].stretches)


def _examples(passages: Sequence[Passage], vectors: Pooled) -> list[Example]:
    """The items whose stretches all have a vector."""
    return [
        Example(number, passage.text, item)
        for number, passage in enumerate(passages)
        for item in passage.items
        if all(stretch in vectors.number[passage.text] for stretch in item.stretches)
    ]


def _features(examples: Sequence[Example], vectors: Pooled) -> Tensor:
    """The vectors of each item's stretches end to end (L, N, F)."""
    import torch

    index = torch.tensor([[vectors.number[e.text][stretch] for stretch in e.item.stretches] for e in examples])
    found = vectors.vectors[:, index.to(vectors.vectors.device)]
    return found.flatten(2)


# ---------------------------------------------------------------------------------------------------------------------
# Summing up


def _macro_f1(rows: Sequence[Row]) -> float:
    """The mean F1 of the labels that occur in the test set."""
    gold, predicted = Counter(row["gold"] for row in rows), Counter(row["predicted"] for row in rows)
    hits = Counter(row["gold"] for row in rows if row["correct"])
    return float(np.mean([2 * hits[label] / (gold[label] + predicted[label]) for label in gold]))


def _description_lengths(rows: list[Row]) -> dict[str, float]:
    """Bits a label of online codes, and how many times shorter they are than a code without a probe."""
    found = dict[str, float]()
    bits, items = numbers(rows, "bits"), numbers(rows, "items")
    for name, own in groups(rows, "task", "layer").items():
        task, _, layer = name.rpartition("/")
        uniform = items[own].sum() * np.log2(float(rows[own[0]]["classes"]))
        found[f"description_length/{task}/layer_{layer}"] = float(bits[own].sum() / items[own].sum())
        found[f"compression/{task}/layer_{layer}"] = float(uniform / bits[own].sum())
    return found
