"""Tables of what grows when: a row a class, in the order in which the classes are learnt."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from plm.analyses import FIRST
from plm.covariates import ADJUSTED
from sweeps.engine.embryo import LEVELS, Crossing, Growth

HEADINGS = (
    "class",
    "n",
    "first",
    "last",
    "95% of last",
    "baseline",
    "half of the way from baseline",
    "half of plateau",
    "half of plateau, covariates off",
    "50%",
    "80%",
    "90%",
)
COVARIATES = {"log_count": "mean log count", "mean_id": "mean token id", "types": "number of types"}
"""Families of a summary that the order of classes is held against, and what they are."""
BASELINES = {
    "guess": "always the class's commonest word",
    "type_guess": "each word's commonest label",
    "commonest": "always the relation's commonest object",
    "chance": "a coin",
}
"""Families of a summary that are baselines, and what they are."""


def table(growth: Growth) -> tuple[list[str], list[list[str]]]:
    """Headings and rows, a kind of classes after the other; the last columns are absolute levels. None is empty."""
    whole = [name for name in growth.names(growth.member.curves[0]) if "/" not in name]
    named = [name for kind in growth.kinds for name in ordered(growth, kind)]
    rows = [_row(growth, name) for name in dict.fromkeys([*named, *whole])]
    filled = [i for i in range(len(HEADINGS)) if any(row[i] for row in rows)]
    return [HEADINGS[i] for i in filled], [[row[i] for i in filled] for row in rows]


def _row(growth: Growth, name: str) -> list[str]:
    curve, band, above = growth.curve(name), growth.band(name), baseline(growth, name)
    return [
        short(name),
        count(growth, name),
        f"{curve[0]:.3f}",
        f"{curve[-1]:.3f}",
        f"{band[0][-1]:.3f} to {band[1][-1]:.3f}" if band else "",
        "" if above is None else f"{above:.3f}",
        *_crossings(growth, name, above),
    ]


def _crossings(growth: Growth, name: str, above: float | None) -> list[str]:
    """When a class passes some levels; nothing of what is no share of things that are right, and may well fall."""
    if growth.member.unit is None:
        return [""] * (3 + len(LEVELS))
    first, adjusted = growth.steps[0], f"{ADJUSTED}/{short(name)}"
    return [
        "" if above is None else said(growth.crossing(name, 0.5, relative=True, above=above), first),
        said(growth.risen(name, 0.5), first),
        said(growth.crossing(adjusted, 0.5, relative=True), first) if adjusted in growth.names(ADJUSTED) else "",
        *(said(growth.crossing(name, level, relative=False), first) for level in LEVELS),
    ]


def short(name: str) -> str:
    """A class without its family."""
    return name.partition("/")[2] or name


def ordered(growth: Growth, kind: str) -> list[str]:
    """The classes of a kind, first those that reach half of their plateau first; layers as they lie."""
    if all("layer_" in name for name in growth.kinds[kind]):
        return sorted(growth.kinds[kind], key=by_number)
    steps = {name: reached(growth, name) for name in growth.kinds[kind]}
    return sorted(steps, key=lambda name: math.inf if (step := steps[name]) is None else step)


def by_number(name: str) -> tuple[bool, list[tuple[float, str]]]:
    """That of no class first; the rest with numbers in their order: `support_2_4` before `support_20_up`."""
    parts = re.split(r"(\d+)", name)
    return "/" in name, [(float(part), "") if part.isdecimal() else (math.inf, part) for part in parts]


def reached(growth: Growth, name: str) -> float | None:
    """The step at which a class reaches half of its plateau."""
    return growth.risen(name, 0.5).step


def baseline(growth: Growth, name: str) -> float | None:
    """What scores as much as a class without the ability; None: the analysis has no such number."""
    return growth.beside(name, growth.member.baseline)


def baseline_said(growth: Growth) -> str:
    """What the baseline of an analysis is."""
    return f"baseline: {BASELINES.get(str(growth.member.baseline), growth.member.baseline)}"


def floor_said(growth: Growth) -> str:
    """What an analysis's shares of a plateau are counted from, where that is not zero."""
    return "the first step that was read" if growth.member.floor == FIRST else str(growth.member.floor)


