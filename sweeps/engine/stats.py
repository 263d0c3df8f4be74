"""What a table may say about its numbers: intervals, paired differences, corrected p, detectable differences.

The distinction drawn: *what would be drawn anew*. Over seeds, the evaluation examples stay; over examples,
the seeds stay; over both, neither does. The three answer different questions and are never pooled or renamed.
An interval or a p value that does not exist is None.

Shape letters: R resamples, K seeds, n evaluation examples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Array = NDArray[Any]
Floats = NDArray[np.float64]

Score = Callable[[Array, Array, Floats], Floats]
"""(predictions (n, ...), labels (n, ...), weights (R, n)) -> one score for each row of weights, (R,).

Row r of the weights says how often each example occurs in resample r: whole counts summing to n, read-only. A
row of ones is the plain score. Where the metric is undefined (a constant prediction) the score returns its
declared value; a value that is not finite is refused.
"""

_ROUNDING = 1e-12
"""Spreads at or below this are rounding: 0.8 - 0.7 and 0.6 - 0.5 differ by 1e-16; scores are of order one."""

_BLOCK_CELLS = 2**21
"""Weights held in one array, R x n: 16 MB, so that 40,000 examples need no more memory than 2,000."""


@dataclass(frozen=True)
class Interval:
    """A two-sided interval, in the unit of the score."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """One arm's score: every seed's, their mean, and the three intervals of that mean."""

    values: tuple[float, ...]
    """The score of each seed on the whole evaluation split, in the order given."""
    mean: float
    over_seeds: Interval | None
    over_examples: Interval | None
    over_both: Interval | None


@dataclass(frozen=True)
class PairedDifference:
    """An arm minus its baseline, seed by seed and example by example; the three intervals are of the mean."""

    values: tuple[float, ...]
    """The difference at each seed, in the order given."""
    mean: float
    over_seeds: Interval | None
    over_examples: Interval | None
    over_both: Interval | None
    p: float | None
    """Two-sided p of the paired t test over seeds, not yet corrected; see `holm`."""


def seeds_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Give Student's t interval of the mean over seeds; None below two seeds or without variance.

    Raises:
        ValueError: a value is not finite, or the level lies outside (0, 1).
    """
    _check_level(level)
    _check_finite(values)
    if not _varies(values):
        return None
    scale = np.std(values, ddof=1) / np.sqrt(len(values))
    return _interval(stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=scale))


def seed_scores(predictions: Sequence[Array], labels: Array, score: Score) -> tuple[float, ...]:
    """Score every seed's predictions on the whole evaluation split.

    Raises:
        ValueError: no seed, no example, lengths that differ, or a score that breaks `Score`.
    """
    arrays, labels = _checked(predictions, labels)
    return tuple(float(v) for v in _scores(arrays, labels, score, np.ones((1, len(labels))))[0])


