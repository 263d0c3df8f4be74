"""What is finished of the readings of trainings: by a call, and by all calls that a sweep has had."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, TypeAlias

from plm import words
from plm.analyses.knowledge import Knowledge
from plm.objects import side_by_side
from plm.reading import Reading
from plm.spec import digest
from plm.store import RunFolder, Store
from sweeps.engine.embryo import Growth, columns_of
from sweeps.engine.plan import Plan
from sweeps.engine.record import noted, written
from sweeps.engine.sweep import ByStep, Point

Asking: TypeAlias = tuple[Point, Reading]
"""The labels of a reading, and the reading."""


def collect(plan: Plan, store: Store) -> list[Growth]:
    """What is finished of a plan, by training and analysis, in the order of its cells."""
    axes = _axes(plan)

    def shown(labels: Point, reading: Reading) -> Hashable:
        return labels[axes.training], labels[axes.analysis], _rest(labels, axes)

    found = (_growth_of(asked, axes, store) for asked in _by(shown, _asked(plan)).values())
    there = [growth for growth in found if growth is not None]
    return [*there, *same_words(there)]


def ever(plan: Plan, known: Sequence[Asking], store: Store) -> list[Growth]:
    """What is finished of all that the sweep was ever asked of a plan's trainings, by earlier calls too.

    A curve is of one analysis, gold data and all. Of several by one name it is what is asked for now; else, or if several
    are, what was read at most steps, and of that what has most rows.

    Args:
        known: As `ever_asked` finds it.
    """
    axes = _axes(plan)

    def curve(labels: Point, reading: Reading) -> Hashable:
        return labels[axes.training], digest(reading.analysis)

    now = {curve(*asked) for asked in _asked(plan)}
    found = {key: _growth_of(asked, axes, store) for key, asked in _by(curve, known).items()}
    curves = {key: growth for key, growth in found.items() if growth is not None}
    best = sorted(curves, key=lambda key: (key in now, len(curves[key].steps), curves[key].rows))
    shown = {(curves[key].training, curves[key].analysis): curves[key] for key in best}
    return [shown[name] for name in dict.fromkeys((growth.training, growth.analysis) for growth in curves.values())]


def ever_asked(plan: Plan, store: Store) -> list[Asking]:
    """Each reading of a plan's trainings that a call of the sweep has asked for, those of this one first.

    A name may have stood for other models in an earlier call: what was read of those is left out.
    """
    axes, own = _axes(plan), _asked(plan)
    points = {cell.labels[axes.training]: cell.point for cell in plan.cells}

    @cache
    def source(training: str, seed: int, step: int) -> str | None:
        """What the training is at a step now, as the sweep itself finds it."""
        try:
            spec = plan.sweep.run(**points[training] | {"seed": seed, axes.step: step})
        except (ValueError, OSError):
            return None
        return digest(spec.source) if isinstance(spec, Reading) else None

    known = {reading.run_id for _, reading in own}
    earlier = [
        (cell["run_id"], cell["point"])
        for cell in noted(plan.sweep.name, store)
        if cell["run_id"] not in known and cell["point"].get(axes.training) in points
    ]
    specs = side_by_side(lambda cell: written(RunFolder(store, cell[0])), earlier)
    return own + [
        (labels, spec)
        for (_, labels), spec in zip(earlier, specs, strict=True)
        if isinstance(spec, Reading)
        and digest(spec.source) == source(labels[axes.training], labels.get("seed", 0), labels[axes.step])
    ]


def _axes(plan: Plan) -> ByStep:
    assert plan.sweep.by_step is not None
    return plan.sweep.by_step


def _asked(plan: Plan) -> list[Asking]:
    return [(cell.labels, cell.spec) for cell in plan.cells if isinstance(cell.spec, Reading)]


def _by(key: Callable[[Point, Reading], Hashable], asked: Iterable[Asking]) -> dict[Hashable, list[Asking]]:
    groups: dict[Hashable, list[Asking]] = {}
    for labels, reading in asked:
        groups.setdefault(key(labels, reading), []).append((labels, reading))
    return groups


def _rest(labels: Point, axes: ByStep) -> tuple[tuple[str, Any], ...]:
    return tuple((n, v) for n, v in labels.items() if n not in (*axes.axes, "seed"))


def _growth_of(asked: Sequence[Asking], axes: ByStep, store: Store) -> Growth | None:
    """The seeds that are there of one curve, at the steps that they share; it is called as the first of its readings.

    None: nothing is finished.
    """
    labels, _ = asked[0]
    runs = {(int(own.get("seed", 0)), int(own[axes.step])): RunFolder(store, one.run_id) for own, one in asked}
    status = side_by_side(RunFolder.status, runs.values())
    done = {at: run for (at, run), found in zip(runs.items(), status, strict=True) if found == "done"}
    if not done:
        return None
    seeds = _abreast(done)
    steps = sorted(set.intersection(*({step for own, step in done if own == seed} for seed in seeds)))
    return Growth(
        str(labels[axes.training]),
        str(labels[axes.analysis]),
        _rest(labels, axes),
        tuple(steps),
        seeds,
        {(seed, step): done[seed, step] for seed in seeds for step in steps},
        len(runs),
        tuple(sorted({seed for seed, _ in runs} - {*seeds})),
    )


def same_words(found: Sequence[Growth]) -> list[Growth]:
    """Trainings that are read alike once more, on the words, or facts' objects, that are one piece in every vocabulary."""
    alike: dict[tuple[Any, ...], list[Growth]] = {}
    for growth in found:
        if growth.member.unit is words.UNIT or growth.member is Knowledge:
            alike.setdefault((growth.analysis, growth.rest), []).append(growth)
    again = []
    for growths in alike.values():
        there = [_scored(growth) for growth in growths]
        common = frozenset.intersection(
            *(frozenset(one for one, pieces in own.items() if pieces == 1) for own in there)
        )
        if len(growths) > 1 and common and any(len(common) < len(own) for own in there):
            said = ("words", "of one piece in every vocabulary")
            again += [replace(growth, rest=(*growth.rest, said), only=common) for growth in growths]
    return again


def _scored(growth: Growth) -> dict[str, int]:
    """What was scored, and in how many pieces it is; facts are asked for only where their object is one."""
    run = next(iter(growth.runs.values()))
    if growth.member is Knowledge:
        return dict.fromkeys(columns_of(run, ("id",))["id"], 1)
    table = columns_of(run, ("id", "pieces", "right"))
    rows = zip(table["id"], table["pieces"], table["right"], strict=True)
    return {name: pieces for name, pieces, right in rows if right is not None}


def _abreast(done: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """The seeds that are shown together: of those that were read as far as any, as many as share most steps.

    A seed that has just begun would else cut off the curves of the others.
    """
    steps: dict[int, set[int]] = {}
    for seed, step in sorted(done):
        steps.setdefault(seed, set()).add(step)
    last = max(map(max, steps.values()))
    far = sorted((seed for seed in steps if last in steps[seed]), key=lambda seed: -len(steps[seed]))
    shared = [set.intersection(*(steps[seed] for seed in far[:count])) for count in range(1, len(far) + 1)]
    count = max(range(1, len(far) + 1), key=lambda count: (count * len(shared[count - 1]), count))
    return tuple(sorted(far[:count]))
