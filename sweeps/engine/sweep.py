"""A sweep: one function from named axes to a run, and where to look.

`Sweep` is what a question file states; `points` turns it and the command line's choices into the cells that are asked
for. Nothing here runs anything.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from plm.data.examples import Examples
from plm.duration import steps
from plm.metrics import REPORTED
from plm.registry import unknown
from plm.spec import Checkpoint, RunSpec
from search_spaces.axis import Axis

Grid = Mapping[str, Any]
Point = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """How a sweep's figure is drawn: the metric against a number read off one axis, a line for each value of another."""

    axis: str
    position: Callable[[Any], float]
    """The x coordinate of a value of `axis`."""
    label: str
    """What the x coordinate is, with its unit."""
    line: str
    """The axis whose values are the lines."""
    control: str | None = None
    """The axis whose values beyond the first are controls, drawn dashed."""
    beside: str | None = None
    """The axis whose values are drawn beside each other."""


@dataclass(frozen=True)
class Sweep:
    """A question: which runs, compared how."""

    run: Callable[..., RunSpec | None]
    """From one value of each axis (keyword-only parameters) to a run; None: no such cell."""
    over: Grid | Sequence[Grid]
    """A grid, or several whose union is asked for. In a grid an axis holds an `Axis`, or is pinned to one plain value."""
    baseline: Callable[[Point], Point]
    """The cell that a cell is compared with; itself if it is a baseline."""
    arms: tuple[str, ...]
    """The axes that tell the arms of one comparison apart; p-values are corrected within it."""
    curve: Curve
    metric: str = "val/score"
    variant: str = ""
    """Appended to the name: answers of another kind are kept apart."""

    def __post_init__(self) -> None:
        if self.metric not in REPORTED:
            raise unknown("metric", self.metric, REPORTED)
        for grid in self.grids:
            if set(grid) != set(self.axes):
                raise ValueError(
                    f"the grid has axes {sorted(grid)}; run() takes {sorted(self.axes)}. Give it all of them."
                )
        drawn = {self.curve.axis, self.curve.line, self.curve.control, self.curve.beside} - {None}
        for name in sorted(map(str, drawn)):
            if name not in self.axes or name == "seed":
                raise unknown("axis of the figure", name, [axis for axis in self.axes if axis != "seed"])
        for name in self.axes:
            if not any(isinstance(grid.get(name), Axis) for grid in self.grids):
                raise ValueError(
                    f"axis {name} is pinned in every grid: give one grid an Axis, which says how it is read."
                )

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes: `run`'s parameters."""
        return tuple(inspect.signature(self.run).parameters)

    @property
    def grids(self) -> tuple[Grid, ...]:
        return (self.over,) if isinstance(self.over, Mapping) else tuple(self.over)

    @property
    def name(self) -> str:
        """The question's name: that of its file."""
        module = self.run.__module__
        if module == "__main__":
            module = getattr(sys.modules["__main__"].__spec__, "name", None) or "__main__"
        return module.rpartition(".")[2] + self.variant

    def axis(self, name: str) -> Axis:
        """The axis of that name.

        Raises:
            ValueError: there is none; the message names the nearest.
        """
        if name not in self.axes:
            raise unknown("axis", name, self.axes)
        return next(grid[name] for grid in self.grids if isinstance(grid[name], Axis))


def points(sweep: Sweep, given: Mapping[str, str]) -> list[Point]:
    """The cells asked for, each once.

    `given` replaces axes' values by the command line's. A grid that is pinned to a value that was not asked for has no
    cells: it asks another question than the one that was narrowed.

    Raises:
        ValueError: an unknown axis, or a value that the axis does not have.
    """
    chosen = {}
    for name, text in given.items():
        axis = sweep.axis(name)
        try:
            chosen[name] = axis.read(text)
        except ValueError as error:
            raise ValueError(f"axis {name}: {error}") from error
    found: dict[tuple[Any, ...], Point] = {}
    for grid in sweep.grids:
        pinned = {n: v for n, v in grid.items() if not isinstance(v, Axis)}
        if all(v in chosen[n].values for n, v in pinned.items() if n in chosen):
            axes = {n: chosen.get(n, grid[n]) if n not in pinned else None for n in sweep.axes}
            for point in _product(sweep, axes, pinned, {}):
                found.setdefault(tuple(point.values()), point)
    return list(found.values())


def _product(
    sweep: Sweep, axes: Mapping[str, Axis | None], pinned: Mapping[str, Any], so_far: Point
) -> Iterator[Point]:
    if len(so_far) == len(sweep.axes):
        yield dict(so_far)
        return
    name = sweep.axes[len(so_far)]
    axis = axes[name]
    values = (
        (pinned[name],)
        if axis is None
        else dict.fromkeys(concrete for value in axis.values for concrete in axis.expand(value, so_far))
    )
    for value in values:
        yield from _product(sweep, axes, pinned, {**so_far, name: value})


def shrunk(sweep: Sweep) -> Sweep:
    """The same question with runs of two steps on a few examples: does everything work at all?

    Parents shrink with their children, so nothing here shares a run with the real sweep.
    """

    def run(**values: Any) -> RunSpec | None:
        spec = sweep.run(**values)
        return None if spec is None else _shrink(spec)

    run.__module__, run.__signature__ = sweep.run.__module__, inspect.signature(sweep.run)  # type: ignore[attr-defined]
    return replace(sweep, run=run, variant="-smoke")


def extremes(cells: Sequence[Point]) -> list[Point]:
    """The cells at the first or last value of every axis, at one seed."""
    ends = {
        name: {values[0], values[-1]}
        for name in cells[0]
        if (values := list(dict.fromkeys(point[name] for point in cells)))
    }
    ends["seed"] = {cells[0].get("seed")}
    return [point for point in cells if all(point[name] in ends[name] for name in point)]


def _shrink(value: Any) -> Any:
    """A spec whose whole lineage takes two steps on at most sixteen examples."""
    if isinstance(value, Checkpoint):
        return _shrink(value.run).final
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = {f.name: _shrink(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, RunSpec):
        fields["duration"] = steps(2)
    if isinstance(value, Examples) and value.num_sequences > 16:
        fields["size"] = 16
    return replace(value, **{name: new for name, new in fields.items() if new is not getattr(value, name)})
