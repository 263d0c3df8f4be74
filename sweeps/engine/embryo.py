"""What readings of trainings say: curves over the steps, when a class passes a threshold, and how sure that is.

A curve is what was read; a crossing is read off its monotone fit, so that a dip does not undo what was passed and a peak
of one step does not pass it; a class that ends below the level again has lost it. Intervals come from drawing anew what
the analysis calls a cluster (the sentences), and the pretraining seeds where there are several; steps and classes share
each draw, so that they can be compared. Trainings of several vocabularies are also compared on the words that are one
piece in all of them.

Shape letters: R resamples, S steps, K seeds, C clusters.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from plm import covariates, words
from plm.analyses import FIRST, Analysis, Unit
from plm.analyses.knowledge import Knowledge
from plm.objects import side_by_side
from plm.reading import Reading, Spec, rows_of
from plm.registry import member
from plm.rng import numpy_stream
from plm.spec import digest, from_json
from plm.store import RunFolder, Store
from sweeps.engine.plan import Plan
from sweeps.engine.record import noted
from sweeps.engine.sweep import ByStep, Point

RESAMPLES = 200
LEVELS = (0.5, 0.8, 0.9)
LEVEL = 0.95
CLEAR = 0.02
"""A plateau that is not so far above its baseline was never reached: nothing was learnt that could have a date."""

Curve = Float[np.ndarray, " S"]
Draws = Float[np.ndarray, "R S"]


@dataclass(frozen=True)
class Crossing:
    """When a curve passes a level for good."""

    step: float | None
    """None: not within the steps that were read (censored)."""
    low: float | None
    high: float | None
    """Of the interval; None: beyond the last step."""
    lost: bool = False
    """The curve ends below the level after all."""


@dataclass(frozen=True)
class Growth:
    """One analysis of one training: what was read at each step, with each pretraining seed."""

    training: str
    analysis: str
    rest: tuple[tuple[str, Any], ...]
    """The other axes' labels."""
    steps: tuple[int, ...]
    seeds: tuple[int, ...]
    """Those that were read at every one of `steps`."""
    runs: Mapping[tuple[int, int], RunFolder]
    """(seed, step) -> the finished reading."""
    asked: int
    """Readings that were asked for."""
    behind: tuple[int, ...] = ()
    """Seeds that were asked for and have not been read so far: they are left out."""
    only: frozenset[str] | None = None
    """The ids of the words or facts that count; None: all."""

    @property
    def member(self) -> type[Analysis]:
        """The analysis's class."""
        found: type[Analysis] = member("analyses", self.analysis.partition(":")[0])
        return found

    @cached_property
    def metrics(self) -> dict[tuple[int, int], dict[str, float]]:
        """(seed, step) -> the summary."""
        if self.only is None:
            return {at: run.result()["metrics"] for at, run in self.runs.items()}
        summary: Any = self.member.summary  # of the rows alone
        return {
            at: summary(None, [row for row in rows_of(run) if row["id"] in self.only]) for at, run in self.runs.items()
        }

    @cached_property
    def rows(self) -> int:
        """Things that were scored at each step."""
        return int(next(iter(self.runs.values())).result()["rows"]) if self.only is None else len(self.only)

    def _table(self, at: tuple[int, int], columns: Sequence[str]) -> dict[str, list[Any]]:
        """Columns of the rows that were read with a seed at a step."""
        table = _table(self.runs[at], columns if self.only is None else ["id", *columns])
        if self.only is None:
            return table
        rows = [i for i, name in enumerate(table["id"]) if name in self.only]
        return {column: [values[i] for i in rows] for column, values in table.items()}

    def names(self, family: str) -> list[str]:
        """What a family has numbers of at every step: `accuracy/DET`, or `accuracy` alone."""
        common = set.intersection(*(set(each) for each in self.metrics.values()))
        first = next(iter(self.metrics.values()))
        return [name for name in first if name in common and name.partition("/")[0] == family]

    @cached_property
    def kinds(self) -> dict[str, list[str]]:
        """What the first family has numbers of, by the column that names them (parts of speech, forms of verbs)."""
        family, unit = self.member.curves[0], self.member.unit
        names = self.names(family)
        if unit is None:
            return {"": [name for name in names if "/" in name] or names} if names else {}
        column_of = {f"{family}/{group}": column for group, column in self._columns(unit).items()}
        found: dict[str, list[str]] = {}
        for column in unit.by:
            own = [name for name in names if column_of.get(name) == column]
            apart = all(name.count("/") > 1 for name in own)  # a probe's are of a label set and a layer
            for name in own:
                found.setdefault(name.split("/")[1] if apart else column, []).append(name)
        return found

    def _columns(self, unit: Unit) -> dict[str, str]:
        """Which column a group's name is a value of; of two, the last."""
        table = self._table(next(iter(self.runs)), unit.by)
        return {str(value): column for column in unit.by for value in table[column] if value not in (None, "")}

    def told(self) -> str:
        """What the rows say that no number does, as Markdown; of the first seed."""
        if self.member.told.__func__ is Analysis.told.__func__:  # type: ignore[attr-defined]  # so that none is read
            return ""
        read = {step: rows_of(self.runs[self.seeds[0], step]) for step in self.steps}
        return f"## {self.analysis} of {self.training}, in full\n\n{self.member.told(read)}"

    def curve(self, name: str) -> Curve:
        """A number at each step, the mean over seeds."""
        return np.mean([[self.metrics[seed, step][name] for step in self.steps] for seed in self.seeds], axis=0)

    def level(self, name: str) -> float:
        """A number that does not change with the steps, such as a baseline: its mean."""
        return float(self.curve(name).mean())

    def beside(self, name: str, family: str | None) -> float | None:
        """What another family says of the same class, where that does not change with the steps; None: nothing."""
        rest = name.partition("/")[2]
        found = f"{family}/{rest}" if rest else str(family)
        return self.level(found) if family and found in self.names(family) else None

    def floor(self, name: str) -> float:
        """From what shares of a class's plateau are counted (`Analysis.floor`)."""
        if self.member.floor == FIRST:
            return float(self.curve(name)[0])
        return self.beside(name, self.member.floor) or 0.0

    @cached_property
    def resampled(self) -> dict[str, Draws]:
        """Curves of the first family over draws, by name; empty where neither rows nor seeds can be drawn."""
        unit, family = self.member.unit, self.member.curves[0]
        draw = numpy_stream(0, "growth", self.training, self.analysis)
        drawn = draw.integers(len(self.seeds), size=(RESAMPLES, len(self.seeds)))
        if unit is None:
            return self._over_seeds(family, drawn) if len(self.seeds) > 1 else {}
        sums, counts, clusters = self._sums(unit)
        weights = draw.multinomial(clusters, np.full(clusters, 1 / clusters), RESAMPLES).astype(float)
        found = {}
        for group in sums:
            above, below = (np.einsum("rc,ksc->rks", weights, part[group]) for part in (sums, counts))
            shares = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
            if (counts[group].sum((0, 1)) > 0).sum() > 1 or len(self.seeds) > 1:  # one cluster alone does not vary
                found[f"{family}/{group}"] = np.take_along_axis(shares, drawn[:, :, None], axis=1).mean(1)
        return found | self._adjusted(weights, drawn)

    def _adjusted(self, weights: Any, drawn: Any) -> dict[str, Draws]:
        """Curves of classes with the covariates taken off, in the same draws; empty where there are no covariates."""
        if covariates.ADJUSTED not in self.member.curves or not self.names(covariates.ADJUSTED):
            return {}
        tables = {at: self._table(at, covariates.COLUMNS) for at in self.runs}
        there = dict.fromkeys(value for table in tables.values() for value in table[covariates.CLUSTER])
        clusters = {value: i for i, value in enumerate(there)}
        each = {at: covariates.adjusted(table, clusters, weights) for at, table in tables.items()}
        found = {}
        for name in self.names(covariates.ADJUSTED):
            curves = np.array([[each[seed, step][name] for step in self.steps] for seed in self.seeds])  # (K, S, R)
            found[name] = np.take_along_axis(curves.transpose(2, 0, 1), drawn[:, :, None], axis=1).mean(1)
        return found

    def _over_seeds(self, family: str, drawn: Any) -> dict[str, Draws]:
        found = {}
        for name in self.names(family):
            each = np.array([[self.metrics[seed, step][name] for step in self.steps] for seed in self.seeds])
            found[name] = each[drawn].mean(1)
        return found

    def _sums(self, unit: Unit) -> tuple[dict[str, Any], dict[str, Any], int]:
        """Of each group the sums and counts (K, S, C) of the value, and how many clusters there are."""
        tables = {at: self._table(at, (unit.value, unit.cluster, *unit.by)) for at in self.runs}
        there = dict.fromkeys(value for table in tables.values() for value in table[unit.cluster])
        clusters = {value: i for i, value in enumerate(there)}
        shape = (len(self.seeds), len(self.steps), len(clusters))
        sums, counts, own = dict[str, Any](), dict[str, Any](), self._columns(unit)
        for (seed, step), table in tables.items():
            at = (self.seeds.index(seed), self.steps.index(step))
            for column in unit.by:
                for group, cluster, value in zip(table[column], table[unit.cluster], table[unit.value], strict=True):
                    if value is not None and own.get(str(group)) == column:
                        sums.setdefault(str(group), np.zeros(shape))[*at, clusters[cluster]] += value
                        counts.setdefault(str(group), np.zeros(shape))[*at, clusters[cluster]] += 1
        return sums, counts, len(clusters)

    def band(self, name: str) -> tuple[Curve, Curve] | None:
        """The interval of a curve at each step; None where nothing was drawn."""
        if name not in self.resampled:
            return None
        low, high = np.nanquantile(self.resampled[name], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        return low, high

    @cached_property
    def _fits(self) -> dict[str, tuple[Draws, Float[np.ndarray, " R"]]]:
        """Monotone fits of the draws in which every step has a value, and what each draw begins with."""
        whole = {name: draws[np.isfinite(draws).all(1)] for name, draws in self.resampled.items()}
        return {name: (monotone(draws), draws[:, 0]) for name, draws in whole.items()}

    def risen(self, name: str, share: float) -> Crossing:
        """When a curve has for good come a share of the way from its floor to its plateau, the last value of its fit."""
        above = None if self.member.floor == FIRST else self.floor(name)
        return self.crossing(name, share, relative=True, above=above)

    def crossing(self, name: str, level: float, *, relative: bool, above: float | None = 0.0) -> Crossing:
        """When a curve passes a level for good.

        Args:
            relative: The level is a share of the way from `above` to the plateau, which is the fit's last value.
            above: What scores as much without the ability; None: what is read at the first step, by each draw its own,
                since things that are easy from the start are as often among those that are drawn there.
        """
        if self._never_learnt(name):
            return Crossing(None, None, None)
        first = float(self.curve(name)[0]) if above is None else above
        own = passed(self.steps, monotone(self.curve(name)[None]), level, relative=relative, above=first)[0]
        fits, firsts = self._fits.get(name, (np.empty((0, len(self.steps))), np.empty(0)))
        lost = bool(np.isfinite(own)) and self._ends_below(name, level, relative=relative, above=first)
        if not len(fits):
            return Crossing(_finite(own), None, None, lost)
        ends = np.sort(passed(self.steps, fits, level, relative=relative, above=firsts if above is None else above))
        low, high = (ends[round(q * (len(ends) - 1))] for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        return Crossing(_finite(own), _finite(low), _finite(high), lost)

    def _never_learnt(self, name: str) -> bool:
        """Whether covariates are taken off a class that comes to nothing: what is left tells only of the other classes."""
        family, _, rest = name.partition("/")
        own = f"{self.member.curves[0]}/{rest}"
        return family == covariates.ADJUSTED and bool(monotone(self.curve(own)[None])[0, -1] < CLEAR)

    def _ends_below(self, name: str, level: float, *, relative: bool, above: float) -> bool:
        """Whether a curve is below a level at the last step, with all of its interval if it has one."""
        curve, band = self.curve(name), self.band(name)
        goal = above + level * (monotone(curve[None])[0, -1] - above) if relative else level
        return bool((band[1] if band else curve)[-1] < goal - 1e-12)


def collect(plan: Plan, store: Store) -> list[Growth]:
    """What is finished of a plan, by training and analysis, in the order of its cells."""
    found = (_growth_of(asked, plan, store) for asked in _by(_row, _asked(plan), plan).values())
    there = [growth for growth in found if growth is not None]
    return [*there, *same_words(there)]


def ever(plan: Plan, store: Store) -> list[Growth]:
    """What is finished of all that the sweep was ever asked of a plan's trainings, by earlier calls too.

    A curve is of one analysis, gold data and all. Of several by one name it is what is asked for now; else, or if several
    are, what was read at most steps, and of that what has most rows.
    """
    own = {_curve(labels, reading, plan) for labels, reading in _asked(plan)}
    curves = {
        key: growth
        for key, asked in _by(_curve, ever_asked(plan, store), plan).items()
        if (growth := _growth_of(asked, plan, store)) is not None
    }
    best = sorted(curves, key=lambda key: (key in own, len(curves[key].steps), curves[key].rows))
    shown = {(curves[key].training, curves[key].analysis): curves[key] for key in best}
    return [shown[name] for name in dict.fromkeys((growth.training, growth.analysis) for growth in curves.values())]


def ever_asked(plan: Plan, store: Store) -> list[tuple[Point, Reading]]:
    """The labels of each reading of a plan's trainings that a call of the sweep has asked for, and the reading.

    A name may have stood for other models in an earlier call: what was read of those is left out.
    """
    axes, own = plan.sweep.by_step, _asked(plan)
    assert axes is not None
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
    specs = side_by_side(lambda cell: _written(RunFolder(store, cell[0])), earlier)
    return own + [
        (labels, spec)
        for (_, labels), spec in zip(earlier, specs, strict=True)
        if isinstance(spec, Reading)
        and digest(spec.source) == source(labels[axes.training], labels.get("seed", 0), labels[axes.step])
    ]


def _asked(plan: Plan) -> list[tuple[Point, Reading]]:
    return [(cell.labels, cell.spec) for cell in plan.cells if isinstance(cell.spec, Reading)]


def _written(run: RunFolder) -> Spec | None:
    """What a run is; None: it was not begun, or what it was made of is no longer there."""
    try:
        return from_json((run.get("spec.json") or b"").decode())
    except (ValueError, OSError):
        return None


Asking: TypeAlias = tuple[Point, Reading]


def _by(
    key: Callable[[Point, Reading, Plan], Hashable], asked: Iterable[Asking], plan: Plan
) -> dict[Hashable, list[Asking]]:
    groups: dict[Hashable, list[Asking]] = {}
    for labels, reading in asked:
        groups.setdefault(key(labels, reading, plan), []).append((labels, reading))
    return groups


def _row(labels: Point, reading: Reading, plan: Plan) -> Hashable:
    """What one call shows by itself: a training and an analysis by their names, and the other axes."""
    axes = plan.sweep.by_step
    assert axes is not None
    return labels[axes.training], labels[axes.analysis], _rest(labels, axes)


def _curve(labels: Point, reading: Reading, plan: Plan) -> Hashable:
    """What may be joined over calls: a training, whose models were compared, and an analysis by its content."""
    axes = plan.sweep.by_step
    assert axes is not None
    return labels[axes.training], digest(reading.analysis)


def _rest(labels: Point, axes: ByStep) -> tuple[tuple[str, Any], ...]:
    return tuple((n, v) for n, v in labels.items() if n not in (*axes.axes, "seed"))


def _growth_of(asked: Sequence[Asking], plan: Plan, store: Store) -> Growth | None:
    """What is finished of readings that differ in seed and step; it is called as the first of them."""
    axes, (labels, _) = plan.sweep.by_step, asked[0]
    assert axes is not None
    at = {(int(own.get("seed", 0)), int(own[axes.step])): RunFolder(store, one.run_id) for own, one in asked}
    return _growth(str(labels[axes.training]), str(labels[axes.analysis]), _rest(labels, axes), at)


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
        return dict.fromkeys(_table(run, ("id",))["id"], 1)
    table = _table(run, ("id", "pieces", "right"))
    rows = zip(table["id"], table["pieces"], table["right"], strict=True)
    return {name: pieces for name, pieces, right in rows if right is not None}


def _growth(training: str, analysis: str, rest: Any, asked: Mapping[tuple[int, int], RunFolder]) -> Growth | None:
    """The seeds that are there, at the steps that they share; None: nothing is finished."""
    status = side_by_side(RunFolder.status, asked.values())
    done = {at: run for (at, run), found in zip(asked.items(), status, strict=True) if found == "done"}
    if not done:
        return None
    seeds = _abreast(done)
    steps = sorted(set.intersection(*({step for own, step in done if own == seed} for seed in seeds)))
    runs = {(seed, step): done[seed, step] for seed in seeds for step in steps}
    behind = tuple(sorted({seed for seed, _ in asked} - {*seeds}))
    return Growth(training, analysis, rest, tuple(steps), seeds, runs, len(asked), behind)


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


def _table(run: RunFolder, columns: Sequence[str]) -> dict[str, list[Any]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(run.get("rows.parquet") or b""), columns=list(columns))
    return table.to_pydict()


def monotone(curves: Draws) -> Draws:
    """The closest curves that never fall (in squares, each step alike).

    Source: the max-min form of isotonic regression (Barlow et al. 1972), which fits all curves in one pass.
    """
    steps = curves.shape[1]
    sums = np.concatenate([np.zeros((len(curves), 1)), curves.cumsum(1)], axis=1)
    first, last = np.arange(steps)[:, None], np.arange(steps)[None, :]
    means = (sums[:, None, 1:] - sums[:, :-1, None]) / np.maximum(last - first + 1, 1)  # of steps `first` to `last`
    means = np.where(last >= first, means, np.inf)
    least = np.minimum.accumulate(means[:, :, ::-1], axis=2)[:, :, ::-1]  # over all later ends
    return np.where(last >= first, least, -np.inf).max(1)


def passed(
    steps: Sequence[int],
    fits: Draws,
    level: float,
    *,
    relative: bool = False,
    above: float | Float[np.ndarray, " R"] = 0.0,
) -> Float[np.ndarray, " R"]:
    """The step at which each monotone fit passes a level, between two steps on a log scale; infinite: it does not.

    Args:
        relative: The level is a share of the way from `above` to a fit's last value.
    """
    last = fits[:, -1]
    goal = above + level * (last - above) if relative else np.full(len(fits), level)
    reached = fits >= goal[:, None] - 1e-12
    learnt = reached[:, -1] & ((last >= above + CLEAR) | (not relative))
    after = reached.argmax(1)
    before, row, log = np.maximum(after - 1, 0), np.arange(len(fits)), np.log1p(steps)
    rise = fits[row, after] - fits[row, before]
    share = np.divide(goal - fits[row, before], rise, out=np.ones(len(fits)), where=rise > 0)
    at = np.expm1(log[before] + share * (log[after] - log[before]))
    return np.where(learnt, np.where(after == 0, float(steps[0]), at), np.inf)


def _finite(step: float) -> float | None:
    return float(step) if np.isfinite(step) else None
