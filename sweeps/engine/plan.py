"""From cells to the runs that are missing: parents first, each run once, finished ones reused.

Everything that can be known before a worker starts is checked here, so that a wrong command costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from plm import stand_ins
from plm.data import tokenizer as tokenizers
from plm.data.examples import Examples, TooFew
from plm.inits.resume import Resume
from plm.objects import side_by_side
from plm.reading import Reading, Spec
from plm.spec import Checkpoint, RunSpec
from plm.stand_ins import is_stand_in
from plm.store import Store
from plm.tasks import load
from search_spaces.analyses import SEED, pretraining_seed
from search_spaces.axis import label
from sweeps.engine.sweep import Point, Sweep, asked, extremes, points, shrunk

INCOMPLETE = "incomplete"
"""The status of a finished run that lacks a checkpoint which another run starts from."""
LARGEST_UNKNOWN_SHARE, PROBED_TEXTS = 0.2, 500
LISTED = 16
"""Values that a message names."""


@dataclass(frozen=True)
class Cell:
    """One point of a sweep and the run that answers it."""

    point: Point
    """Axis name -> value, as `run` takes it."""
    spec: Spec

    @property
    def run(self) -> RunSpec:
        """The run, in a sweep that trains: searches and tables of scores know nothing else."""
        assert isinstance(self.spec, RunSpec)
        return self.spec

    @property
    def labels(self) -> Point:
        """Axis name -> value, as tables show it."""
        return {name: label(value) for name, value in self.point.items()}


@dataclass(frozen=True)
class Plan:
    """What a call of a sweep asks for, and what of it is there."""

    sweep: Sweep
    cells: tuple[Cell, ...]
    runs: dict[str, Spec]
    """Every run and reading by its id, parents before children."""
    keep: dict[str, tuple[int, ...]]
    """The steps of each parent that its children start from."""
    status: dict[str, str] = field(compare=False)
    """What the store knew of each run when the plan was made."""
    left_out: tuple[str, ...] = ()
    """What was asked for, though not by name, and cannot be answered: in words, with the reason."""
    given: Mapping[str, str] = field(default_factory=dict)
    """Axis -> its values on the command line, as they were written."""

    def __add__(self, more: Plan) -> Plan:
        """Both together."""
        keep = {
            run_id: tuple(sorted({*self.keep.get(run_id, ()), *more.keep.get(run_id, ())}))
            for run_id in {**self.keep, **more.keep}
        }
        return Plan(
            self.sweep,
            (*self.cells, *more.cells),
            self.runs | more.runs,
            keep,
            more.status | self.status,
            self.left_out,
            self.given,
        )  # what is known of a run already has its say

    @cached_property
    def keep_state(self) -> dict[str, tuple[int, ...]]:
        """The steps of each run that others go on from with its optimizer state."""
        found: dict[str, set[int]] = {}
        for spec in self.runs.values():
            if isinstance(spec, RunSpec) and isinstance(spec.init, Resume):
                found.setdefault(spec.init.origin.run.run_id, set()).add(spec.init.origin.step)
        return {run_id: tuple(sorted(steps)) for run_id, steps in found.items()}

    @property
    def repeated(self) -> dict[str, tuple[int, ...]]:
        """Runs that were finished before and are trained again, with all the steps that they will then have."""
        return {run_id: self.keep[run_id] for run_id in self.missing if self.status[run_id] == INCOMPLETE}

    @property
    def missing(self) -> list[str]:
        """The runs to be executed, parents before children."""
        return [run_id for run_id in self.runs if self.status[run_id] != "done"]

    @cached_property
    def unresolved(self) -> tuple[str, ...]:
        """The models and tasks that are known by their numbers alone."""
        named = {value for spec in self.runs.values() for value in _given(spec)}
        return tuple(sorted({getattr(value, "name", "") for value in named if is_stand_in(value)}))

    def family(self, cell: Cell) -> tuple[Any, ...]:
        """What a cell shares with those that it is compared among: its labels but for the arms' axes and the seed."""
        return tuple((n, v) for n, v in cell.labels.items() if n != "seed" and n not in self.sweep.arms)


