"""How fast runs learn a language, and what a teacher saves: the loss by what it took to come there.

Inside a run, as Qin et al. 2022 read it, the points are its evaluations: they carry the learning rate of the moment. Over
budgets, where a grid has several durations, they are the ends of runs whose schedules are complete: the horizontal gap
between two frontiers. Downstream, where a grid fine-tunes, they are the scores, from several moments of a pretraining or
over budgets. What is saved is counted without the teacher's cost, with its forward passes, and with its own pretraining
too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from plm.data.corpus import Corpus
from plm.inheritance import savings
from plm.objectives.inherit import Inherit
from plm.spec import Checkpoint, RunSpec
from plm.store import RunFolder, Store
from sweeps.engine.plan import Cell, Plan
from sweeps.engine.spending import COSTS, spent
from sweeps.engine.stats import seeds_interval

LOSS, SCORE, TEXT = "val/loss", "val/score", "val/perplexity/"
EVALUATIONS, BUDGETS, MOMENTS, ENDS = "evaluations", "budgets", "moments", "ends"
SCORED = (MOMENTS, ENDS)
"""Readings of scores."""
LOGARITHMIC = (BUDGETS, ENDS)
"""Readings whose points lie factors apart: between two of them a straight line over the logarithm of the steps, because
over the steps themselves the chord of a falling power law lies far above it and hides most of what is saved."""
HEADINGS = {
    "alone": "steps saved",
    "forward": "FLOPs saved (passes)",
    "whole": "FLOPs saved (pretraining)",
    "hours": "hours saved",
    "hours whole": "hours saved (pretraining)",
}


@dataclass(frozen=True)
class Track:
    """The loss of one run, or of one arm over budgets: at ascending steps, with what each took."""

    steps: tuple[float, ...]
    losses: tuple[float, ...]
    """Downstream: the score, less than nothing, so that lower is better."""
    costs: dict[str, tuple[float, ...]]
    """FLOPs, or hours, by `COSTS`; NaN: not known."""
    teacher: float | None
    """The loss of the teacher on the same evaluation split; None: it has none, or was not measured."""
    covered: float | None
    """The share of the teacher's probability, at the temperature of the run, that is kept; None: there is none, or all is."""
    texts: dict[str, float]
    """Final perplexity by text, where there are several."""
    forgotten: dict[str, float]
    """Nats per token that a text has lost since the training began from another's weights."""


@dataclass(frozen=True)
class Line:
    """An arm over its seeds."""

    name: str
    control: str
    """The name of the line that it is compared with: its own, of a control."""
    tracks: dict[Any, Track]
    """By seed; the finished ones."""

    @property
    def is_control(self) -> bool:
        """It is what others are compared with."""
        return self.name == self.control


