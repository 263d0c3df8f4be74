"""A sweep: one function from named axes to a run, and where to look.

`Sweep` is what a question file states. Of a grid, `points` turns it and the command line's choices into the cells that
are asked for; of a search, `held` gives what its trials have in common, and the trials are `search`'s business. Nothing
here runs anything.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plm.data.examples import Examples
from plm.duration import steps
from plm.metrics import REPORTED
from plm.reading import Reading, Spec
from plm.registry import unknown
from plm.spec import Checkpoint, RunSpec
from search_spaces.axis import Axis
from search_spaces.space import Space, TiedSpace, questions, tied
from sweeps.engine.drawing import Correlation, Panels

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
class Pivot:
    """A grid in the shape of a paper's table: a row for each pretrained model, a column for each task, and their mean."""

    rows: tuple[str, ...]
    """The axes that tell the models apart; `task` is the columns."""
    facts: Mapping[str, Callable[[RunSpec], int | float]]
    """What is known of a model before it is pretrained, from its pretraining, by column."""
    metrics: Mapping[str, str]
    """What its pretraining reported of itself, by column: names of metrics."""
    against: str | None = None
    """The fact that scores are drawn against, with a line for each value of the first of `rows`; None: a row a model."""


@dataclass(frozen=True)
class ByStep:
    """Readings or fine-tunings of trainings, step by step: the axes that say of which training, at which step, and what."""

    training: str = "trajectory"
    step: str = "step"
    """Its value None: no step of the training, but a model that it is held against."""
    analysis: str = "analysis"
    beside: str | None = None
    """A sweep of fine-tunings whose scores are shown beside what is read, by its name."""

    @property
    def axes(self) -> tuple[str, ...]:
        return self.training, self.step, self.analysis


@dataclass(frozen=True)
class Criterion:
    """What a search weighs beside its metric: a number that is known of a run before it is trained."""

    name: str
    """What it is, with its unit."""
    of: Callable[[RunSpec], float]
    smaller: bool = True
    """Whether smaller is better."""


@dataclass(frozen=True)
class Search:
    """How far a search goes, and which of its trials it gives up early.

    A trial is compared while its first seed trains (`rungs`) and when some of its seeds are done (`races`); it goes on
    if it is among the best `1 / reduction` of those that came as far: asynchronous successive halving (Li et al. 2020).
    With a second criterion it is compared with those alone that are no worse by that one.
    """

    trials: int = 24
    """Configurations, unless `--num-trials` says otherwise."""
    confirmed: int = 3
    """How many of the best are measured again, with fresh seeds, on the evaluation split; of two criteria the front is."""
    second: Criterion | None = None
    """The second criterion; what is then looked for is the front: trials that no other beats by both."""
    beside: str | None = None
    """A grid whose finished cells of the same fixed axes are drawn beside the front, by its name."""
    rungs: tuple[float, ...] = ()
    """Shares of the first seed's steps; for runs that are evaluated as they train."""
    races: tuple[int, ...] = ()
    """Numbers of finished seeds."""
    reduction: int = 3
    control: Mapping[str, Any] = field(default_factory=dict)
    """Answers that make a configuration a control: all such are tried first, and the best of them is confirmed too."""

    def is_control(self, answers: Mapping[str, Any]) -> bool:
        """Whether a configuration is a control."""
        return bool(self.control) and all(answers.get(name) == value for name, value in self.control.items())


