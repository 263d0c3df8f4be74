"""What it took to come to a step of a pretraining: FLOPs and hours, with and without what its teacher cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from plm.inheritance import members
from plm.inits.resume import Resume
from plm.models import shape
from plm.objectives.inherit import Inherit
from plm.spec import Checkpoint, External, RunSpec
from plm.store import RunFolder, Store
from sweeps.engine.teaching import flops as teaching_flops
from sweeps.engine.teaching import guided_by

COSTS = ("alone", "forward", "whole", "hours", "hours whole")
"""What of a teacher is counted: nothing, its forward passes, its pretraining too; and the time that was spent here."""
SPEED = "speed/tokens_per_second"


def spent(spec: RunSpec, steps: Sequence[int], store: Store) -> dict[str, tuple[float, ...]]:
    """What it took to come to some steps of a run, by `COSTS`; NaN: not known."""
    return costs(spec, steps) | hours(spec, steps, store)


def costs(spec: RunSpec, steps: Sequence[int]) -> dict[str, tuple[float, ...]]:
    """FLOPs up to some steps of a run, by what of its teacher is counted; NaN: not known.

    Those of a training that it goes on with are among them.
    """
    past, trunk = past_of_teachers(spec), _trunk(spec)
    alone, forward = zip(*(_flops(spec, step) for step in steps), strict=True)
    before = math.nan if past is None else sum(_flops(c.run, c.step)[1] for c in past)
    found = {"alone": alone, "forward": forward, "whole": tuple(own + before for own in forward)}
    begun = costs(trunk.run, [trunk.step]) if trunk else dict.fromkeys(found, (0.0,))
    return {what: tuple(own + begun[what][0] for own in each) for what, each in found.items()}


def _flops(spec: RunSpec, step: int) -> tuple[float, float]:
    """Of a run's first steps alone, without and with its teacher's forward passes."""
    model, tokens = shape(spec.init.architecture()), spec.batch_size * spec.seq_len
    alone = step * spec.passes * tokens * spec.objective.flops_per_token(model, spec.seq_len)
    return alone, alone + teaching_flops(spec, guided_by(spec, step))


def hours(spec: RunSpec, steps: Sequence[int], store: Store) -> dict[str, tuple[float, ...]]:
    """Hours of the same, by how fast the steps were, evaluation aside; NaN: not known."""
    past, trunk = past_of_teachers(spec), _trunk(spec)
    begun = {what: each[0] for what, each in hours(trunk.run, [trunk.step], store).items()} if trunk else {}
    before = math.nan if past is None else sum(_hours(c.run, [c.step], store)[0] for c in past)
    own = [each + begun.get("hours", 0.0) for each in _hours(spec, steps, store)]
    extra = before + begun.get("hours whole", 0.0) - begun.get("hours", 0.0)
    return {"hours": tuple(own), "hours whole": tuple(each + extra for each in own)}


def _hours(spec: RunSpec, steps: Sequence[int], store: Store) -> list[float]:
    """Of a run's first steps alone, by the speed that was noted on the way: guided steps may be slower than others."""
    folder = RunFolder(store, spec.run_id)
    noted = [line for line in folder.metrics() if SPEED in line] if folder.status() == "done" else []
    if not noted:
        return [math.nan] * len(steps)
    ends = np.array([0, *(line["step"] for line in noted)])
    ends[-1] = max(ends[-1], *steps)
    seconds = np.diff(ends) * spec.batch_size * spec.seq_len / np.array([line[SPEED] for line in noted])
    return list(np.interp(steps, ends, np.cumsum([0.0, *seconds])) / 3600)


def _trunk(spec: RunSpec) -> Checkpoint | None:
    """Where the training that a run goes on with was; None: it is one of its own."""
    return spec.init.origin if isinstance(spec.init, Resume) else None


def past_of_teachers(spec: RunSpec) -> tuple[Checkpoint, ...] | None:
    """The checkpoints that a run's teachers stand on, themselves included; of each run the latest; None: they stand on
    something external.

    What the run itself begins with is none of them: its control begins with it too.
    """
    if not isinstance(spec.objective, Inherit):
        return ()
    teachers = members(spec.objective.teacher)
    found = lineage(*[teacher for teacher in teachers if isinstance(teacher, Checkpoint)])
    taught = [c.run.objective.teacher for c in found if isinstance(c.run.objective, Inherit)]
    begun = lineage(spec.init.origin) if isinstance(spec.init.origin, Checkpoint) else ()
    sources = {source for teacher in (spec.objective.teacher, *taught) for source in members(teacher)}
    common = {run.init.origin for run in (spec, *(c.run for c in begun))}
    if any(isinstance(source, External) for source in sources | ({c.run.init.origin for c in found} - common)):
        return None
    own = {c.run.run_id for c in begun}
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