def _given(spec: Spec) -> tuple[Any, ...]:
    """The model and the task that a run begins with."""
    return (spec.source,) if isinstance(spec, Reading) else (spec.init.origin, getattr(spec.data, "task", None))


def plan(sweep: Sweep, store: Store, given: Mapping[str, str] | None = None, *, smoke: bool = False) -> Plan:
    """Plan a sweep's call; with `smoke`, only its extremes, and those shrunk.

    Raises:
        ValueError: an axis, a value, a task, a model or the store cannot be used; nothing has been started.
    """
    wanted = points(sweep, given or {})
    if smoke:
        sweep, wanted = shrunk(sweep), extremes(wanted)
    cells, too_large = _there(sweep, wanted, given or {})
    cells, unanswerable = _answerable(sweep, cells, given or {})
    left_out = (*too_large, *unanswerable)
    if not cells:
        raise ValueError(
            " ".join(["the sweep has no cell for these values.", *(left_out or _others(sweep, given or {}))])
        )
    return replace(arrange(sweep, cells, store), left_out=left_out, given=dict(given or {}))


def _there(sweep: Sweep, wanted: Sequence[Point], given: Mapping[str, str]) -> tuple[list[Cell], list[str]]:
    """The cells that there are; and in words what a task is too small for, where the sweep allows that, and what of the
    command line means nothing beside the rest of it."""
    axis = sweep.optional
    named = asked(sweep, axis, given) if axis and axis in given else ()
    cells, without, nothing = list[Cell](), dict[str, list[Point]](), list[Point]()
    for point in wanted:
        try:
            spec = sweep.run(**point)
        except TooFew as error:
            if axis is None or point[axis] in named:
                raise
            without.setdefault(str(error), []).append(point)
        else:
            if spec is None:
                nothing.append(point)
            else:
                cells.append(Cell(point, spec))
    left_out = [f"left out: {why}{_gone(sweep, lost, cells)}" for why, lost in without.items()]
    for name in given if cells else ():
        if lost := _lost(name, nothing, cells):
            left_out.append(f"left out: {lost}, with which nothing is asked here.")
    return cells, left_out


def _gone(sweep: Sweep, without: Sequence[Point], cells: Sequence[Cell]) -> str:
    """Of the first axis that loses values with some points, which: the axes after it lose theirs with them."""
    for axis in sweep.axes if cells else ():
        if axis != sweep.optional and (lost := _lost(axis, without, cells)):
            return f" Nothing is left of {lost}."
    return ""


def _lost(axis: str, without: Sequence[Point], cells: Sequence[Cell]) -> str:
    """The values of an axis that points without a cell have and no cell has, as on the command line; or nothing."""
    kept = {cell.point[axis] for cell in cells}
    values = dict.fromkeys(str(label(point[axis])) for point in without if point[axis] not in kept)
    return f"{axis}={','.join(values)}" if values else ""


def _others(sweep: Sweep, given: Mapping[str, str]) -> list[str]:
    """In words, what an axis of the command line may be beside the others, where those alone have cells."""
    said = []
    for name in given:
        others = {other: text for other, text in given.items() if other != name}
        try:
            with stand_ins.allowed():  # nothing is fetched to say this
                cells, _ = _there(sweep, points(sweep, others), others)
        except ValueError:
            continue
        values = dict.fromkeys(str(cell.labels[name]) for cell in cells)
        more = f" and {len(values) - LISTED} more" if len(values) > LISTED else ""
        said += [f"Beside the others there is {name}={','.join([*values][:LISTED])}{more}."] * bool(values)
    return said


def _answerable(sweep: Sweep, cells: Sequence[Cell], given: Mapping[str, str]) -> tuple[list[Cell], tuple[str, ...]]:
    """Leave out what a model cannot be asked, where `each` analysis was asked for and not that one by its name."""
    if sweep.by_step is None:
        return list(cells), ()
    name, kept, why = sweep.by_step.analysis, list[Cell](), dict[tuple[Any, Any], str]()
    named = asked(sweep, name, given)
    for cell in cells:
        try:
            if isinstance(cell.spec, Reading) and cell.point[name] not in named:
                cell.spec.check()
            kept.append(cell)
        except ValueError as error:
            why[cell.labels[sweep.by_step.training], cell.labels[name]] = str(error)
    return kept, tuple(f"{what} of {training} is left out: {reason}" for (training, what), reason in why.items())


