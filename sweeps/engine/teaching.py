"""How the runs of a plan are taught, by live teachers or by stored lessons, and what either costs.

Which of the two changes no number beyond rounding, and a run that goes on or is repeated stays with the one it began with.
Lessons are stored where several runs of a plan read the same and making them once is less work than asking each time;
never for runs that keep all of their teacher's logits, which are many bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from plm.duration import steps
from plm.inheritance import Constant
from plm.models import shape
from plm.objectives.inherit import Inherit
from plm.spec import Checkpoint, RunSpec

if TYPE_CHECKING:
    from plm.reading import Spec
    from sweeps.engine.plan import Plan


def taught(spec: Spec) -> Inherit | None:
    """The objective of a run that has a teacher."""
    objective = getattr(spec, "objective", None)
    return objective if isinstance(objective, Inherit) else None


def reads_stored(objective: Inherit) -> bool:
    """Whether stored lessons say what a run wants to know."""
    from plm.lessons import TEMPERATURES

    return bool(objective.top_k) and (not objective.tail or objective.temperature in TEMPERATURES)


def options(plan: Plan, run_id: str) -> dict[str, Any]:
    """What `Execution` says of a run's teacher: lessons that have to be made serve all runs of the plan that share them."""
    objective = taught(plan.runs[run_id])
    if objective is None or not reads_stored(objective):
        return {}
    key = shared(plan.runs[run_id])
    readers = next(found for found in _readers(plan.runs.values()) if shared(found[0]) == key)
    widest = max(o.top_k for spec in readers if (o := taught(spec)))
    return {"teacher": "stored", "stored_top_k": widest} if stored_is_cheaper(readers) else {}


def _readers(specs: Iterable[Spec]) -> list[list[RunSpec]]:
    """The runs that can read stored lessons, those together that read the same."""
    groups: dict[tuple[Any, ...], list[RunSpec]] = {}
    for spec in specs:
        if isinstance(spec, RunSpec) and (objective := taught(spec)) and reads_stored(objective):
            groups.setdefault(shared(spec), []).append(spec)
    return list(groups.values())


def stored_is_cheaper(readers: Sequence[RunSpec]) -> bool:
    """Whether making lessons once is less work than asking a live teacher for each of some runs."""
    return _made_once(readers) < sum(map(flops, readers))


def _made_once(readers: Sequence[RunSpec]) -> float:
    """FLOPs of making the lessons of some runs, in whole parts."""
    return flops(readers[0], _whole_parts(readers))


