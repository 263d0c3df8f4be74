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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from plm import covariates
from plm.analyses import FIRST, Analysis, Unit
from plm.reading import rows_of
from plm.registry import member
from plm.rng import numpy_stream
from plm.store import RunFolder

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
        table = columns_of(self.runs[at], columns if self.only is None else ["id", *columns])
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


def columns_of(run: RunFolder, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Some columns of the rows of a finished reading."""
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