def arrange(sweep: Sweep, cells: Sequence[Cell], store: Store) -> Plan:
    """Plan the runs of some cells.

    Raises:
        ValueError: as `plan`.
    """
    _check_labels(cells)
    _check_home(cells, store)
    runs: dict[str, Spec] = {}
    keep: dict[str, set[int]] = {}
    for cell in cells:
        _collect(cell.spec, runs, keep)
    _check_texts(runs, store)
    for spec in runs.values():
        if isinstance(spec, Reading):
            spec.check()
    found = side_by_side(lambda spec: store.run(spec).status(), runs.values())
    status = dict(zip(runs, found, strict=True))
    kept = {run_id: tuple(sorted(steps)) for run_id, steps in keep.items()}
    planned = Plan(sweep, tuple(cells), runs, kept, status)
    for run_id, spec in reversed(runs.items()):  # children first: a parent that is repeated needs its own parents
        for parent in spec.parents() if status[run_id] != "done" else ():
            _check_kept(parent, planned, store)
    return planned


def _check_kept(parent: Checkpoint, planned: Plan, store: Store) -> None:
    """Note that a finished run must be repeated for a checkpoint; one that is there must be sound."""
    run_id = parent.run.run_id
    if planned.status[run_id] != "done":
        return
    if store.run(parent.run).lacks([parent.step], {parent.step} & {*planned.keep_state.get(run_id, ())}):
        planned.status[run_id] = INCOMPLETE
    else:
        store.checkpoint(parent)


def _collect(spec: Spec, runs: dict[str, Spec], keep: dict[str, set[int]]) -> None:
    for parent in spec.parents():
        _collect(parent.run, runs, keep)
        keep.setdefault(parent.run.run_id, set()).add(parent.step)
    runs.setdefault(spec.run_id, spec)


def _check_home(cells: Sequence[Cell], store: Store) -> None:
    """Refuse the folder of a run of another store: here it would be trained anew."""
    said = {
        (v, pretraining_seed(c.point) if SEED in v else 0)
        for c in cells
        for v in c.point.values()
        if isinstance(v, str)
    }
    for value, seed in said:
        folder = Path(os.path.realpath(os.path.expanduser(value.replace(SEED, str(seed)))))
        a_run = folder.parent.name == "runs" and os.path.isfile(folder / "spec.json")
        if a_run and str(folder.parents[1]) != store.location:
            raise ValueError(
                f"{folder} is a run of another store, and would be trained anew in {store.location}. Work in that one "
                f"(--store {folder.parents[1]}), or name its checkpoints, or one of them, as they are: {folder}/checkpoints."
            )


def _check_labels(cells: Sequence[Cell]) -> None:
    """Two different things must not bear one name in the tables."""
    bearer: dict[tuple[str, Any], Any] = {}
    for cell in cells:
        for name, value in cell.point.items():
            other = bearer.setdefault((name, label(value)), value)
            if other != value:
                raise ValueError(
                    f"axis {name}: {other} and {value} would both be called {label(value)!r} in the tables. "
                    "Rename one of them."
                )


def _check_texts(runs: Mapping[str, Spec], store: Store) -> None:
    """Refuse a task that the model's tokenizer cannot read."""
    seen = set()
    for spec in runs.values():
        if isinstance(spec, Reading):
            continue
        key = (spec.init.architecture(), getattr(spec.data, "task", None))
        if (
            not isinstance(spec.data, Examples)
            or key in seen
            or any(map(is_stand_in, (spec.init.origin, spec.data.task)))
        ):
            continue
        seen.add(key)
        texts = load(spec.data.task)[0].texts[:PROBED_TEXTS]
        share = tokenizers.unknown_share(tokenizers.of(spec, store.root / "data"), texts)
        if share > LARGEST_UNKNOWN_SHARE:
            raise ValueError(
                f"task {spec.data.task.name}: the model's tokenizer does not know {share:.0%} of its tokens "
                f"(at most {LARGEST_UNKNOWN_SHARE:.0%} make sense). Choose a model of the task's language."
            )
