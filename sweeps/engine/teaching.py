"""How the runs of a plan are taught, by live teachers or by stored lessons, and what either costs.

Which of the two changes no number beyond rounding, and a run that goes on or is repeated stays with the one it began with.
Lessons are stored where several runs of a plan read the same, making them once is less work than asking each time, and
the store's disk has room; never for runs that keep all of their teacher's logits, which are many bytes.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from plm.duration import steps
from plm.inheritance import Constant, members
from plm.models import shape
from plm.objectives.inherit import Inherit
from plm.spec import Checkpoint, External, RunSpec, Source
from plm.store import Store

if TYPE_CHECKING:
    from plm.reading import Spec
    from sweeps.engine.plan import Plan

SHARE = 0.5
"""Of the store's disk, what is free or already lessons: so much may be lessons."""


def taught(spec: Spec) -> Inherit | None:
    """The objective of a run that has a teacher."""
    objective = getattr(spec, "objective", None)
    return objective if isinstance(objective, Inherit) else None


def reads_stored(objective: Inherit) -> bool:
    """Whether stored lessons say what a run wants to know."""
    from plm.lessons import TEMPERATURES

    return bool(objective.top_k) and (not objective.tail or objective.temperature in TEMPERATURES)


def options(plan: Plan, run_id: str, store: Store, *, live: bool = False) -> dict[str, Any]:
    """What `Execution` says of a run's teacher: lessons that have to be made serve all runs of the plan that share them."""
    if live or taught(plan.runs[run_id]) is None:  # the groups of a plan take a pass over all its runs
        return {}
    for readers in stored(plan.runs.values(), room(store)):
        if any(spec.run_id == run_id for spec in readers):
            return {"teacher": "stored", "stored_top_k": _widest(readers)}
    return {}


def stored(specs: Iterable[Spec], room: float = math.inf) -> list[list[RunSpec]]:
    """The runs that read stored lessons, those together that share them; one group after the other while there is room.

    Args:
        room: Bytes that lessons may take.
    """
    found = []
    for readers in _readers(specs):
        if stored_is_cheaper(readers) and (size := _bytes(readers)) <= room:
            found.append(readers)
            room -= size
    return found


def room(store: Store) -> float:
    """Bytes that lessons may take in a store: `SHARE` of what is free or already lessons, so that making some changes nothing."""
    there = next(path for path in (store.root, *store.root.parents) if path.exists())
    kept = sum(path.stat().st_size for path in (store.root / "teachers").glob("*/*.arrow"))
    return SHARE * (shutil.disk_usage(there).free + kept)


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


def _widest(readers: Sequence[RunSpec]) -> int:
    return max(objective.top_k for spec in readers if (objective := taught(spec)))


def _bytes(readers: Sequence[RunSpec]) -> float:
    """Of the lessons that serve some runs."""
    from plm.lessons import POSITIONS

    first, objective = readers[0], taught(readers[0])
    assert objective is not None
    token = 2 if shape(members(objective.teacher)[0]).vocab_size <= 1 << 16 else 4
    each = _widest(readers) * (2 + token) + sum(kind().itemsize for kind in POSITIONS.values())
    scored = float(getattr(objective.base, "rate", 1.0))  # of the tokens that are read, those that are predicted
    return _whole_parts(readers) * first.batch_size * first.seq_len * scored * each


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
    each = objective.teachers_flops_per_token(spec.data, spec.seq_len)  # type: ignore[arg-type]
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


def teaching(specs: Iterable[Spec], groups: Sequence[Sequence[RunSpec]]) -> Teaching | None:
    """What the teachers of some runs cost; None: there are none.

    Args:
        groups: Runs that read stored lessons, those together that share them; others than `specs` among them are done.
    """
    runs = {
        spec.run_id: spec
        for spec in specs
        if isinstance(spec, RunSpec) and (objective := taught(spec)) and members(objective.teacher)
    }
    if not runs:
        return None
    live, left = sum(map(flops, runs.values())), _left(groups, runs)
    planned = live - sum(_spared(left).values())
    return Teaching(len(runs), sum(map(len, left)), live, planned, round(sum(map(_bytes, left))))


def _left(groups: Iterable[Sequence[RunSpec]], run_ids: Container[str]) -> list[list[RunSpec]]:
    """What is left of groups that share their lessons if some runs are."""
    left = ([spec for spec in readers if spec.run_id in run_ids] for readers in groups)
    return [readers for readers in left if readers]