@dataclass(frozen=True)
class Sweep:
    """A question: which runs, compared how."""

    run: Callable[..., Spec | None]
    """From one value of each axis (keyword-only parameters) to a run or a reading; None: no such cell."""
    over: Grid | Sequence[Grid] | Space | TiedSpace
    """A grid, or several whose union is asked for. In a grid an axis holds an `Axis`, or is pinned to one plain value.
    A function of a trial makes the sweep a search; of a trial and a point, it is told what the search holds fixed."""
    baseline: Callable[[Point], Point] = lambda point: point
    """The cell that a cell is compared with; itself if it is a baseline."""
    arms: tuple[str, ...] = ()
    """The axes that tell the arms of one comparison apart; p-values are corrected within it."""
    curve: Curve | None = None
    """How a grid is drawn: a figure for each model and task."""
    pivot: Pivot | None = None
    """How all tasks of a grid are shown together."""
    figures: tuple[Panels, ...] = ()
    """Further figures of all tasks of a grid."""
    correlation: Correlation | None = None
    """How the arms of a grid are compared between tasks."""
    importance: str | None = None
    """The axis of masks over which a grid's layers are weighed."""
    by_step: ByStep | None = None
    """How a grid of readings or fine-tunings over the steps of trainings is shown, in place of all else."""
    learning: str | None = None
    """The axis whose values are the lines of a figure of perplexity by step, and the rows of a table of what is saved."""
    optional: str | None = None
    """The axis of data sizes whose own values need not be there in every task: a cell that cannot be is left out and named.
    A size that the command line gives is refused."""
    fixed: Grid = field(default_factory=dict)
    """Of a search: an `Axis` for each axis that it does not choose. `seed` is folded, the others hold one value."""
    search: Search = Search()
    metric: str = "val/score"
    variant: str = ""
    """Appended to the name: answers of another kind are kept apart."""

    def __post_init__(self) -> None:
        if self.metric not in REPORTED:
            raise unknown("metric", self.metric, REPORTED)
        if self.space:
            self._check_search()
        else:
            self._check_grids()

    def _check_search(self) -> None:
        if extra := sorted(set(self.fixed) - set(self.axes)):
            raise ValueError(f"fixed axes {extra}: run() takes {sorted(self.axes)}. Name them alike.")
        if "seed" not in self.fixed:
            raise ValueError("a search folds its seeds: give fixed an axis seed, and run() a parameter seed.")

    def _check_grids(self) -> None:
        if not (self.curve or self.pivot or self.figures or self.importance or self.by_step or self.learning):
            raise ValueError(
                "a grid needs a curve, a pivot, figures, importance, by_step or learning, which say how it is drawn."
            )
        for grid in self.grids:
            if set(grid) != set(self.axes):
                raise ValueError(
                    f"the grid has axes {sorted(grid)}; run() takes {sorted(self.axes)}. Give it all of them."
                )
        curve, drawn = self.curve, set[str | None](self.pivot.rows if self.pivot else ())
        drawn |= {curve.axis, curve.line, curve.control, curve.beside} if curve else set()
        drawn |= {axis for figure in self.figures for axis in figure.axes}
        drawn |= {self.correlation.axis} if self.correlation else set()
        drawn |= {self.importance, self.learning, *(self.by_step.axes if self.by_step else ())}
        for name in sorted(map(str, drawn - {None})):
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
    def space(self) -> Space | TiedSpace | None:
        """Where a search looks; None: it is a grid."""
        return self.over if callable(self.over) else None

    def space_of(self, given: Mapping[str, str]) -> Space:
        """Where a search looks with the fixed axes' values of the command line."""
        assert self.space is not None
        return tied(self.space, lambda: held(self, {n: text for n, text in given.items() if n in self.fixed})[0])

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The grids; of a search, what it holds fixed."""
        if callable(self.over):
            return (self.fixed,)
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
        known = tuple(self.fixed) if self.space else self.axes
        if name not in known:
            raise unknown("axis", name, known)
        return next(grid[name] for grid in self.grids if isinstance(grid[name], Axis))


def points(sweep: Sweep, given: Mapping[str, str]) -> list[Point]:
    """The cells asked for, each once.

    `given` replaces axes' values by the command line's. A grid that is pinned to a value that was not asked for has no
    cells: it asks another question than the one that was narrowed.

    Raises:
        ValueError: an unknown axis, or a value that the axis does not have.
    """
    chosen = {name: _read(sweep.axis(name), name, text) for name, text in given.items()}
    found: dict[tuple[Any, ...], Point] = {}
    for grid in sweep.grids:
        pinned = {n: v for n, v in grid.items() if not isinstance(v, Axis)}
        if all(v in chosen[n].values for n, v in pinned.items() if n in chosen):
            axes = {n: chosen.get(n, grid[n]) if n not in pinned else None for n in sweep.axes}
            for point in _product(axes, pinned, {}):
                found.setdefault(tuple(point.values()), point)
    return list(found.values())


def asked(sweep: Sweep, name: str, given: Mapping[str, str]) -> tuple[Any, ...]:
    """The values of an axis as they are asked for: symbolic ones are not expanded."""
    if name in given:
        return _read(sweep.axis(name), name, given[name]).values
    grids = [grid[name] for grid in sweep.grids]
    return tuple(value for own in grids for value in (own.values if isinstance(own, Axis) else (own,)))


def check(sweep: Sweep, given: Mapping[str, str]) -> None:
    """Refuse words `name=text` of the command line that the sweep does not understand.

    Raises:
        ValueError: an unknown axis, or a value that the axis does not have.
    """
    searched = [name for name in given if sweep.space and name not in sweep.fixed]
    for name in given:
        if name not in searched:
            _read(sweep.axis(name), name, given[name])
    asked = questions(sweep.space_of(given)) if searched else {}
    for name in searched:
        if name not in asked:
            raise unknown("axis", name, [*sweep.fixed, *asked])
        try:
            asked[name].narrowed(given[name])
        except ValueError as error:
            raise ValueError(f"axis {name}: {error}") from error


def described(sweep: Sweep) -> dict[str, tuple[str, str]]:
    """Axis -> its default values, and how one is written, for `--help`."""
    searched = {
        name: (str(question), "some of these" if question.choices else "numbers, or a range from:to")
        for name, question in (questions(sweep.space_of({})).items() if sweep.space else ())
    }
    axes = {name: sweep.axis(name) for name in (sweep.fixed if sweep.space else sweep.axes)}
    return searched | {name: (", ".join(map(str, axis.values)), axis.form) for name, axis in axes.items()}


def _read(axis: Axis, name: str, text: str) -> Axis:
    try:
        return axis.read(text)
    except ValueError as error:
        raise ValueError(f"axis {name}: {error}") from error


def held(sweep: Sweep, given: Mapping[str, str]) -> tuple[Point, tuple[int, ...]]:
    """What all trials of a search have in common: the fixed axes' values, and the seeds that a trial folds.

    Raises:
        ValueError: an axis other than `seed` has several values.
    """
    axes = {n: _read(axis, n, given[n]) if n in given else axis for n, axis in sweep.fixed.items()}
    found = list(_product(axes, {}, {}))
    for name in sweep.fixed:
        there = dict.fromkeys(point[name] for point in found)
        if name != "seed" and len(there) > 1:
            raise ValueError(
                f"axis {name}: a search holds it at one value, and {', '.join(map(str, there))} were asked for. "
                f"Search them one after the other: {name}={next(iter(there))}."
            )
    seeds = tuple(dict.fromkeys(point.pop("seed") for point in found))
    return found[0], seeds


def _product(axes: Mapping[str, Axis | None], pinned: Mapping[str, Any], so_far: Point) -> Iterator[Point]:
    if len(so_far) == len(axes):
        yield dict(so_far)
        return
    name = tuple(axes)[len(so_far)]
    axis = axes[name]
    values = (
        (pinned[name],)
        if axis is None
        else axis.choose(tuple(dict.fromkeys(c for value in axis.values for c in axis.expand(value, so_far))), so_far)
    )
    for value in values:
        yield from _product(axes, pinned, {**so_far, name: value})


def shrunk(sweep: Sweep) -> Sweep:
    """The same question with runs of two steps on a few examples: does everything work at all?

    Parents shrink with their children, so nothing here shares a run with the real sweep.
    """

    def run(**values: Any) -> Spec | None:
        spec = sweep.run(**values)
        return None if spec is None else _shrink(spec)

    run.__module__, run.__signature__ = sweep.run.__module__, inspect.signature(sweep.run)  # type: ignore[attr-defined]
    # With controls first, two trials would both be such.
    search = replace(sweep.search, trials=2, confirmed=1, races=(), beside=None, control={})
    return replace(sweep, run=run, search=search, variant="-smoke")


def extremes(cells: Sequence[Point]) -> list[Point]:
    """The cells at the first or last value of every axis, at one seed."""
    ends = {
        name: {values[0], values[-1]}
        for name in (cells[0] if cells else ())
        if (values := list(dict.fromkeys(point[name] for point in cells)))
    }
    ends["seed"] = {point.get("seed") for point in cells[:1]}
    return [point for point in cells if all(point[name] in ends[name] for name in point)]


def _shrink(value: Any) -> Any:
    """A spec whose whole lineage takes two steps on at most sixteen examples."""
    if isinstance(value, Checkpoint):  # its last step stays the last, and no other becomes it
        run = _shrink(value.run)
        return run.final if value.step == value.run.total_steps else run.at(min(value.step, 1))
    if type(value) is tuple:
        each = tuple(map(_shrink, value))
        return each if any(new is not old for new, old in zip(each, value, strict=True)) else value
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = {f.name: _shrink(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, RunSpec):
        fields["duration"] = steps(2)
    if isinstance(value, Reading):
        fields["analysis"] = value.analysis.fewer(16)
    if isinstance(value, Examples) and value.num_sequences > 16:
        fields["size"] = 16
    return replace(value, **{name: new for name, new in fields.items() if new is not getattr(value, name)})
