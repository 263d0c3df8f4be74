"""How fast runs learn a language, and what a teacher saves: the loss by what it took to come there.

Three readings of one question. Inside a run, as Qin et al. 2022 read it, the points are its evaluations: they carry the
learning rate of the moment. Over budgets, where a grid has several durations, they are the ends of runs whose schedules
are complete: the horizontal gap between two frontiers. Downstream, where a grid fine-tunes from several moments of a
pretraining, they are the scores. What is saved is counted without the teacher's cost, with its forward passes, and with
its own pretraining too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from plm.data.corpus import Corpus
from plm.inheritance import members, savings
from plm.models import shape
from plm.objectives.inherit import Inherit
from plm.spec import Checkpoint, External, RunSpec
from plm.store import RunFolder, Store
from sweeps.engine.plan import Cell, Plan
from sweeps.engine.stats import seeds_interval
from sweeps.engine.teaching import flops as teaching_flops
from sweeps.engine.teaching import guided_by

LOSS, SCORE, TEXT = "val/loss", "val/score", "val/perplexity/"
EVALUATIONS, BUDGETS, MOMENTS = "evaluations", "budgets", "moments"
HEADINGS = {
    "alone": "steps saved",
    "forward": "FLOPs saved (passes)",
    "whole": "FLOPs saved (pretraining)",
    "hours": "hours saved",
    "hours whole": "hours saved (pretraining)",
}
COSTS = tuple(HEADINGS)
"""What of a teacher is counted: nothing, its forward passes, its pretraining too; and the time that was spent here."""


@dataclass(frozen=True)
class Track:
    """The loss of one run, or of one arm over budgets: at ascending steps, with what each took."""

    steps: tuple[float, ...]
    losses: tuple[float, ...]
    """Downstream: the score, less than nothing, so that lower is better."""
    costs: dict[str, tuple[float, ...]]
    """FLOPs, or hours, by `COSTS`; NaN: not known."""
    teacher: float | None
    """The loss of the teacher; None: it has none, or it is not known."""
    texts: dict[str, float]
    """Final perplexity by text, where there are several."""
    forgotten: dict[str, float]
    """Nats per token that a text has lost since the training began from another's weights."""


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
    """`EVALUATIONS` of a run, `BUDGETS`, or `MOMENTS` to fine-tune from."""
    lines: tuple[Line, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """Those that some line has a perplexity of its own on."""
        return tuple(dict.fromkeys(t for line in self.lines for track in line.tracks.values() for t in track.texts))


def panels(plan: Plan, store: Store) -> list[Panel]:
    """The finished runs of a plan: what is learned inside them, over budgets where there are several, and downstream."""
    cells = [cell for cell in plan.cells if isinstance(cell.spec, RunSpec)]
    language = [cell for cell in cells if isinstance(cell.run.data, Corpus)]
    tuned = [
        cell for cell in cells if not isinstance(cell.run.data, Corpus) and isinstance(cell.run.init.origin, Checkpoint)
    ]
    found = _panels(plan, language, store, EVALUATIONS)
    if len({cell.labels.get("duration") for cell in language}) > 1:
        found += _panels(plan, language, store, BUDGETS)
    if len({cell.labels.get("at") for cell in tuned}) > 1:
        found += _panels(plan, tuned, store, MOMENTS)
    return found


APART = {EVALUATIONS: (), BUDGETS: ("duration",), MOMENTS: ("at",)}
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
    read = {EVALUATIONS: lambda specs, store: inside(specs[0], store), BUDGETS: across, MOMENTS: downstream}[over]
    tracks = {seed: read(specs, store) for seed, specs in by_seed.items()}
    return Line(name, plan.sweep.baseline(cells[0].labels)[axis] == cells[0].labels[axis], tracks)


def inside(spec: RunSpec, store: Store) -> Track:
    """One run by its evaluations."""
    lines = [line for line in RunFolder(store, spec.run_id).metrics() if LOSS in line]
    steps = tuple(int(line["step"]) for line in lines)
    texts = _texts(lines[-1]) if lines else {}
    before = _before(spec, store)
    forgotten = {name: math.log(after / before[name]) for name, after in texts.items() if name in before}
    spent = costs(spec, steps) | hours(spec, steps, store)
    return Track(steps, tuple(line[LOSS] for line in lines), spent, teacher_loss(spec, store), texts, forgotten)


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
    ordered = sorted(specs, key=lambda spec: spec.total_steps)
    ends = tuple(float(RunFolder(store, spec.run_id).result()["metrics"][LOSS]) for spec in ordered)
    return Track(
        tuple(spec.total_steps for spec in ordered), ends, _spent([spec.final for spec in ordered], store),
        teacher_loss(ordered[-1], store), {}, {},
    )  # fmt: skip


def downstream(specs: Sequence[RunSpec], store: Store) -> Track:
    """The scores of runs that were fine-tuned from some moments of one pretraining, by what that took; tuning is not counted."""
    score = {_start(spec): float(RunFolder(store, spec.run_id).result()["metrics"][SCORE]) for spec in specs}
    moments = sorted(score, key=lambda moment: moment.step)
    falling = tuple(-score[moment] for moment in moments)
    return Track(tuple(moment.step for moment in moments), falling, _spent(moments, store), None, {}, {})


def _start(spec: RunSpec) -> Checkpoint:
    assert isinstance(spec.init.origin, Checkpoint)
    return spec.init.origin


def _spent(moments: Sequence[Checkpoint], store: Store) -> dict[str, tuple[float, ...]]:
    """What it took to come to some moments, by `COSTS`."""
    each = [costs(m.run, [m.step]) | hours(m.run, [m.step], store) for m in moments]
    return {what: tuple(one[what][0] for one in each) for what in COSTS}


def teacher_loss(spec: RunSpec, store: Store) -> float | None:
    """What the teacher's own run reported of itself at the checkpoint that teaches; None: nobody said, or of other text."""
    source = getattr(spec.objective, "teacher", None)
    if not isinstance(source, Checkpoint):
        return None
    bases = {getattr(run.objective, "base", run.objective) for run in (spec, source.run)}
    if len(bases) > 1 or _evaluated(source.run) != _evaluated(spec):
        return None
    lines = {line["step"]: line[LOSS] for line in RunFolder(store, source.run.run_id).metrics() if LOSS in line}
    return lines.get(source.step)


def _evaluated(spec: RunSpec) -> tuple[Any, ...]:
    """What a run's loss is of: parts of a text are evaluated on the same."""
    data = replace(spec.data, part=(0, 1), beside=()) if isinstance(spec.data, Corpus) else spec.data
    return data, spec.seq_len


# What it took


def costs(spec: RunSpec, steps: Sequence[int]) -> dict[str, tuple[float, ...]]:
    """FLOPs of a run's first steps, for some numbers of them, by what of its teacher is counted; NaN: not known."""
    model, tokens = shape(spec.init.architecture()), spec.batch_size * spec.seq_len
    each = spec.passes * tokens * spec.objective.flops_per_token(model, spec.seq_len)
    alone = tuple(each * step for step in steps)
    forward = tuple(own + teaching_flops(spec, guided_by(spec, step)) for own, step in zip(alone, steps, strict=True))
    past = past_of_teachers(spec)
    before = math.nan if past is None else sum(costs(c.run, [c.step])["forward"][0] for c in past)
    return {"alone": alone, "forward": forward, "whole": tuple(own + before for own in forward)}


def hours(spec: RunSpec, steps: Sequence[int], store: Store) -> dict[str, tuple[float, ...]]:
    """Hours of the same, by how fast its steps were when it was last worked on, evaluation aside; NaN: not known."""
    past = past_of_teachers(spec)
    before = math.nan if past is None else sum(_hours(c.run, c.step, store) for c in past)
    spent = tuple(_hours(spec, step, store) for step in steps)
    return {"hours": spent, "hours whole": tuple(own + before for own in spent)}


def _hours(spec: RunSpec, step: int, store: Store) -> float:
    folder = RunFolder(store, spec.run_id)
    speed = folder.result().get("speed", {}) if folder.status() == "done" else {}
    each = speed.get("speed/tokens_per_second", math.nan)
    return step * spec.batch_size * spec.seq_len / each / 3600


def past_of_teachers(spec: RunSpec) -> tuple[Checkpoint, ...] | None:
    """The checkpoints that a run's teachers stand on, themselves included; of each run the latest; None: one is external.

    What the run itself begins with is none of them: its control begins with it too.
    """
    if not isinstance(spec.objective, Inherit):
        return ()
    teachers = members(spec.objective.teacher)
    found = lineage(*[teacher for teacher in teachers if isinstance(teacher, Checkpoint)])
    taught = [c.run.objective.teacher for c in found if isinstance(c.run.objective, Inherit)]
    if any(
        isinstance(source, External) for teacher in (spec.objective.teacher, *taught) for source in members(teacher)
    ):
        return None
    own = {c.run.run_id for c in lineage(spec.init.origin)} if isinstance(spec.init.origin, Checkpoint) else set()
    return tuple(c for c in found if c.run.run_id not in own)


def lineage(*moments: Checkpoint) -> tuple[Checkpoint, ...]:
    """Some checkpoints and all that they stand on, their teachers' teachers too; of each run the latest."""
    latest: dict[str, Checkpoint] = {}
    waiting = list(moments)
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
    if ours is None or theirs is None or not (ours > 0 and theirs > 0):  # NaN is not above 0
        return None
    return savings(ours, theirs)


def passes(track: Track) -> float | None:
    """The step at which a student is as good as its teacher; None: it never is, or has none."""
    return None if track.teacher is None else reached(track.steps, track.losses, track.teacher)


def table(panel: Panel, axis: str) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for each line."""
    control = next((line for line in panel.lines if line.is_control), None)
    lost = [name for name in panel.texts if _over(panel.lines, "forgotten", name)]
    head = ["final score"] if panel.over == MOMENTS else ["final loss", *(f"perplexity on {n}" for n in panel.texts)]
    head += [f"nats of {name} forgotten" for name in lost]
    head += ["passes its teacher at step"] * (panel.over != MOMENTS)
    return [axis, "n", *head, *HEADINGS.values()], [_row(line, control, panel, lost) for line in panel.lines]


def _over(lines: Sequence[Line], what: str, text: str) -> list[float]:
    """Of a text, over the seeds of some lines."""
    each = [getattr(track, what) for line in lines for track in line.tracks.values()]
    return [values[text] for values in each if text in values]


def _row(line: Line, control: Line | None, panel: Panel, lost: Sequence[str]) -> list[str]:
    tracks = list(line.tracks.values())
    if panel.over == MOMENTS:
        told = [_spread([-track.losses[-1] for track in tracks])]
    else:
        told = [_spread([track.losses[-1] for track in tracks])]
        told += [_spread(_over([line], "texts", name), 1) for name in panel.texts]
        told += [_spread(_over([line], "forgotten", name)) for name in lost] + [_passed(tracks)]
    shares: list[str] = []
    for what in COSTS:
        pairs = [] if control is None or line.is_control else _pairs(line, control)
        each = [share for taught, alone in pairs if (share := saved(taught, alone, what)) is not None]
        unknown = any(math.isnan(cost) for track in tracks for cost in track.costs[what])
        shares.append("not known" if unknown else _percent(each))
    return [line.name, str(len(tracks)), *told, *shares]


def _passed(tracks: Sequence[Track]) -> str:
    """When the teacher is passed, the mean over seeds."""
    crossed = [step for track in tracks if (step := passes(track)) is not None]
    known = any(track.teacher is not None for track in tracks)
    at = f"{sum(crossed) / len(crossed):.0f}" if crossed else "never" if known else ""
    return at + (f" ({len(crossed)} of {len(tracks)})" if 0 < len(crossed) < len(tracks) else "")


def _pairs(line: Line, control: Line) -> Iterator[tuple[Track, Track]]:
    return ((line.tracks[seed], control.tracks[seed]) for seed in line.tracks if seed in control.tracks)


def _spread(values: Sequence[float], digits: int = 3) -> str:
    if not values:
        return ""
    band = seeds_interval(values)
    mean = f"{sum(values) / len(values):.{digits}f}"
    return mean + (f" [{band.low:.{digits}f}, {band.high:.{digits}f}]" if band else "")


def _percent(values: Sequence[float]) -> str:
    if not values:
        return ""
    band = seeds_interval(values)
    mean = f"{100 * sum(values) / len(values):+.0f}%"
    return mean + (f" [{100 * band.low:+.0f}, {100 * band.high:+.0f}]" if band else "")


def caption(panel: Panel) -> list[str]:
    """What must be known to read a panel."""
    loss = "loss: nats per predicted token of the base objective alone; read "
    read = {
        EVALUATIONS: loss + "inside each run, whose learning rate is that of the moment (the paper's way)",
        BUDGETS: loss + "over runs of several budgets whose schedules are complete",
        MOMENTS: "score: the task's own, fine-tuned from moments inside each pretraining, whose learning rate is that of "
        "the moment (the paper's way)",
    }
    what = "score" if panel.over == MOMENTS else "loss"
    lines = [
        read[panel.over],
        f"saved: of coming to the worse of the two final {what}{'s' if what == 'score' else 'es'}, arm and control of one "
        "seed; negative: it took more. Steps: as the paper counts, without what the teacher costs; passes: with its forward "
        "passes; pretraining: with its own training too; brackets: 95% over seeds (t)",
        "hours: of the steps of the runs here, a live teacher's passes included; what else ran beside them bears on them",
    ]
    if any(math.isnan(c) for line in panel.lines for t in line.tracks.values() for c in t.costs["whole"]):
        lines.append("not known: what the pretraining of an external teacher cost")
    if any(track.forgotten for line in panel.lines for track in line.tracks.values()):
        lines.append("forgotten: nats per predicted token of the text that the model was pretrained on, since then")
    return lines
