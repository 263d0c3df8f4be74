"""The labelled examples a fine-tuning run sees: which ones, in what order, in what batches.

Subsets are nested and paired: at one seed the first 500 examples are the first 500 of the 5,000, whatever is done to
the model, so that two arms of an ablation differ in the arm alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from plm.rng import numpy_stream
from plm.spec import neutral
from plm.tasks import Task

LENGTH_WINDOW = 50
"""Batches are sorted by length within windows of this many: as good as sorting everything, and still shuffled."""


class TooFew(ValueError):
    """A task has fewer examples than were asked for."""


@dataclass(frozen=True)
class Examples:
    """A task's training rows, or `size` of them."""

    kind: ClassVar[str] = "data/examples"
    task: Task
    size: int | None
    """None: all of them."""
    seed: int
    """Which ones; 0 where all are taken."""
    stratified: bool = neutral(False)
    """Keep the class shares of the whole training split instead of drawing them too."""

    def __post_init__(self) -> None:
        there = self.task.counts[0]
        if self.size is not None and not 0 < self.size <= there:
            raise TooFew(
                f"task {self.task.name} has {there:,} training examples; {self.size:,} were asked for. "
                f"Choose a size from 1 to {there}, or all."
            )
        if self.stratified and self.task.num_labels == 1:
            raise ValueError(f"task {self.task.name} is a regression: there are no classes to stratify by.")
        if self.size in (None, there):  # one computation, one spelling
            object.__setattr__(self, "size", None)
            object.__setattr__(self, "seed", 0)
            object.__setattr__(self, "stratified", False)

    def held_back(self) -> Examples:
        """The same, evaluated on a slice of the training rows; all there is where that leaves too few."""
        task = self.task.held_back()
        return replace(self, task=task, size=None if (self.size or task.counts[0]) >= task.counts[0] else self.size)

    @property
    def num_sequences(self) -> int:
        """Training examples."""
        return self.task.counts[0] if self.size is None else self.size

    def select(self, labels: Sequence[float]) -> NDArray[np.int64]:
        """Row numbers of the training examples, ascending."""
        if self.size is None:
            return np.arange(len(labels))
        order = numpy_stream(self.seed, "examples").permutation(len(labels))
        if self.stratified:
            order = _interleaved(order, np.asarray(labels, dtype=float))
        return np.sort(order[: self.size])


def _interleaved(order: NDArray[np.int64], labels: NDArray[np.float64]) -> NDArray[np.int64]:
    """Reorder so that every prefix holds the classes in their overall shares (to within one example)."""
    rank = np.empty(len(order))
    for label in np.unique(labels):
        of_class = labels[order] == label
        rank[of_class] = (np.arange(of_class.sum()) + 0.5) / of_class.sum()
    return order[np.argsort(rank, kind="stable")]


def batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Positions of one epoch's examples, a batch an entry; similar lengths share a batch, batches come in random order.

    A pure function of its arguments, so that any position of any epoch can be resumed. The smaller last batch is kept.
    """
    draw = numpy_stream(seed, "order", epoch)
    order = draw.permutation(len(lengths))
    window = LENGTH_WINDOW * batch_size
    sizes = np.asarray(lengths)
    cut: list[NDArray[np.int64]] = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        part = part[np.argsort(-sizes[part], kind="stable")]
        cut += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return [cut[i] for i in draw.permutation(len(cut))]
