"""The front: trials that no other beats by both criteria; and how sure it is that a trial is one of them.

With one criterion (all costs equal) the front is the best trial. What a trial costs is known; its value is a mean over
seeds, and another draw of seeds would give another front.

Shape letters: n trials, K seeds, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


def front(values: Sequence[float], costs: Sequence[float], *, smaller: bool) -> list[bool]:
    """Which trials are on the front: no other is at least as good and as cheap, and better in one of them.

    Args:
        smaller: Whether smaller values are better; smaller costs are.
    """
    return _undominated(np.asarray(values, dtype=float)[:, None], costs, smaller)[:, 0].tolist()


def front_probabilities(
    seeds: Sequence[Sequence[float]],
    costs: Sequence[float],
    *,
    smaller: bool,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[float]:
    """In which share of redrawn sets of seeds each trial is on the front.

    One draw is of the same seeds for all trials, because they share them. Means of few redrawn values spread too little
    by the factor (K - 1) / K in variance, so the deviations are widened by that.

    Args:
        seeds: Of each trial the values at the same K >= 2 seeds, in one order.

    Raises:
        ValueError: trials with different numbers of seeds, or with fewer than two.
    """
    counts = sorted({len(values) for values in seeds})
    if len(counts) > 1 or counts[:1] < [2]:
        raise ValueError(f"trials with {counts} seeds given: give all of them the same seeds, two at least.")
    table = np.asarray(seeds, dtype=float)
    count = table.shape[1]
    drawn = np.random.default_rng(seed).integers(0, count, (resamples, count))
    mean = table.mean(axis=1, keepdims=True)
    means = mean + (table[:, drawn].mean(axis=2) - mean) * np.sqrt(count / (count - 1))
    return _undominated(means, costs, smaller).mean(axis=1).tolist()


def _undominated(values: NDArray[np.float64], costs: Sequence[float], smaller: bool) -> NDArray[np.bool_]:
    """(n, R) values -> (n, R) whether no other trial of the same column is at least as good in both and better in one."""
    loss, cost = (values if smaller else -values), np.asarray(costs, dtype=float)
    on = np.empty(loss.shape, dtype=bool)
    for i in range(len(loss)):
        cheap, cheaper = (cost <= cost[i])[:, None], (cost < cost[i])[:, None]
        on[i] = ~(cheap & ((loss < loss[i]) | ((loss <= loss[i]) & cheaper))).any(axis=0)
    return on
