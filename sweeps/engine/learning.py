"""How fast runs learn a language, and what a teacher saves: the loss by what it took to come there.

Two readings of one question. Inside a run, as Qin et al. 2022 read it, the points are its evaluations: they carry the
learning rate of the moment. Over budgets, where a grid has several durations, they are the ends of runs whose schedules
are complete: the horizontal gap between two frontiers. What is saved is counted without the teacher's cost, with its
forward passes, and with its own pretraining too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from plm.inheritance import savings
from plm.models import shape
from plm.spec import Checkpoint, RunSpec
from plm.store import RunFolder, Store
from sweeps.engine.plan import Cell, Plan
from sweeps.engine.stats import seeds_interval
from sweeps.engine.teaching import flops as teaching_flops
from sweeps.engine.teaching import guided_by

LOSS = "val/loss"
HEADINGS = (
    "n",
    "final loss",
    "passes its teacher at step",
    "steps saved",
    "FLOPs saved, with the teacher's forward passes",
    "and its pretraining",
)
COSTS = ("alone", "forward", "whole")
"""What of a teacher is counted: nothing, its forward passes, its pretraining too."""


@dataclass(frozen=True)
class Track:
    """The loss of one run, or of one arm over budgets: at ascending steps, with what each took."""

    steps: tuple[float, ...]
    losses: tuple[float, ...]
    costs: dict[str, tuple[float, ...]]
    """FLOPs by `COSTS`."""
    teacher: float | None
    """The loss of the teacher; None: it has none, or it is not known."""


@dataclass(frozen=True)
class Line:
    """An arm over its seeds."""

    name: str
    is_control: bool
    tracks: dict[Any, Track]
    """By seed; the finished ones."""


@dataclass(frozen=True)
class Panel:
    """Arms that are compared with one control."""

    title: str
    over: str
    """`evaluations` of a run, or `budgets`."""
    lines: tuple[Line, ...]


def panels(plan: Plan, store: Store) -> list[Panel]:
    """The finished runs of a plan: what is learned inside them, and over budgets where there are several."""
    axis = plan.sweep.learning
    assert axis is not None
    inside = _panels(plan, store, axis, apart=())
    durations = {cell.labels.get("duration") for cell in plan.cells}
    return inside + (_panels(plan, store, axis, apart=("duration",)) if len(durations) > 1 else [])


def _panels(plan: Plan, store: Store, axis: str, apart: tuple[str, ...]) -> list[Panel]:
    """A panel for each combination of what is neither a line, nor the seed, nor `apart` (whose values are points)."""
    groups: dict[tuple[Any, ...], dict[Any, list[Cell]]] = {}
    for cell in plan.cells:
        key = tuple((n, v) for n, v in cell.labels.items() if n not in (axis, "seed", *apart))
        groups.setdefault(key, {}).setdefault(cell.labels[axis], []).append(cell)
    varying = {name for key in groups for name, _ in key if len({dict(k).get(name) for k in groups}) > 1}
    found = []
    for key, arms in groups.items():
        lines = tuple(_line(str(label), cells, plan, store, axis, bool(apart)) for label, cells in arms.items())
        title = ", ".join(f"{name} {value}" for name, value in key if name in varying) or "all"
        found.append(Panel(title, "budgets" if apart else "evaluations", tuple(line for line in lines if line.tracks)))
    return [panel for panel in found if panel.lines]


def _line(name: str, cells: Sequence[Cell], plan: Plan, store: Store, axis: str, budgets: bool) -> Line:
    by_seed: dict[Any, list[RunSpec]] = {}
    for cell in cells:
        if isinstance(cell.spec, RunSpec) and RunFolder(store, cell.spec.run_id).status() == "done":
            by_seed.setdefault(cell.point.get("seed", 0), []).append(cell.spec)
    tracks = {seed: over(specs, store) if budgets else inside(specs[0], store) for seed, specs in by_seed.items()}
    return Line(name, plan.sweep.baseline(cells[0].labels)[axis] == cells[0].labels[axis], tracks)


def inside(spec: RunSpec, store: Store) -> Track:
    """One run by its evaluations."""
    lines = [line for line in RunFolder(store, spec.run_id).metrics() if LOSS in line]
    steps = tuple(int(line["step"]) for line in lines)
    return Track(steps, tuple(line[LOSS] for line in lines), costs(spec, steps), teacher_loss(spec, store))


def over(specs: Sequence[RunSpec], store: Store) -> Track:
    """The ends of some runs that differ in their budget."""
    ordered = sorted(specs, key=lambda spec: spec.total_steps)
    ends = tuple(float(RunFolder(store, spec.run_id).result()["metrics"][LOSS]) for spec in ordered)
    each = [costs(spec, [spec.total_steps]) for spec in ordered]
    together = {what: tuple(one[what][0] for one in each) for what in COSTS}
    return Track(tuple(spec.total_steps for spec in ordered), ends, together, teacher_loss(ordered[-1], store))


def teacher_loss(spec: RunSpec, store: Store) -> float | None:
    """What the teacher's own run reported of itself at the checkpoint that teaches; None: nobody said, or of other text."""
    source = getattr(spec.objective, "teacher", None)
    if not isinstance(source, Checkpoint):
        return None
    bases = {getattr(run.objective, "base", run.objective) for run in (spec, source.run)}
    if len(bases) > 1 or (source.run.data, source.run.seq_len) != (spec.data, spec.seq_len):
        return None
    lines = {line["step"]: line[LOSS] for line in RunFolder(store, source.run.run_id).metrics() if LOSS in line}
    return lines.get(source.step)


