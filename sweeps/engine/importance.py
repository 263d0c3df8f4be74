"""What each layer is worth, from the scores of models with some layers drawn afresh.

Two averages of what keeping a layer adds, and they differ when layers stand in for one another. The effect weighs all
sets of other layers alike (the slope of a regression on uniformly drawn masks; the Banzhaf value). The Shapley value
weighs all numbers of other layers alike, and adds up over the layers to the gain from none to all.

Shape letters: M masks, L layers, K seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.masks import is_uniform
from sweeps.engine import results
from sweeps.engine.markdown import section
from sweeps.engine.plan import Plan
from sweeps.engine.results import Arm
from sweeps.engine.stats import Interval, seeds_interval
from sweeps.engine.sweep import asked

Floats = NDArray[np.float64]
RESAMPLES = 1000


@dataclass(frozen=True)
class Worth:
    """A number for one layer: its mean over seeds, and what would come out with other seeds or other masks."""

    values: tuple[float, ...]
    """At each seed."""
    over_seeds: Interval | None
    over_masks: Interval | None
    """None: all masks there are were run."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.values))


@dataclass(frozen=True)
class Importance:
    """What each layer is worth, from the input side."""

    effects: tuple[Worth, ...]
    shapley: tuple[Worth, ...]
    explained: float | None
    """Share of the variance between masks that the effects alone explain; the rest is interaction. None: no variance."""
    masks: int
    exhaustive: bool
    """Whether these are all masks there are."""


def importance(masks: Sequence[str], scores: Sequence[Sequence[float]], resamples: int = RESAMPLES) -> Importance:
    """Estimate it from different masks (`1` = drawn afresh), each scored at the same seeds.

    Masks other than none and all are taken for uniformly drawn. Where not all masks are there, none and all serve the
    Shapley values alone: nobody drew them.

    Args:
        scores: (M, K), a row a mask.

    Raises:
        ValueError: the masks lack none or all, are too few, or do not tell the layers apart.
    """
    count = len(masks[0]) if masks else 0
    kept = np.array([[bit == "0" for bit in mask] for mask in masks], dtype=float).reshape(len(masks), count)
    exhaustive, ends = len(masks) == 2**count, {"0" * count, "1" * count} - {*masks}
    drawn = [i for i, row in enumerate(kept) if exhaustive or 0 < row.sum() < count]
    rank = np.linalg.matrix_rank(_design(kept[drawn])) if drawn else 0
    if ends or rank <= count:
        raise ValueError(
            f"{len(masks)} masks of {count} layers given: none, all and at least {count + 1} others are needed, in which "
            "each layer is redrawn sometimes. Run more: mask=none,uniform:64,all"
        )
    table = np.asarray(scores, dtype=float)
    rows: Sequence[NDArray[np.int64]] = [] if exhaustive else list(_redrawn(drawn, resamples))
    at_ends = [i for i in range(len(kept)) if i not in drawn]
    again_effects = np.array([main_effects(kept[r], table[r].mean(axis=1, keepdims=True))[:, 0] for r in rows])
    again_shapley = np.array([_shapley_of(kept, table, [*at_ends, *r])[:, 0] for r in rows])
    effects = main_effects(kept[drawn], table[drawn])
    return Importance(
        _worths(effects, again_effects), _worths(shapley(kept, table), again_shapley),
        _explained(kept[drawn], table[drawn].mean(axis=1)), len(masks), exhaustive,
    )  # fmt: skip


def main_effects(kept: Floats, scores: Floats) -> Floats:
    """Regress (M, K) scores on (M, L) whether a layer is kept; (L, K) what keeping each adds on average."""
    return np.asarray(np.linalg.lstsq(_design(kept), scores, rcond=None)[0][1:], dtype=float)


def shapley(kept: Floats, scores: Floats) -> Floats:
    """Shapley values (L, K): exact where all masks are there, else estimated by weighted least squares.

    The values that add up to the gain from none to all, and come nearest to the scores in between, weighted so that all
    masks would give the Shapley values themselves.

    Source: Lundberg and Lee 2017, theorem 2; masks that are drawn uniformly stand for all with these weights.
    """
    count, sizes = kept.shape[1], kept.sum(axis=1).astype(int)
    none, every = scores[sizes == 0].mean(axis=0), scores[sizes == count].mean(axis=0)
    if count == 1:
        return (every - none)[None]
    inner = (sizes > 0) & (sizes < count)
    weights = np.array([(count - 1) / (comb(count, s) * s * (count - s)) for s in sizes[inner]])
    rows = kept[inner]
    # Minimise under the constraint on the sum: one Lagrange multiplier, the last row and column.
    system = np.zeros((count + 1, count + 1))
    system[:count, :count], system[:count, count], system[count, :count] = (rows.T * weights) @ rows, 1.0, 1.0
    goal = np.vstack([(rows.T * weights) @ (scores[inner] - none), every - none])
    return np.asarray(np.linalg.lstsq(system, goal, rcond=None)[0][:count], dtype=float)


def _shapley_of(kept: Floats, table: Floats, rows: Sequence[int]) -> Floats:
    return shapley(kept[list(rows)], table[list(rows)].mean(axis=1, keepdims=True))


