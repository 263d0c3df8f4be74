"""Giving up early: asynchronous successive halving, decided by the run itself at a rung it has come to.

Who is compared leaves its value at the rung in the store and looks at the values that others have left there. So no
process has to be told to stop, a decision outlives whoever took it, and this works alike in one process and on a cluster.
Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", in its stopping form.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm.store import Store

TOLERANCE = 0.01
"""A run that is evaluated eight times comes by an eighth of its steps up to this share early."""


@dataclass(frozen=True)
class Rungs:
    """Where the trials of one study are compared; plain values, so that it travels to any process."""

    study: str
    metric: str
    smaller: bool
    """Whether smaller values are better."""
    shares: tuple[float, ...]
    """Shares of a run's steps, ascending."""
    reduction: int
    cost: float = 0.0
    """Of the trial: it is compared with those that cost no more."""

    def survives(self, store: Store, rung: str, who: str, value: float) -> bool:
        """Leave a value at a rung; whether it is among the best there. Who has been there before is told the same again."""
        place = f"studies/{self.study}/{rung}"
        mine = store.get(f"{place}/{who}.json")
        if mine is None:
            there = [store.json(f"{place}/{name}") for name in store.list(place)]
            others = [left["value"] for left in there if left["cost"] <= self.cost]
            survived = among_best([*others, value], value, self.reduction, smaller=self.smaller)
            left = {"value": value, "cost": self.cost, "survived": survived}
            store.put(f"{place}/{who}.json", json.dumps(left).encode())
            return survived
        return bool(json.loads(mine)["survived"])

    def left_by(self, store: Store, who: str) -> tuple[int, dict[str, Any]] | None:
        """The highest rung that a run has come to, and what it left there."""
        for number in reversed(range(len(self.shares))):
            left = store.get(f"studies/{self.study}/rung-{number}/{who}.json")
            if left is not None:
                return number, json.loads(left)
        return None


def among_best(values: Sequence[float], value: float, reduction: int, *, smaller: bool) -> bool:
    """Whether a value is among the best `1 / reduction` (rounded up) of the values, itself one of them."""
    better = sum(v < value if smaller else v > value for v in values)
    return better < math.ceil(len(values) / reduction)


class Judge:
    """Listens to a run's reports, and says when it is to be given up."""

    def __init__(self, rungs: Rungs, store: Store, run_id: str, total_steps: int) -> None:
        self._rungs, self._store, self._run_id, self._total = rungs, store, run_id, total_steps
        left = rungs.left_by(store, run_id)
        self._next = 0 if left is None else left[0] + 1
        self.pruned = left is not None and not left[1]["survived"]
        """Whether the run is to stop."""

    def report(self, step: int, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Compare the run at each rung that this step has come to."""
        value = metrics.get(self._rungs.metric)
        if value is None:
            return
        while not self.pruned and self._next < len(self._rungs.shares) and step < self._total:
            if step < (self._rungs.shares[self._next] - TOLERANCE) * self._total:
                return
            self.pruned = not self._rungs.survives(self._store, f"rung-{self._next}", self._run_id, value)
            self._next += 1
