"""What an audit says: a trajectory's defects, checkpoint by checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

DEFECTS = {
    "missing": "is not there",
    "damaged": "is not whole, or was changed after it was written",
    "different": "has other tensors or another configuration than the rest",
    "misnamed": "says itself that it is another step, or the weights do",
    "identical": "has the weights of another step",
    "mixed": "has some weights of another step or training",
    "unrelated": "does not belong to this training",
}
"""What can be wrong with a checkpoint."""


@dataclass(frozen=True)
class Finding:
    """A defect."""

    step: int
    defect: str
    """One of `DEFECTS`."""
    said: str


@dataclass(frozen=True)
class Verdict:
    """What an audit found."""

    name: str
    steps: tuple[int, ...]
    """The steps that were looked at, missing ones included."""
    findings: tuple[Finding, ...]
    compared: str
    """`weights`, or `hashes` where no weights were read."""
    correlation: dict[int, float] = field(default_factory=dict)
    """Of a step's weights with those of the step before it."""

    @property
    def clean(self) -> bool:
        return not self.findings

    def of(self, step: int) -> tuple[Finding, ...]:
        """What was found of a step."""
        return tuple(f for f in self.findings if f.step == step)

    @property
    def good(self) -> tuple[int, ...]:
        """The steps of which nothing was found."""
        return tuple(step for step in self.steps if not self.of(step))

    def __str__(self) -> str:
        """A line, and one for each defect: what a study prints before it begins."""
        what = f"{len(self.steps)} checkpoints, compared by {self.compared}"
        if self.clean:
            return f"audit of {self.name}: {what}: no defect."
        lines = [f"  step {f.step}: {f.defect}: {f.said}" for f in self.findings]
        bad = len({f.step for f in self.findings})
        return "\n".join([f"audit of {self.name}: {what}: {bad} with defects.", *lines])

    def table(self) -> str:
        """A line for each checkpoint."""
        lines = [f"{'step':>10}  {'correlation':>11}  verdict"]
        for step in self.steps:
            moved = f"{self.correlation[step]:.3f}" if step in self.correlation else ""
            said = "; ".join(f"{f.defect}: {f.said}" for f in self.of(step)) or "ok"
            lines.append(f"{step:>10}  {moved:>11}  {said}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """The verdict as JSON text."""
        return json.dumps({**asdict(self), "clean": self.clean}, indent=1)


class Notes:
    """The findings so far: one for a step and a defect, whatever speaks for it."""

    def __init__(self) -> None:
        self._said: dict[tuple[int, str], list[str]] = {}

    def add(self, step: int, defect: str, said: str) -> None:
        assert defect in DEFECTS, defect
        self._said.setdefault((step, defect), []).append(said)

    def sorted(self) -> tuple[Finding, ...]:
        """By step, and as in `DEFECTS`."""
        order = list(DEFECTS)
        told = sorted(self._said.items(), key=lambda one: (one[0][0], order.index(one[0][1])))
        return tuple(Finding(step, defect, ", and ".join(said)) for (step, defect), said in told)


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first few of some names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def modules(names: Iterable[str]) -> str:
    """The layers that some tensors are of; other tensors by their own names."""
    return some(dict.fromkeys(re.sub(r"(\.\d+)\..*", r"\1", name) for name in names), 4)