def _redrawn(drawn: Sequence[int], resamples: int) -> NDArray[np.int64]:
    """Resamples of the drawn masks, with repetition."""
    dice = np.random.default_rng(0)
    return np.asarray(drawn)[dice.integers(0, len(drawn), (resamples, len(drawn)))]


def _design(kept: Floats) -> Floats:
    return np.column_stack([np.ones(len(kept)), kept])


def _explained(kept: Floats, scores: Floats) -> float | None:
    design = _design(kept)
    rest = scores - design @ np.linalg.lstsq(design, scores, rcond=None)[0]
    return float(1 - rest.var() / scores.var()) if scores.var() > 1e-12 else None


def _worths(values: Floats, again: Floats) -> tuple[Worth, ...]:
    """(L, K) values, and (R, L) means over seeds from resampled masks."""
    bands: list[Interval | None] = [None] * len(values)
    if len(again):
        ends = np.percentile(again, [2.5, 97.5], axis=0)
        bands = [Interval(float(low), float(high)) for low, high in ends.T]
    return tuple(
        Worth(tuple(map(float, row)), seeds_interval(row), band)
        for row, band in zip(values.tolist(), bands, strict=True)
    )


# ---------------------------------------------------------------------------------------------------------------------
# Of a sweep's answers


@dataclass(frozen=True)
class Panel:
    """The masks of cells that differ in nothing else, at the seeds that all of them have finished."""

    point: dict[str, Any]
    """Axis name -> value, without the masks'."""
    arms: tuple[Arm, ...]
    """One a mask, finished."""
    masks: tuple[str, ...]
    asked: int
    """Masks that were asked for."""
    averaged: bool
    """Whether they were drawn uniformly, or are all there are: an average over others says nothing of a layer."""
    found: Importance | None
    """None: they are neither, or too little is finished."""

    @property
    def title(self) -> str:
        """What the panel is of."""
        return results.headline(str(self.point.get("model", "")), str(self.point.get("task", "")))


def panels(found: Sequence[Arm], planned: Plan) -> list[Panel]:
    """The arms of a sweep by all but the axis of masks."""
    axis = planned.sweep.importance
    assert axis is not None
    uniform = all(map(is_uniform, asked(planned.sweep, axis, planned.given)))
    groups: dict[tuple[Any, ...], list[Arm]] = {}
    for arm in found:
        groups.setdefault(tuple((n, v) for n, v in arm.point.items() if n != axis), []).append(arm)
    return [_panel(dict(point), arms, axis, uniform) for point, arms in groups.items()]


def _panel(point: dict[str, Any], arms: Sequence[Arm], axis: str, uniform: bool) -> Panel:
    done = [arm for arm in arms if arm.estimate and len(arm.seeds) == arm.asked]
    masks = tuple(str(arm.point[axis]) for arm in done)
    averaged, worth = uniform or len(arms) == 2 ** len(str(arms[0].point[axis])), None
    if averaged:
        with suppress(ValueError):
            worth = importance(masks, [arm.estimate.values for arm in done if arm.estimate])
    return Panel(point, tuple(done), masks, len(arms), averaged, worth)


def table(panel: Panel) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: a layer each, from the input side."""
    head = ["layer"]
    for name in ("effect of keeping it", "Shapley value"):
        head += [name, "95% seeds (t)", "95% masks"]
    found = panel.found
    both = zip(found.effects, found.shapley, strict=True) if found else ()
    return head, [[str(layer), *(cell for worth in pair for cell in _cells(worth))] for layer, pair in enumerate(both)]


def _cells(worth: Worth) -> list[str]:
    intervals = (f"{i.low:+.3f} to {i.high:+.3f}" if i else "" for i in (worth.over_seeds, worth.over_masks))
    return [f"{worth.mean:+.3f}", *intervals]


def caption(panel: Panel) -> list[str]:
    """What must be known to read a panel."""
    count = f"{len(panel.masks)} of {panel.asked} masks finished at all seeds"
    fixed = ", ".join(f"{name} {value}" for name, value in panel.point.items())
    found = panel.found
    if not panel.averaged:
        return [
            fixed,
            f"{count}: they are not all there are and were not drawn uniformly, so that no average over them says what a "
            "layer is worth; ask for mask=none,uniform:64,all",
        ]
    if found is None:
        return [fixed, f"{count}: too few, or none and all are not among them"]
    lines = [
        fixed,
        f"{count}, {len(found.effects[0].values)} seeds"
        + ("; these are all masks there are" if found.exhaustive else ", drawn uniformly, and none and all"),
        "effect: what keeping the layer adds to the score, averaged over masks of the others (a regression on main effects"
        + (
            f", which explain {found.explained:.0%} of the variance between masks)"
            if found.explained is not None
            else ")"
        ),
        "Shapley value: averaged over the number of other layers kept too; they add up to the gain from none to all",
    ]
    if not found.exhaustive:
        lines.append("95% masks: bootstrap over the masks that were drawn, at these seeds")
    return lines


def markdown(found: Sequence[Panel]) -> str:
    """All panels as Markdown."""
    return "".join(section(f"{panel.title}: layers", *table(panel), caption(panel)) for panel in found)