def count(growth: Growth, name: str) -> str:
    """How many things a class has, where the analysis says."""
    found = f"words/{short(name)}"
    return f"{growth.level(found):.0f}" if found in growth.names("words") else ""


def said(crossing: Crossing, first: int = 0) -> str:
    """A crossing in words; `>` is beyond the last step that was read, `<` before the first, unless that is step 0."""

    def moment(step: float | None) -> str:
        return ">" if step is None else "<" if 0 < step <= first else f"{step:.0f}"

    own = moment(crossing.step) + ", then lost" * crossing.lost
    if crossing.low is None and crossing.high is None:
        return own
    return f"{own} [{moment(crossing.low)}, {moment(crossing.high)}]"


def caption(growth: Growth) -> list[str]:
    """What must be known to read the table or the figures of an analysis."""
    several = len(growth.seeds) > 1
    drawn = ([f"{growth.member.unit.cluster}s"] if growth.member.unit else []) + ["pretraining seeds"] * several
    lines = [
        f"{growth.rows:,} rows at each of {len(growth.steps)} steps ({growth.steps[0]} to {growth.steps[-1]}), "
        f"{len(growth.seeds)} pretraining seed{'s' * several}{_behind(growth)}; {len(growth.runs)} of {growth.asked} readings",
        f"95%: {' and '.join(drawn)} drawn anew" if drawn else "no intervals: one seed, and no mean over rows",
    ]
    if growth.member.unit:
        lines.append(
            "a step: where the monotone fit passes a level, between two steps on a log scale; > beyond the last one read, "
            "< before the first"
        )
    if growth.member.floor:
        lines.append(f"shares of the plateau are counted from {floor_said(growth)}")
    if growth.member.baseline:
        lines.append(baseline_said(growth))
    if growth.names(ADJUSTED):
        lines.append(
            "covariates off: a regression of being right takes off word frequency, n-gram surprise and class size"
        )
    elif ADJUSTED in growth.member.curves:
        lines.append("no covariates: which text this model was trained on is not known (say GOLD+TEXT)")
    follows = covariates(growth) if growth.member.unit else []
    return lines + [f"order of half of plateau, Spearman over classes: {'; '.join(follows)}"] * bool(follows)


def _behind(growth: Growth) -> str:
    """Seeds that are left out."""
    seeds = ", ".join(map(str, growth.behind))
    return f" (left out as not read so far: {seeds})" if growth.behind else ""


def covariates(growth: Growth) -> list[str]:
    """How far the order in which classes are learnt follows what is known of their words."""
    from scipy.stats import spearmanr

    steps = {short(name): reached(growth, name) for name in next(iter(growth.kinds.values()), ())}
    found = []
    for family, what in COVARIATES.items():
        there = [name for name in growth.names(family) if steps.get(short(name)) is not None]
        x = np.array([steps[short(name)] for name in there], float)
        y = np.array([growth.level(name) for name in there])
        if len(there) > 3 and np.ptp(x) > 0 and np.ptp(y) > 0:
            found.append(f"with {what} {spearmanr(x, y).statistic:+.2f} (n {len(there)})")
    return found


def title(growth: Growth) -> str:
    """What a table is of."""
    others = ", ".join(f"{axis} {value}" for axis, value in growth.rest)
    return f"{growth.analysis} of {growth.training}" + f" ({others})" * bool(others)


def by_analysis(found: Sequence[Growth]) -> dict[str, list[Growth]]:
    """The trainings of each analysis, which are drawn together."""
    groups: dict[str, list[Growth]] = {}
    for growth in found:
        groups.setdefault(", ".join([growth.analysis, *(f"{a} {v}" for a, v in growth.rest)]), []).append(growth)
    return groups