# What it took


def costs(spec: RunSpec, steps: Sequence[int]) -> dict[str, tuple[float, ...]]:
    """FLOPs of a run's first steps, for some numbers of them, by what of its teacher is counted."""
    model, tokens = shape(spec.init.architecture()), spec.batch_size * spec.seq_len
    each = spec.passes * tokens * spec.objective.flops_per_token(model, spec.seq_len)
    before = sum(costs(c.run, [c.step])["forward"][0] for c in lineage(spec))
    alone = tuple(each * step for step in steps)
    forward = tuple(own + teaching_flops(spec, guided_by(spec, step)) for own, step in zip(alone, steps, strict=True))
    return {"alone": alone, "forward": forward, "whole": tuple(own + before for own in forward)}


def lineage(spec: RunSpec) -> tuple[Checkpoint, ...]:
    """The checkpoints that a run stands on, those of its teachers' teachers too; of each run the latest."""
    latest: dict[str, Checkpoint] = {}
    waiting = list(spec.parents())
    while waiting:
        found = waiting.pop()
        if found.run.run_id not in latest or latest[found.run.run_id].step < found.step:
            latest[found.run.run_id] = found
        waiting += found.run.parents()
    return tuple(latest.values())


# What is saved


def reached(at: Sequence[float], losses: Sequence[float], level: float) -> float | None:
    """What it took to come down to a loss, between two points by a straight line; None: it did not.

    A loss that the first point has already is reached there: what it took is then an upper bound.
    """
    if losses[0] <= level:
        return float(at[0])
    for (start, before), (end, after) in pairwise(zip(at, losses, strict=True)):
        if after <= level:
            return float(start + (end - start) * (before - level) / (before - after))
    return None


def saved(taught: Track, alone: Track, what: str) -> float | None:
    """The share of the cost that a teacher saves of coming to the worse of the two ends; negative where it costs more."""
    level = max(taught.losses[-1], alone.losses[-1])
    ours, theirs = (reached(track.costs[what], track.losses, level) for track in (taught, alone))
    return savings(ours, theirs) if ours and theirs else None


def passes(track: Track) -> float | None:
    """The step at which a student is as good as its teacher; None: it never is, or has none."""
    return None if track.teacher is None else reached(track.steps, track.losses, track.teacher)


def table(panel: Panel, axis: str) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for each line."""
    control = next((line for line in panel.lines if line.is_control), None)
    return [axis, *HEADINGS], [_row(line, control) for line in panel.lines]


def _row(line: Line, control: Line | None) -> list[str]:
    ends = [track.losses[-1] for track in line.tracks.values()]
    crossed = [step for track in line.tracks.values() if (step := passes(track)) is not None]
    shares: list[str] = []
    for what in COSTS:
        pairs = [] if control is None or line.is_control else _pairs(line, control)
        each = [share for taught, alone in pairs if (share := saved(taught, alone, what)) is not None]
        shares.append(_percent(each))
    known = any(track.teacher is not None for track in line.tracks.values())
    at = f"{sum(crossed) / len(crossed):.0f}" if crossed else "never" if known else ""
    short = f" ({len(crossed)} of {len(ends)})" if 0 < len(crossed) < len(ends) else ""
    return [line.name, str(len(ends)), _spread(ends), at + short, *shares]


def _pairs(line: Line, control: Line) -> Iterator[tuple[Track, Track]]:
    return ((line.tracks[seed], control.tracks[seed]) for seed in line.tracks if seed in control.tracks)


def _spread(values: Sequence[float]) -> str:
    band = seeds_interval(values)
    return f"{sum(values) / len(values):.3f}" + (f" [{band.low:.3f}, {band.high:.3f}]" if band else "")


def _percent(values: Sequence[float]) -> str:
    if not values:
        return ""
    band = seeds_interval(values)
    mean = f"{100 * sum(values) / len(values):+.0f}%"
    return mean + (f" [{100 * band.low:+.0f}, {100 * band.high:+.0f}]" if band else "")


def caption(panel: Panel) -> list[str]:
    """What must be known to read a panel."""
    read = {
        "evaluations": "inside each run, whose learning rate is that of the moment (the paper's way)",
        "budgets": "over runs of several budgets whose schedules are complete",
    }
    return [
        f"loss: nats per predicted token of the base objective alone; read {read[panel.over]}",
        "saved: of coming to the worse of the two final losses, arm and control of one seed; negative: it took more. "
        "The first is as the paper counts, without what the teacher costs; brackets: 95% over seeds (t)",
    ]