def _spared(groups: Iterable[Sequence[RunSpec]]) -> dict[str, float]:
    """FLOPs by which stored lessons are less than live teachers, by run; the first of a group has them made, and pays."""
    return {
        spec.run_id: flops(spec) - (_made_once(readers) if spec is readers[0] else 0.0)
        for readers in groups
        for spec in readers
    }


def planned(plan: Plan, store: Store, *, live: bool = False) -> Teaching | None:
    """What the teachers of the missing runs of a plan cost; what is there of their lessons is counted as if it were not."""
    missing = [plan.runs[run_id] for run_id in plan.missing]
    return teaching(missing, [] if live else stored(plan.runs.values(), room(store)))


def spared(plan: Plan, store: Store, *, live: bool = False) -> dict[str, float]:
    """FLOPs by which stored lessons are less for missing runs than live teachers."""
    return {} if live else _spared(_left(stored(plan.runs.values(), room(store)), set(plan.missing)))


def kept_bytes(plan: Plan, store: Store, *, live: bool = False) -> int:
    """Disk for the lessons that are planned for the missing runs of a plan."""
    found = planned(plan, store, live=live)
    return found.bytes if found else 0


def said(plan: Plan, store: Store, *, live: bool = False) -> list[str]:
    """What `--dry-run` says of the teachers of the missing runs: what they cost, and a line for each; nothing without any."""
    found = planned(plan, store, live=live)
    if found is None:
        return []
    if live:
        how = "live, as is asked for"
    elif found.reading:
        how = f"cheaper by {1 - found.planned / found.live:.0%}"
    elif stored(plan.runs.values()):
        how = "live: lessons would take too much of the store's disk"
    else:
        how = "live is cheaper"
    return [
        *_lineage([plan.runs[run_id] for run_id in plan.missing]),
        f"teachers of {found.runs} runs: {found.live:.2e} FLOPs if all are live; planned {found.planned:.2e}, with stored "
        f"lessons for {found.reading} runs that share them ({found.bytes / 1e6:.1f} MB): {how}",
    ]


def _lineage(specs: Sequence[Spec]) -> list[str]:
    """Who teaches whom: a line for each teacher."""
    taught_by = Counter(
        teacher
        for spec in specs
        if (objective := taught(spec))
        for teacher in dict.fromkeys(members(objective.teacher))
    )
    return [
        f"{_named(teacher)} teaches {count} run{'s' * (count > 1)}{_above(teacher)}"
        for teacher, count in taught_by.items()
    ]


def _above(teacher: Source) -> str:
    if isinstance(teacher, External):
        return "; what its pretraining cost is not known and not counted"
    own = taught(teacher.run)
    return f", itself taught by {' and '.join(map(_named, members(own.teacher)))}" if own else ""


def _named(teacher: Source) -> str:
    model = shape(teacher)
    who = f"{teacher.run.run_id} at step {teacher.step}" if isinstance(teacher, Checkpoint) else teacher.name
    return f"{who} ({model.num_hidden_layers} layers of {model.hidden_size})"


# How long they take


def pieces(plan: Plan, store: Store, *, live: bool = False) -> dict[str, tuple[Spec, ...]]:
    """Each missing run as runs whose steps are all alike, to be timed: guided by a live teacher, and not.

    Who reads stored lessons is as fast as who has no teacher, but for the first of its group, who has them made.
    """
    missing = {run_id: plan.runs[run_id] for run_id in plan.missing}
    groups = [] if live else stored(plan.runs.values(), room(store))
    told = {spec.run_id for readers in _left(groups, missing) for spec in readers[1:]}
    found: dict[str, tuple[Spec, ...]] = {}
    for run_id, spec in missing.items():
        objective = taught(spec)
        if objective is None:
            found[run_id] = (spec,)
            continue
        assert isinstance(spec, RunSpec)
        guided = 0 if run_id in told else guided_steps(spec)
        asking = replace(objective, rate=Constant(0.5), temperature=2.0, top_k=0, tail=False)
        each = ((asking, guided), (objective.base, spec.total_steps - guided))
        found[run_id] = tuple(replace(spec, objective=o, duration=steps(count)) for o, count in each if count)
    return found


def kind(objective: Any) -> Any:
    """What of an objective bears on the time of a step."""
    if not isinstance(objective, Inherit):
        return objective
    return (objective.base, getattr(objective.teacher, "by", ""), *map(shape, members(objective.teacher)))
