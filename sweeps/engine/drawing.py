"""What a figure of several tasks shows: which arm stands where. Values only; `panels` and `maps` draw them.

A `Curve` has one axis for x and one for its lines; here a function places each arm, so that one figure can hold arms of
different kinds: blocks that were redrawn, blocks that were preserved, and the two levels between which they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from plm.registry import unknown

KINDS = ("lines", "seeds", "violins", "map")
"""Means joined by lines; each seed a point; the spread of all arms of a line; a difference as a shade."""


@dataclass(frozen=True)
class Mark:
    """A place of an arm in a figure."""

    line: str
    """What it is one of: a line of the legend; in a map, a row."""
    x: float | None = None
    """None: a level across the panel."""


Place = Callable[[dict[str, Any]], Iterable[Mark]]
"""From a cell's labels to where it stands: nowhere, or in several lines."""


@dataclass(frozen=True)
class Panels:
    """A figure for each model: a column a task, a row for each combination of what else is set beside."""

    name: str
    """Of the file."""
    place: Place
    reads: tuple[str, ...]
    """The axes along which a line goes, or over which it spreads. Others that vary within a line tell lines apart."""
    label: str
    """What x is, with its unit."""
    beside: tuple[str, ...] = ()
    """Axes, besides the task, whose values are panels."""
    control: str | None = None
    """The axis whose values beyond the first are controls, drawn dashed."""
    kind: str = "lines"
    named: Callable[[float], str] | None = None
    """What stands below an x; None: the number."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind of figure", self.kind, KINDS)

    @property
    def axes(self) -> set[str]:
        """The axes that it names."""
        return {*self.reads, *self.beside} | ({self.control} if self.control else set())


@dataclass(frozen=True)
class Correlation:
    """A table of whether what is good on one task is good on another: scores of the same arms, over pairs of tasks."""

    axis: str
    """The axis whose values are the points of a pair."""
    among: Callable[[Any], bool]
    """Which of its values."""