def examples_interval(
    predictions: Sequence[Array],
    labels: Array,
    score: Score,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """Give the percentile bootstrap interval over evaluation examples of the score's mean over these seeds.

    The same examples are drawn for every seed: the seeds share the evaluation split.

    Raises:
        ValueError: as `seed_scores`; a level outside (0, 1); fewer than two resamples.
    """
    _check_plan(level, resamples)
    drawn = _resampled(*_checked(predictions, labels), score, resamples, seed)
    return _over_examples(drawn, level)


def estimate(
    predictions: Sequence[Array],
    labels: Array,
    score: Score,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Give one arm's scores with all three intervals, resampled once.

    The interval over both is that of the Multi-Bootstrap: seeds and examples both drawn anew with replacement. None below
    two seeds, where nothing is known about other seeds. Percentiles know no Student's t: where seeds are few and vary more
    than examples do, it is too narrow (at five seeds that alone differ, a nominal 95% covers about 84%), so read it
    beside `seeds_interval`.

    Raises:
        ValueError: as `examples_interval`.
    Source: Sellam et al. 2022, "The MultiBERTs", the Multi-Bootstrap, https://arxiv.org/abs/2106.16163.
    """
    _check_plan(level, resamples)
    arrays, labels = _checked(predictions, labels)
    values = seed_scores(arrays, labels, score)
    drawn = _resampled(arrays, labels, score, resamples, seed)
    return Estimate(values, float(np.mean(values)), *_three(values, drawn, level, seed))


def estimate_of_values(values: Sequence[float]) -> Estimate:
    """Give one arm's score where only each seed's value is known: there are no examples to draw anew."""
    return Estimate(tuple(values), float(np.mean(values)), seeds_interval(values), None, None)


def difference_of_values(arm: Sequence[float], baseline: Sequence[float]) -> PairedDifference:
    """Give the arm's score minus the baseline's where only each seed's value is known.

    Raises:
        ValueError: the two sides have different numbers of seeds, or a value is not finite.
    """
    values = tuple(a - b for a, b in zip(arm, baseline, strict=True))
    p = float(stats.ttest_1samp(values, 0.0).pvalue) if _varies(values) else None
    return PairedDifference(values, float(np.mean(values)), seeds_interval(values), None, None, p=p)


def paired_difference(
    arm: Sequence[Array],
    baseline: Sequence[Array],
    labels: Array,
    score: Score,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> PairedDifference:
    """Give the arm's score minus the baseline's, with all three intervals and the paired t test's p.

    Entry k of both sequences is the same seed. Whatever is drawn anew is drawn once for both sides, seeds as
    well as examples, so that what the two share cancels.

    Raises:
        ValueError: as `examples_interval`; the two sides have different numbers of seeds.
    """
    if len(arm) != len(baseline):
        raise ValueError(
            f"the arm has {len(arm)} seeds and its baseline {len(baseline)}; a paired "
            "difference needs the same seeds in the same order. Keep the seeds that both have."
        )
    _check_plan(level, resamples)
    both, labels = _checked([*arm, *baseline], labels)
    plain = np.array(seed_scores(both, labels, score))
    values = tuple(float(v) for v in plain[: len(arm)] - plain[len(arm) :])
    drawn = _resampled(both, labels, score, resamples, seed)
    intervals = _three(values, drawn[:, : len(arm)] - drawn[:, len(arm) :], level, seed)
    p = float(stats.ttest_1samp(values, 0.0).pvalue) if _varies(values) else None
    return PairedDifference(values, float(np.mean(values)), *intervals, p=p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct the p values of one family (the arms of one task and size) by Holm's step-down rule.

    The order is kept. None stays None and is no comparison: the number to print is how many are not None.

    Raises:
        ValueError: a p value lies outside [0, 1].
    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 65-70.
    """
    wrong = [p for p in p_values if p is not None and not 0 <= p <= 1]
    if wrong:
        raise ValueError(f"{wrong} given as p values; a p value lies in [0, 1]. Pass None where there is no test.")
    ranked = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(ranked):
        largest = max(largest, min(1.0, p * (len(ranked) - rank)))
        corrected[place] = largest
    return corrected


def smallest_detectable(n_seeds: int, spread: float, *, level: float = 0.95, power: float = 0.8) -> float:
    """Give the smallest true mean difference that a two-sided paired t test over seeds finds at this power.

    `spread` is the standard deviation over seeds of the paired difference; the answer is in its unit and
    proportional to it. `level` is that of one comparison: a family of m under Holm is safely planned at
    1 - (1 - level) / m.

    Raises:
        ValueError: fewer than two seeds, a spread that is not positive, or a power outside (1 - level, 1).
    """
    _check_level(level)
    if n_seeds < 2:
        raise ValueError(f"{n_seeds} seeds planned; a paired t test exists from 2 seeds on. Plan more.")
    if not (np.isfinite(spread) and spread > 0):
        raise ValueError(
            f"a spread of {spread} given; it is the paired difference's standard deviation, "
            "finite and above 0. Take it from earlier runs."
        )
    if not 1 - level < power < 1:
        raise ValueError(
            f"a power of {power} given; at level {level} a power lies between {1 - level:.4g} "
            "(no difference at all) and 1. Choose one there, such as 0.8."
        )
    return float(_noncentrality(n_seeds - 1, level, power) * spread / np.sqrt(n_seeds))


def _noncentrality(df: int, level: float, power: float) -> float:
    """Solve for the noncentral t's parameter at which |t| passes its critical value with this power."""
    critical = stats.t.ppf((1 + level) / 2, df)

    def missing(nc: float) -> float:
        # The lower tail as a mirrored upper one: scipy 1.17's nct.cdf(-critical, df, nc) is often NaN past 7.
        return float(stats.nct.sf(critical, df, nc) + stats.nct.sf(critical, df, -nc)) - power

    high = 1.0
    while missing(high) < 0:
        high *= 2
    return float(optimize.brentq(missing, 0.0, high, xtol=1e-10))


def _resampled(
    predictions: Sequence[Array],
    labels: Array,
    score: Score,
    resamples: int,
    seed: int,
) -> Floats:
    """Score every seed on the same resamples of the examples: (R, K)."""
    blocks = _blocks(len(labels), resamples)
    return np.concatenate(
        [_scores(predictions, labels, score, _weights(len(labels), rows, seed, block)) for block, rows in blocks]
    )


def _blocks(n: int, resamples: int) -> Iterator[tuple[int, int]]:
    """Cut the resamples into numbered blocks of bounded memory; number 0 is left to the draw of seeds."""
    most = max(1, _BLOCK_CELLS // n)
    for block, start in enumerate(range(0, resamples, most), start=1):
        yield block, min(most, resamples - start)


def _weights(n: int, rows: int, seed: int, block: int) -> Floats:
    weights = _counts(n, rows, seed, block).astype(np.float64)
    weights.flags.writeable = False
    return weights


@lru_cache(maxsize=32)  # the arms of one task share their draws, which cost 10-30 times their scoring
def _counts(n: int, rows: int, seed: int, block: int) -> NDArray[np.uint8]:
    """Count how often each of n examples occurs in n draws with replacement, `rows` times: (rows, n).

    Bytes, so that the cache holds 40,000 examples 1000 times in 40 MB. A count is about Poisson with mean 1:
    none reaches 256.
    """
    counts = np.random.default_rng([seed, block]).multinomial(n, np.full(n, 1 / n), size=rows)
    return counts.astype(np.uint8)


def _scores(predictions: Sequence[Array], labels: Array, score: Score, weights: Floats) -> Floats:
    """Score every seed under every row of weights, and hold the score to its protocol: (R, K)."""
    columns = [np.asarray(score(p, labels, weights), dtype=np.float64) for p in predictions]
    for column in columns:
        if column.shape != (len(weights),):
            raise ValueError(
                f"the score returned shape {column.shape} for weights of shape {weights.shape}; "
                f"it returns one number a row, ({len(weights)},). Sum over the examples only."
            )
        if not np.isfinite(column).all():
            raise ValueError(
                f"the score is not finite in {np.sum(~np.isfinite(column))} of {len(column)} "
                "rows; a score is finite. Return the declared value where it is undefined."
            )
    return np.stack(columns, axis=1)


def _three(
    values: Sequence[float],
    drawn: Floats,
    level: float,
    seed: int,
) -> tuple[Interval | None, Interval | None, Interval | None]:
    return seeds_interval(values, level), _over_examples(drawn, level), _over_both(drawn, level, seed)


def _over_examples(drawn: Floats, level: float) -> Interval | None:
    return _percentiles(drawn.mean(axis=1), level)


def _over_both(drawn: Floats, level: float, seed: int) -> Interval | None:
    if drawn.shape[1] < 2:
        return None
    picks = np.random.default_rng([seed, 0]).integers(drawn.shape[1], size=drawn.shape)
    return _percentiles(np.take_along_axis(drawn, picks, axis=1).mean(axis=1), level)


def _percentiles(drawn: Floats, level: float) -> Interval | None:
    return _interval(np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]))


def _interval(ends: Sequence[float] | Floats) -> Interval | None:
    # An interval without width claims certainty; it comes of resamples that do not vary, not of knowledge.
    return Interval(float(ends[0]), float(ends[1])) if _varies(ends) else None


def _varies(values: Sequence[float] | Floats) -> bool:
    return len(values) > 1 and float(np.ptp(values)) > _ROUNDING


def _checked(predictions: Sequence[Array], labels: Array) -> tuple[list[Array], Array]:
    arrays, labels = [np.asarray(p) for p in predictions], np.asarray(labels)
    if not arrays:
        raise ValueError("no seed's predictions given; a score needs at least one seed. Finish a run first.")
    if labels.ndim == 0 or len(labels) == 0:
        raise ValueError("no labels given; a score needs at least one evaluation example. Check the split.")
    lengths = [len(p) if p.ndim else 0 for p in arrays]
    if set(lengths) != {len(labels)}:
        raise ValueError(
            f"predictions of lengths {lengths} given for {len(labels)} labels; every seed "
            "answers the same examples in the same order. Align them by example id."
        )
    return arrays, labels


def _check_plan(level: float, resamples: int) -> None:
    _check_level(level)
    if resamples < 2:
        raise ValueError(f"{resamples} resamples given; percentiles need at least 2. Use 1000 or more.")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"a level of {level} given; a level lies between 0 and 1. Use 0.95 for 95%.")


def _check_finite(values: Sequence[float]) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"{list(values)} given as seeds' values; a value is finite. Leave out failed seeds.")