@dataclass(frozen=True)
class Panel:
    """Arms and their controls."""

    title: str
    over: str
    """`EVALUATIONS` of a run, `BUDGETS`, `MOMENTS` to fine-tune from, or their `ENDS` over budgets."""
    lines: tuple[Line, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """Those that some line has a perplexity of its own on."""
        return tuple(dict.fromkeys(t for line in self.lines for track in line.tracks.values() for t in track.texts))

    def pairs(self, line: Line) -> list[tuple[Track, Track]]:
        """What a line has learned and its control of the same seed; none of a control, or of one without any."""
        control = next((other for other in self.lines if other.name == line.control), line)
        shared = [] if control is line else [seed for seed in line.tracks if seed in control.tracks]
        return [(line.tracks[seed], control.tracks[seed]) for seed in shared]


def panels(plan: Plan, store: Store) -> list[Panel]:
    """The finished runs of a plan: what is learned inside them, over budgets where there are several, and downstream."""

    def several(axis: str, own: Sequence[Cell]) -> bool:
        return len({cell.labels.get(axis) for cell in own}) > 1

    cells = [cell for cell in plan.cells if isinstance(cell.spec, RunSpec)]
    language = [cell for cell in cells if isinstance(cell.run.data, Corpus)]
    tuned = [
        cell for cell in cells if not isinstance(cell.run.data, Corpus) and isinstance(cell.run.init.origin, Checkpoint)
    ]
    whole = [cell for cell in tuned if _start(cell.run).step == _start(cell.run).run.total_steps]
    found = _panels(plan, language, store, EVALUATIONS)
    if several("duration", language):
        found += _panels(plan, language, store, BUDGETS)
    if several("at", tuned):
        found += _panels(plan, tuned, store, MOMENTS)
    if len({_start(cell.run).step for cell in whole}) > 1 and several("duration", whole):
        found += _panels(plan, whole, store, ENDS)
    return found


APART = {EVALUATIONS: (), BUDGETS: ("duration",), MOMENTS: ("at",), ENDS: ("duration",)}
"""The axes whose values are the points of a line."""


def _panels(plan: Plan, cells: Sequence[Cell], store: Store, over: str) -> list[Panel]:
    """A panel for each combination of what is neither a line, nor the seed, nor `APART`."""
    axis = plan.sweep.learning
    assert axis is not None
    groups: dict[tuple[Any, ...], dict[Any, list[Cell]]] = {}
    for cell in cells:
        key = tuple((n, v) for n, v in cell.labels.items() if n not in (axis, "seed", *APART[over]))
        groups.setdefault(key, {}).setdefault(cell.labels[axis], []).append(cell)
    varying = {name for key in groups for name, _ in key if len({dict(k).get(name) for k in groups}) > 1}
    found = []
    for key, arms in groups.items():
        lines = tuple(_line(str(label), own, plan, store, axis, over) for label, own in arms.items())
        title = ", ".join(f"{name} {value}" for name, value in key if name in varying) or "all"
        found.append(Panel(title, over, tuple(line for line in lines if line.tracks)))
    return [panel for panel in found if panel.lines]


def _line(name: str, cells: Sequence[Cell], plan: Plan, store: Store, axis: str, over: str) -> Line:
    by_seed: dict[Any, list[RunSpec]] = {}
    for cell in cells:
        if RunFolder(store, cell.run.run_id).status() == "done":
            by_seed.setdefault(cell.point.get("seed", 0), []).append(cell.run)
    read = {EVALUATIONS: inside, BUDGETS: across, MOMENTS: downstream, ENDS: downstream}[over]
    tracks = {seed: read(specs, store) for seed, specs in by_seed.items()}
    return Line(name, str(plan.sweep.baseline(cells[0].labels)[axis]), tracks)


def inside(specs: Sequence[RunSpec], store: Store) -> Track:
    """One run by its evaluations."""
    (spec,) = specs
    lines = [line for line in RunFolder(store, spec.run_id).metrics() if LOSS in line]
    steps = tuple(int(line["step"]) for line in lines)
    texts = _texts(lines[-1]) if lines else {}
    before = _before(spec, store)
    forgotten = {name: math.log(after / before[name]) for name, after in texts.items() if name in before}
    return Track(
        steps, tuple(line[LOSS] for line in lines), spent(spec, steps, store), *_teacher(spec, store), texts, forgotten
    )  # fmt: skip


def _teacher(spec: RunSpec, store: Store) -> tuple[float | None, float | None]:
    """The loss of a run's teacher, and the share of the probability that is kept of it; None: not measured."""
    said = RunFolder(store, spec.run_id).result().get("teacher", {})
    kept = said.get("covered_mass") if isinstance(spec.objective, Inherit) and spec.objective.top_k else None
    return said.get("loss"), kept


def _texts(metrics: dict[str, Any]) -> dict[str, float]:
    return {name.removeprefix(TEXT): value for name, value in metrics.items() if name.startswith(TEXT)}


def _before(spec: RunSpec, store: Store) -> dict[str, float]:
    """The perplexity, on texts that a run evaluates beside its own, of the run whose weights it began with."""
    origin = spec.init.origin
    if not (isinstance(spec.data, Corpus) and isinstance(origin, Checkpoint) and isinstance(origin.run.data, Corpus)):
        return {}
    own = origin.run.data.texts
    lines = {line["step"]: line for line in RunFolder(store, origin.run.run_id).metrics() if "val/perplexity" in line}
    if len(own) > 1 or own[0] not in spec.data.beside or origin.step not in lines:
        return {}
    return {own[0].name: lines[origin.step]["val/perplexity"]}


def across(specs: Sequence[RunSpec], store: Store) -> Track:
    """The ends of some runs that differ in their budget."""
    ends = sorted((spec.final for spec in specs), key=_position)
    losses = tuple(float(RunFolder(store, end.run.run_id).result()["metrics"][LOSS]) for end in ends)
    last = ends[-1].run
    return Track(tuple(map(_position, ends)), losses, _spent(ends, store), *_teacher(last, store), {}, {})


def downstream(specs: Sequence[RunSpec], store: Store) -> Track:
    """The scores of runs that were fine-tuned from some moments of pretraining, by what that took; tuning is not counted."""
    score = {_start(spec): float(RunFolder(store, spec.run_id).result()["metrics"][SCORE]) for spec in specs}
    moments = sorted(score, key=_position)
    falling = tuple(-score[moment] for moment in moments)
    return Track(tuple(map(_position, moments)), falling, _spent(moments, store), None, None, {}, {})


def _position(moment: Checkpoint) -> int:
    """Its step, with those of the run that a cooled-down one goes on from."""
    return moment.run.init.position + moment.step


def _start(spec: RunSpec) -> Checkpoint:
    assert isinstance(spec.init.origin, Checkpoint)
    return spec.init.origin


def _spent(moments: Sequence[Checkpoint], store: Store) -> dict[str, tuple[float, ...]]:
    """What it took to come to some moments, by `COSTS`."""
    each = [spent(m.run, [m.step], store) for m in moments]
    return {what: tuple(one[what][0] for one in each) for what in COSTS}


# What is saved


class Reached(NamedTuple):
    """When a level was reached."""

    step: float
    bound: bool
    """It was passed before: the first point is beyond it already."""


class Saving(NamedTuple):
    """What is saved of a cost."""

    share: float
    bound: str
    """`≥`, `≤`, or nothing where the share is known."""


def reached(
    steps: Sequence[float], losses: Sequence[float], level: float, *, logarithmic: bool = False
) -> Reached | None:
    """When a loss has come down to a level, between two points by a straight line; None: it has not."""
    if losses[0] <= level:
        return Reached(float(steps[0]), losses[0] < level)
    for (start, before), (end, after) in pairwise(zip(steps, losses, strict=True)):
        if after <= level:
            share = (before - level) / (before - after)
            return Reached(start * (end / start) ** share if logarithmic else start + (end - start) * share, False)
    return None


def saved(taught: Track, alone: Track, what: str, *, logarithmic: bool = False) -> Saving | None:
    """The share of the cost that a teacher saves of coming to the worse of the two ends; negative where it costs more.

    None: one did not come there, both were there at their first point, or what it took is not known.
    """
    level = max(taught.losses[-1], alone.losses[-1])
    both = [(track, reached(track.steps, track.losses, level, logarithmic=logarithmic)) for track in (taught, alone)]
    (ours, ours_bound), (theirs, theirs_bound) = (
        (math.nan, False) if at is None else (float(np.interp(at.step, track.steps, track.costs[what])), at.bound)
        for track, at in both
    )
    if not (ours > 0 and theirs > 0) or (ours_bound and theirs_bound):  # NaN is not above 0
        return None
    return Saving(savings(ours, theirs), "≥" if ours_bound else "≤" if theirs_bound else "")


def passes(track: Track, *, logarithmic: bool = False) -> Reached | None:
    """When a student is as good as its teacher; None: it never is, or its teacher was not measured."""
    if track.teacher is None:
        return None
    return reached(track.steps, track.losses, track.teacher, logarithmic=logarithmic)


def table(panel: Panel, axis: str) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for each line."""
    lost = [name for name in panel.texts if _over(panel.lines, "forgotten", name)]
    head = ["final score"] if panel.over in SCORED else ["final loss", *(f"perplexity on {n}" for n in panel.texts)]
    head += [f"nats of {name} forgotten" for name in lost]
    head += ["passes its teacher at step"] * (panel.over not in SCORED)
    covered = any(track.covered is not None for line in panel.lines for track in line.tracks.values())
    head += ["covered"] * covered
    head += [HEADINGS[what] for what in COSTS]
    return [axis, "n", *head], [_row(line, panel, lost, covered) for line in panel.lines]


def _over(lines: Sequence[Line], what: str, text: str) -> list[float]:
    """Of a text, over the seeds of some lines."""
    each = [getattr(track, what) for line in lines for track in line.tracks.values()]
    return [values[text] for values in each if text in values]


def _row(line: Line, panel: Panel, lost: Sequence[str], covered: bool) -> list[str]:
    tracks = list(line.tracks.values())
    if panel.over in SCORED:
        told = [_spread([-track.losses[-1] for track in tracks])]
    else:
        told = [_spread([track.losses[-1] for track in tracks])]
        told += [_spread(_over([line], "texts", name), 1) for name in panel.texts]
        told += [_spread(_over([line], "forgotten", name)) for name in lost]
        told.append(_passed(tracks, panel.over in LOGARITHMIC))
    kept = [track.covered for track in tracks if track.covered is not None]
    told += [f"{sum(kept) / len(kept):.3f}" if kept else ""] * covered
    shares: list[str] = []
    for what in COSTS:
        each = [saved(*pair, what, logarithmic=panel.over in LOGARITHMIC) for pair in panel.pairs(line)]
        unknown = any(math.isnan(cost) for track in tracks for cost in track.costs[what])
        shares.append("not known" if unknown else _shares([one for one in each if one], len(tracks)))
    return [line.name, str(len(tracks)), *told, *shares]


def _passed(tracks: Sequence[Track], logarithmic: bool) -> str:
    """When the teacher is passed, the mean over seeds; nothing where it was not measured."""
    tracks = [track for track in tracks if track.teacher is not None]
    if not tracks:
        return ""
    crossed = [found for track in tracks if (found := passes(track, logarithmic=logarithmic)) is not None]
    if not crossed:
        return "never"
    at = f"{'≤ ' * any(found.bound for found in crossed)}{sum(found.step for found in crossed) / len(crossed):.0f}"
    return at + (f" ({len(crossed)} of {len(tracks)})" if len(crossed) < len(tracks) else "")


def _spread(values: Sequence[float], digits: int = 3) -> str:
    if not values:
        return ""
    band = seeds_interval(values)
    mean = f"{sum(values) / len(values):.{digits}f}"
    return mean + (f" [{band.low:.{digits}f}, {band.high:.{digits}f}]" if band else "")


def _shares(each: Sequence[Saving], runs: int) -> str:
    """The mean over seeds and its interval; of bounds in one direction their mean alone, of such in both nothing."""
    bounds = {saving.bound for saving in each} - {""}
    if not each or len(bounds) > 1:
        return ""
    values = [100 * saving.share for saving in each]
    band = None if bounds else seeds_interval(values)
    said = " ".join([*bounds, f"{sum(values) / len(values):+.0f}%"])
    said += f" [{band.low:+.0f}, {band.high:+.0f}]" if band else ""
    return said + (f" ({len(each)} of {runs})" if len(each) < runs else "")


def caption(panel: Panel) -> list[str]:
    """What must be known to read a panel."""
    loss = "loss: nats per predicted token of the base objective alone; read "
    read = {
        EVALUATIONS: loss + "inside each run, whose learning rate is that of the moment (the paper's way)",
        BUDGETS: loss + "over runs of several budgets whose schedules are complete",
        MOMENTS: "score: the task's own, fine-tuned from moments inside each pretraining, whose learning rate is that of "
        "the moment (the paper's way)",
        ENDS: "score: the task's own, fine-tuned from the ends of pretrainings of several budgets, whose schedules are "
        "complete",
    }
    what = "score" if panel.over in SCORED else "loss"
    lines = [
        read[panel.over],
        f"saved: of coming to the worse of the two final {what}{'s' if what == 'score' else 'es'}, arm and control of one "
        "seed; negative: it took more. Steps: as the paper counts, without what the teacher costs; passes: with its forward "
        "passes; pretraining: with its own training too; brackets: 95% over seeds (t); ≥ and ≤: what was to be reached was "
        "passed before the first point that was read",
        "hours: of the steps of the runs here, a live teacher's passes included, and those that make stored lessons for the "
        "run that made them; what else ran beside them bears on them",
    ]
    tracks = [track for line in panel.lines for track in line.tracks.values()]
    if any(math.isnan(cost) for track in tracks for cost in track.costs["whole"]):
        lines.append("not known: what the pretraining of an external teacher cost")
    if any(track.covered is not None for track in tracks):
        lines.append(
            "covered: the share of the teacher's probability, at the temperature of the run, that its kept logits have"
        )
    if any(track.forgotten for track in tracks):
        lines.append("forgotten: nats per predicted token of the text that the model was pretrained on, since then")
    return lines
