"""Is what is good on one task good on another? Correlations of the same arms' scores over pairs of tasks.

Scores of few seeds are noisy, and noise lowers every correlation. So each task stands beside itself too: the correlation
between its seeds, stepped up to the mean of all of them, says how much a correlation with another task could be.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from sweeps.engine.drawing import Correlation
from sweeps.engine.markdown import section
from sweeps.engine.results import Arm
from sweeps.engine.stats import Interval

HEADINGS = ("n", "Pearson r", "95% (Fisher)", "p", "Spearman rho", "p")
FEWEST = 4
"""Points below which no correlation is given: of three, Fisher's interval has no width to compute."""


@dataclass(frozen=True)
class Pair:
    """Two tasks in one setting, or a task and itself."""

    setting: tuple[tuple[str, Any], ...]
    """The axes that both share."""
    tasks: tuple[str, str]
    n: int
    """Arms that both have, those of the same runs once."""
    pearson: float
    interval: Interval | None
    p: float | None
    """Two-sided, not corrected; None: of a task with itself it means nothing."""
    spearman: float | None
    p_spearman: float | None


def pairs(correlation: Correlation, found: Sequence[Arm]) -> list[Pair]:
    """All pairs of tasks that share enough arms, each setting for itself; then each task with itself."""
    settings: dict[tuple[tuple[str, Any], ...], dict[str, dict[Any, Arm]]] = {}
    for arm in found:
        value = arm.point[correlation.axis]
        if arm.estimate and correlation.among(value):
            setting = tuple((n, v) for n, v in arm.point.items() if n not in (correlation.axis, "task"))
            settings.setdefault(setting, {}).setdefault(str(arm.point["task"]), {})[value] = arm
    answers: list[Pair | None] = []
    for setting, tasks in settings.items():
        answers += [_pair(setting, (a, b), tasks[a], tasks[b]) for a, b in itertools.combinations(tasks, 2)]
        answers += [_with_itself(setting, task, arms) for task, arms in tasks.items()]
    return [answer for answer in answers if answer]


def _pair(
    setting: tuple[tuple[str, Any], ...], tasks: tuple[str, str], first: dict[Any, Arm], second: dict[Any, Arm]
) -> Pair | None:
    shared = {(first[value].runs, second[value].runs): value for value in first if value in second}.values()
    x, y = ([_mean(arms[value]) for value in shared] for arms in (first, second))
    if len(shared) < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    pearson, spearman = stats.pearsonr(x, y), stats.spearmanr(x, y)
    ends = pearson.confidence_interval(0.95)
    interval = Interval(float(ends.low), float(ends.high))
    return Pair(
        setting, tasks, len(shared), float(pearson.statistic), interval, float(pearson.pvalue),
        float(spearman.statistic), float(spearman.pvalue),
    )  # fmt: skip


def _mean(arm: Arm) -> float:
    assert arm.estimate is not None
    return arm.estimate.mean


def _with_itself(setting: tuple[tuple[str, Any], ...], task: str, arms: dict[Any, Arm]) -> Pair | None:
    """How well the mean over seeds agrees with that over other seeds (Spearman 1910, Brown 1910).

    One correlation r between single seeds becomes K r / (1 + (K - 1) r) for means of K.
    """
    distinct = list({arm.runs: arm for arm in arms.values()}.values())
    seeds = [seed for seed in distinct[0].seeds if all(seed in arm.seeds for arm in distinct)]
    if len(distinct) < FEWEST or len(seeds) < 2:
        return None
    scores = np.array([[dict(zip(arm.seeds, _values(arm), strict=True))[seed] for seed in seeds] for arm in distinct])
    if (np.ptp(scores, axis=0) == 0).any():
        return None
    single = float(np.mean(np.corrcoef(scores.T)[np.triu_indices(len(seeds), 1)]))
    together = len(seeds) * single / (1 + (len(seeds) - 1) * single) if single > 0 else single
    return Pair(setting, (task, task), len(distinct), together, None, None, None, None)


def _values(arm: Arm) -> tuple[float, ...]:
    assert arm.estimate is not None
    return arm.estimate.values


# ---------------------------------------------------------------------------------------------------------------------
# Showing it


def table(found: Sequence[Pair]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows; axes with one value are left out."""
    varied = [axis for axis, _ in found[0].setting if len({dict(pair.setting)[axis] for pair in found}) > 1]
    rows = [
        [
            *(str(dict(pair.setting)[axis]) for axis in varied),
            " and ".join(pair.tasks) if len({*pair.tasks}) == 2 else f"{pair.tasks[0]} and itself, other seeds",
            str(pair.n),
            f"{pair.pearson:+.2f}",
            f"{pair.interval.low:+.2f} to {pair.interval.high:+.2f}" if pair.interval else "",
            *(_number(value) for value in (pair.p, pair.spearman, pair.p_spearman)),
        ]
        for pair in found
    ]
    return [*varied, "tasks", *HEADINGS], rows


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


def caption(correlation: Correlation) -> list[str]:
    """What must be known to read the table."""
    return [
        f"n values of {correlation.axis} (those of the same runs are one), each by its mean over seeds; p: two-sided, of no "
        "correlation, not corrected",
        "a task and itself: with the means of other seeds (Spearman-Brown); two tasks cannot be expected to correlate more "
        "than the geometric mean of theirs",
    ]


def markdown(correlation: Correlation, found: Sequence[Pair]) -> str:
    """The table as Markdown; empty where there is no pair."""
    if not found:
        return ""
    return section(f"{correlation.axis}: correlations between tasks", *table(found), caption(correlation))