def _whole_parts(readers: Sequence[RunSpec]) -> int:
    from plm.lessons import PART

    return -(-max(map(guided_steps, readers)) // PART) * PART


def shared(spec: Spec) -> tuple[Any, ...]:
    """Runs of which this is the same read the same lessons."""
    assert isinstance(spec, RunSpec)
    objective = taught(spec)
    assert objective is not None
    order = (spec.seeds.order, spec.seeds.noise, spec.batch_size, spec.seq_len, spec.dtype, spec.trainer)
    return (objective.teacher, objective.base, spec.data, order)


def guided_steps(spec: RunSpec) -> int:
    """Updates that a teacher has a share in."""
    return _guided_steps(spec)[-1]


def guided_by(spec: RunSpec, steps: int) -> int:
    """Updates, of a run's first ones, that a teacher has a share in."""
    return _guided_steps(spec)[steps]


@lru_cache(maxsize=4096)
def _guided_steps(spec: RunSpec) -> tuple[int, ...]:
    """Of no updates, of the first, of the first two, ...; a run that goes on from another's step is at that step."""
    sizes = {"batch_size": spec.batch_size, "seq_len": spec.seq_len}
    each = (spec.objective.at(spec.init.position + step, **sizes).taught for step in range(spec.total_steps))
    return (0, *accumulate(each))


def flops(spec: RunSpec, guided: int | None = None) -> float:
    """Of the forward passes of a run's live teacher over some steps; None: over those that it guides."""
    objective = taught(spec)
    if objective is None:
        return 0.0
    each = objective.base.flops_per_token(shape(objective.teacher), spec.seq_len)
    return (guided_steps(spec) if guided is None else guided) * spec.batch_size * spec.seq_len * each


# What a plan's teachers cost


@dataclass(frozen=True)
class Teaching:
    """What the teachers of some runs cost."""

    runs: int
    reading: int
    """Of them, those that read stored lessons, because that is less work."""
    live: float
    """FLOPs of forward passes, were all teachers live."""
    planned: float
    """As it is planned."""
    bytes: int
    """Of the lessons that are planned."""


def teaching(specs: Iterable[Spec]) -> Teaching | None:
    """What the teachers of some runs cost; None: there are none."""
    runs = [spec for spec in specs if isinstance(spec, RunSpec) and taught(spec)]
    if not runs:
        return None
    live = planned = sum(map(flops, runs))
    size, reading = 0.0, 0
    for readers in filter(stored_is_cheaper, _readers(runs)):
        planned += _made_once(readers) - sum(map(flops, readers))
        positions = _whole_parts(readers) * readers[0].batch_size * readers[0].seq_len * _scored_share(readers[0])
        size += positions * _position_bytes(readers)
        reading += len(readers)
    return Teaching(len(runs), reading, live, planned, round(size))


def kept_bytes(specs: Iterable[Spec]) -> int:
    """Disk for the lessons that are planned for some runs."""
    found = teaching(specs)
    return found.bytes if found else 0


def _scored_share(spec: RunSpec) -> float:
    """Of the tokens that are read, those that are predicted."""
    objective = taught(spec)
    assert objective is not None
    return float(getattr(objective.base, "rate", 1.0))


def _position_bytes(readers: Sequence[RunSpec]) -> int:
    """Of a scored position in the lessons that serve some runs."""
    from plm.lessons import POSITIONS

    objectives = [objective for spec in readers if (objective := taught(spec))]
    token = 2 if shape(objectives[0].teacher).vocab_size <= 1 << 16 else 4
    return max(o.top_k for o in objectives) * (2 + token) + sum(kind().itemsize for kind in POSITIONS.values())


def said(specs: Iterable[Spec]) -> list[str]:
    """What `--dry-run` says of some runs' teachers: what they cost, and a line for each of ours; nothing without any."""
    specs = list(specs)
    found = teaching(specs)
    if found is None:
        return []
    return [
        *_lineage(specs),
        f"teachers of {found.runs} runs: {found.live:.2e} FLOPs if all are live; planned {found.planned:.2e}, with stored "
        f"lessons for {found.reading} runs that share them ({found.bytes / 1e6:.1f} MB): "
        + (f"cheaper by {1 - found.planned / found.live:.0%}" if found.reading else "live is cheaper"),
    ]


def _lineage(specs: Sequence[Spec]) -> list[str]:
    """Who teaches whom: a line for each checkpoint of ours that is a teacher."""
    taught_by = Counter(
        objective.teacher for spec in specs if (objective := taught(spec)) and isinstance(objective.teacher, Checkpoint)
    )
    lines = []
    for teacher, count in taught_by.items():
        own = taught(teacher.run)
        above = f", itself taught by {_named(own.teacher)}" if own and isinstance(own.teacher, Checkpoint) else ""
        lines.append(f"{_named(teacher)} teaches {count} run{'s' * (count > 1)}{above}")
    return lines


def _named(teacher: Checkpoint) -> str:
    model = shape(teacher.run.init.architecture())
    return f"{teacher.run.run_id} at step {teacher.step} ({model.num_hidden_layers} layers of {model.hidden_size})"


# How long they take


def pieces(specs: Sequence[Spec]) -> dict[str, tuple[Spec, ...]]:
    """Each run as runs whose steps are all alike, to be timed: guided by a live teacher, and not.

    Who reads stored lessons is as fast as who has no teacher, but for the first of its group, who has them made.
    """
    stored = {spec.run_id: readers[0] for readers in filter(stored_is_cheaper, _readers(specs)) for spec in readers}
    found: dict[str, tuple[Spec, ...]] = {}
    for spec in specs:
        objective = taught(spec)
        if objective is None:
            found[spec.run_id] = (spec,)
            continue
        assert isinstance(spec, RunSpec)
        guided = guided_steps(spec) if stored.get(spec.run_id, spec) is spec else 0
        live = replace(objective, rate=Constant(0.5), temperature=2.0, top_k=0, tail=False)
        each = ((live, guided), (objective.base, spec.total_steps - guided))
        found[spec.run_id] = tuple(replace(spec, objective=o, duration=steps(count)) for o, count in each if count)
    return found


def kind(objective: Any) -> Any:
    """What of an objective bears on the time of a step."""
    return (objective.base, shape(objective.teacher)) if isinstance(objective, Inherit) else objective
