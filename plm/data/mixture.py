"""Several texts in proportion: which one a position of training reads is a pure function of weights, seed and position.

The shares are kept, not drawn: after n sequences every part has had its share of n to within one for each part, so
each batch has about the same make-up and no loss moves for the luck of a draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from plm.data.files import Files
from plm.data.world import World
from plm.rng import numpy_stream


@dataclass(frozen=True)
class Mixture:
    """Texts with weights, by sequences; weights are shares of their sum."""

    kind: ClassVar[str] = "data/mixture"
    version: ClassVar[int] = 1
    parts: tuple[World | Files, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2 or len(set(self.parts)) < len(self.parts):
            raise ValueError(f"a mixture of {len(self.parts)} texts: name two or more, each once.")
        if len(self.weights) != len(self.parts) or not all(w > 0 for w in self.weights):
            raise ValueError(f"weights {self.weights} of {len(self.parts)} texts: give each text one that is positive.")
        total = sum(self.weights)
        object.__setattr__(self, "weights", tuple(w / total for w in self.weights))  # one mixture, one spelling

    def text(self, split: str) -> Iterator[str]:
        """The documents of all parts, one part after the other."""
        for part in self.parts:
            yield from part.text(split)


def dealt(
    positions: NDArray[np.int64], weights: tuple[float, ...], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which part each position reads, and how many positions before it read the same part.

    The first part takes every position at which floor(n w + phase) rises, the next takes its share of those left, and
    so on: a closed form, so that any position can be resumed.
    """
    phase = numpy_stream(seed, "mixture").random()
    part, index = np.full(positions.shape, len(weights) - 1), np.zeros(positions.shape, np.int64)
    left, open_, n = 1.0, np.ones(positions.shape, bool), positions
    for number, weight in enumerate(weights[:-1]):
        before, after = (np.floor(m * (weight / left) + phase).astype(np.int64) for m in (n, n + 1))
        taken = open_ & (after > before)
        part[taken], index[taken] = number, before[taken]
        open_, n, left = open_ & ~taken, n - before, left - weight
    index[open_] = n[open_]
    return part, index
