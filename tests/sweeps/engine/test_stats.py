"""The statistics of a table against their definitions, scipy, statsmodels and simulation."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from sweeps.engine import stats
from sweeps.engine.stats import (
    Array,
    Floats,
    Interval,
    estimate,
    examples_interval,
    holm,
    paired_difference,
    seed_scores,
    seeds_interval,
    smallest_detectable,
)


def accuracy(predictions: Array, labels: Array, weights: Floats) -> Floats:
    return np.asarray(weights @ (predictions == labels) / weights.sum(axis=1))


def value(predictions: Array, labels: Array, weights: Floats) -> Floats:
    """The weighted mean of the predictions themselves: the linear score of the variance models below."""
    return np.asarray(weights @ predictions / weights.sum(axis=1))


def _correlation(x: Array, y: Array, weights: Floats) -> Floats:
    total = weights.sum(axis=1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    below = (weights @ x**2 / total - mean_x**2) * (weights @ y**2 / total - mean_y**2)
    above = weights @ (x * y) / total - mean_x * mean_y
    return np.where(below > 1e-12, above / np.sqrt(np.maximum(below, 1e-12)), 0.0)


def pearson(predictions: Array, labels: Array, weights: Floats) -> Floats:
    return _correlation(predictions, labels, weights)


def matthews(predictions: Array, labels: Array, weights: Floats) -> Floats:
    """Binary Matthews correlation: Pearson's of two indicators."""
    return _correlation((predictions == 1).astype(float), (labels == 1).astype(float), weights)


def classified(n_seeds: int, n: int, right: float, seed: int = 0) -> tuple[list[Array], Array]:
    """Binary answers, each seed's right with this chance, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    return [np.where(rng.random(n) < right, labels, 1 - labels) for _ in range(n_seeds)], labels


def two_factor(
    rng: np.random.Generator,
    n_seeds: int,
    n: int,
    spreads: tuple[float, float, float],
) -> list[Array]:
    """Values of mean 0 that vary by seed, by example and by their pair, with these standard deviations."""
    of_seed, of_example, of_pair = (
        s * rng.standard_normal(size) for s, size in zip(spreads, [(n_seeds, 1), (1, n), (n_seeds, n)], strict=True)
    )
    return list(of_seed + of_example + of_pair)


def ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    return interval.low, interval.high


def width(interval: Interval | None) -> float:
    low, high = ends(interval)
    return high - low


def covered(interval: Interval | None) -> bool:
    low, high = ends(interval)
    return low <= 0 <= high


# over seeds


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.sampled_from([0.5, 0.9, 0.95]))
def test_seeds_interval_is_student_t(values: list[float], level: float) -> None:
    got = seeds_interval(values, level)
    if np.ptp(values) <= 1e-12:
        assert got is None
    elif np.ptp(values) > 1e-9:
        expected = scipy_stats.t.interval(level, len(values) - 1, np.mean(values), scipy_stats.sem(values))
        assert ends(got) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_seeds_interval_covers_at_its_level() -> None:
    rng = np.random.default_rng(0)
    hits = [covered(seeds_interval(rng.standard_normal(5).tolist())) for _ in range(1000)]
    assert 0.93 < np.mean(hits) < 0.97


@pytest.mark.parametrize("values", [[], [0.7], [0.7] * 5, [0.8 - 0.7, 0.6 - 0.5, 0.3 - 0.2]])
def test_seeds_interval_is_blank_without_variance(values: list[float]) -> None:
    assert seeds_interval(values) is None


# over examples, over both


def test_examples_interval_agrees_with_scipy_bootstrap() -> None:
    predictions, labels = classified(3, 200, 0.7)
    right = np.mean([p == labels for p in predictions], axis=0)
    expected = scipy_stats.bootstrap((right,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    got = examples_interval(predictions, labels, accuracy, resamples=20_000)
    assert ends(got) == pytest.approx(tuple(expected.confidence_interval), abs=0.003)


def test_examples_interval_of_pearson_agrees_with_scipy_bootstrap() -> None:
    rng = np.random.default_rng(3)
    labels = rng.standard_normal(80)
    answers = labels + rng.standard_normal(80)
    expected = scipy_stats.bootstrap(
        (answers, labels),
        lambda x, y: scipy_stats.pearsonr(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=3000,
        method="percentile",
        rng=1,
    )
    got = examples_interval([answers], labels, pearson, resamples=10_000)
    assert ends(got) == pytest.approx(tuple(expected.confidence_interval), abs=0.02)


@pytest.mark.parametrize("of_seeds", [True, False])
def test_bootstrap_follows_its_definition(of_seeds: bool) -> None:
    """The explicit double loop: draw seeds (or keep them), draw examples, score each drawn seed, average."""
    predictions, labels = classified(4, 12, 0.75, seed=5)
    predictions[0] = 1 - labels
    rng, drawn = np.random.default_rng(9), []
    for _ in range(6000):
        seeds = rng.integers(4, size=4) if of_seeds else range(4)
        examples = rng.integers(12, size=12)
        scores = []
        for k in seeds:
            scores.append(np.mean([predictions[k][j] == labels[j] for j in examples]))
        drawn.append(np.mean(scores))
    found = estimate(predictions, labels, accuracy, resamples=20_000)
    got = found.over_both if of_seeds else found.over_examples
    assert ends(got) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.022)


def test_multi_bootstrap_covers_where_examples_alone_do_not() -> None:
    rng, labels = np.random.default_rng(0), np.zeros(60)
    both, examples = [], []
    for _ in range(400):
        drawn = estimate(two_factor(rng, 25, 60, (0.3, 0.5, 0.3)), labels, value, resamples=300)
        both.append(covered(drawn.over_both))
        examples.append(covered(drawn.over_examples))
    assert 0.91 < np.mean(both) < 0.98
    assert np.mean(examples) < 0.9


def test_multi_bootstrap_is_too_narrow_at_five_seeds_as_its_docstring_says() -> None:
    rng, labels = np.random.default_rng(0), np.zeros(20)
    hits = [
        covered(estimate(two_factor(rng, 5, 20, (1, 0.01, 0.01)), labels, value, resamples=300).over_both)
        for _ in range(600)
    ]
    assert 0.78 < np.mean(hits) < 0.88


def test_same_inputs_same_bits_and_another_seed_other_bits() -> None:
    predictions, labels = classified(5, 300, 0.8)
    first = estimate(predictions, labels, matthews, resamples=200)
    stats._counts.cache_clear()
    assert estimate(predictions, labels, matthews, resamples=200) == first
    other = estimate(predictions, labels, matthews, resamples=200, seed=1)
    assert other.values == first.values
    assert other.over_examples != first.over_examples
    assert other.over_both != first.over_both


def test_another_seed_draws_other_seeds() -> None:
    runs = list(np.linspace(0, 1, 9)[:, None] ** 3)
    first, other = (estimate(runs, np.zeros(1), value, resamples=300, seed=s).over_both for s in (0, 2))
    assert ends(first) != ends(other)


def test_a_score_cannot_spoil_the_draws_of_the_next_seed() -> None:
    def careless(predictions: Array, labels: Array, weights: Floats) -> Floats:
        weights /= weights.sum(axis=1, keepdims=True)
        return value(predictions, labels, weights)

    with pytest.raises(ValueError, match="read-only"):
        examples_interval([np.arange(5.0)] * 2, np.zeros(5), careless)


def test_blocks_bound_memory_and_keep_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, labels = classified(3, 100, 0.8)
    whole = examples_interval(predictions, labels, accuracy, resamples=5000)
    monkeypatch.setattr(stats, "_BLOCK_CELLS", 730)
    heights = set()

    def watched(predictions: Array, labels: Array, weights: Floats) -> Floats:
        heights.add(len(weights))
        assert (weights.sum(axis=1) == len(labels)).all()
        return accuracy(predictions, labels, weights)

    cut = examples_interval(predictions, labels, watched, resamples=5000)
    assert heights == {7, 2}
    assert ends(cut) == pytest.approx(ends(whole), abs=0.006)


def test_estimate_equals_the_single_functions() -> None:
    predictions, labels = classified(5, 120, 0.7)
    plan: dict[str, Any] = {"level": 0.9, "resamples": 300, "seed": 4}
    got = estimate(predictions, labels, matthews, **plan)
    assert got.values == seed_scores(predictions, labels, matthews)
    assert got.mean == np.mean(got.values)
    assert got.over_seeds == seeds_interval(got.values, 0.9)
    assert got.over_examples == examples_interval(predictions, labels, matthews, **plan)


@pytest.mark.parametrize(("answer", "score", "expected"), [("right", accuracy, 1.0), ("constant", matthews, 0.0)])
def test_no_variance_is_blank_not_nan(answer: str, score: stats.Score, expected: float) -> None:
    labels = np.array([0, 1] * 20)
    predictions = [labels if answer == "right" else np.ones(40)] * 5
    got = estimate(predictions, labels, score, resamples=50)
    assert got == stats.Estimate((expected,) * 5, expected, None, None, None)


def test_one_seed_has_an_interval_over_examples_only() -> None:
    got = estimate(*classified(1, 50, 0.7), accuracy, resamples=200)
    assert (got.over_seeds, got.over_both) == (None, None)
    assert width(got.over_examples) > 0


def test_one_example_has_no_interval_over_examples() -> None:
    got = estimate([np.array([1]), np.array([0]), np.array([1])], np.array([1]), accuracy, resamples=200)
    assert got.over_examples is None
    assert ends(got.over_both) == (0, 1)


# paired differences


def test_paired_difference_is_the_paired_t_test() -> None:
    baseline, labels = classified(5, 300, 0.85)
    arm, _ = classified(5, 300, 0.85, seed=0)
    arm = [np.where(np.random.default_rng(k).random(300) < 0.1, 1 - p, p) for k, p in enumerate(arm)]
    got = paired_difference(arm, baseline, labels, accuracy)
    after, before = ([float(np.mean(p == labels)) for p in side] for side in (arm, baseline))
    expected = scipy_stats.ttest_rel(after, before)
    assert got.values == pytest.approx(np.subtract(after, before))
    assert got.mean == pytest.approx(np.mean(got.values))
    assert got.p == pytest.approx(expected.pvalue)
    assert ends(got.over_seeds) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_paired_intervals_are_those_of_the_differences() -> None:
    """For a linear score, pairing is the plain bootstrap of arm minus baseline, resample by resample."""
    rng, labels = np.random.default_rng(2), np.zeros(90)
    baseline, change = two_factor(rng, 5, 90, (1, 1, 0.1)), two_factor(rng, 5, 90, (0.2, 0.2, 0.1))
    got = paired_difference([b + c for b, c in zip(baseline, change, strict=True)], baseline, labels, value)
    plain = estimate(change, labels, value)
    assert ends(got.over_examples) == pytest.approx(ends(plain.over_examples), abs=1e-9)
    assert ends(got.over_both) == pytest.approx(ends(plain.over_both), abs=1e-9)


def test_pairing_is_narrower_than_two_arms_apart() -> None:
    baseline, labels = classified(5, 200, 0.6)
    arm = [np.where(np.arange(200) < 5 + k, labels, p) for k, p in enumerate(baseline)]
    paired, alone = paired_difference(arm, baseline, labels, accuracy), estimate(arm, labels, accuracy)
    assert width(paired.over_both) < 0.5 * width(alone.over_both)


def test_paired_difference_covers_at_its_level() -> None:
    rng, labels = np.random.default_rng(1), np.zeros(50)
    hits = []
    for _ in range(300):
        shared = two_factor(rng, 25, 50, (3, 3, 1))
        arm = [s + c for s, c in zip(shared, two_factor(rng, 25, 50, (0.3, 0.5, 0.3)), strict=True)]
        hits.append(covered(paired_difference(arm, shared, labels, value, resamples=200).over_both))
    assert 0.9 < np.mean(hits) < 0.985


def test_an_arm_equal_to_its_baseline_has_no_interval_and_no_p() -> None:
    baseline, labels = classified(5, 100, 0.8)
    got = paired_difference(baseline, baseline, labels, accuracy, resamples=50)
    assert got == stats.PairedDifference((0.0,) * 5, 0.0, None, None, None, p=None)


def test_equal_differences_at_every_seed_have_no_p_but_vary_over_examples() -> None:
    baseline, labels = classified(1, 100, 0.8)
    worse = baseline[0].copy()
    worse[:7] = 1 - labels[:7]
    got = paired_difference([worse] * 3, baseline * 3, labels, accuracy, resamples=200)
    assert got.mean < 0
    assert (got.p, got.over_seeds) == (None, None)
    assert width(got.over_examples) > 0
    assert width(got.over_both) > 0


# corrected p values, detectable differences


@settings(deadline=None, max_examples=50)  # statsmodels takes 40 ms a call
@given(st.lists(st.none() | st.floats(0, 1), max_size=12))
def test_holm_is_statsmodels_holm_and_passes_none(p_values: list[float | None]) -> None:
    got = holm(p_values)
    known = [p for p in p_values if p is not None]
    assert [g is None for g in got] == [p is None for p in p_values]
    if known:
        assert [g for g in got if g is not None] == pytest.approx(multipletests(known, method="holm")[1])


def test_holm_counts_only_comparisons() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])


@pytest.mark.parametrize(
    ("n_seeds", "level", "power"), [(2, 0.95, 0.8), (3, 0.9, 0.5), (5, 0.95, 0.8), (5, 0.99, 0.9), (30, 0.95, 0.8)]
)
def test_smallest_detectable_is_statsmodels_power(n_seeds: int, level: float, power: float) -> None:
    found = smallest_detectable(n_seeds, 0.02, level=level, power=power)
    # scipy's lower tail, on which statsmodels leans, is NaN for many parameters; it is far below 1e-4 here.
    upper = TTestPower().power(found / 0.02, nobs=n_seeds, alpha=(1 - level) / 2, alternative="larger")
    assert upper == pytest.approx(power, abs=2e-3 if power == 0.5 else 1e-4)


@pytest.mark.parametrize(("n_seeds", "level", "power"), [(5, 0.95, 0.8), (3, 0.5, 0.55)])
def test_smallest_detectable_is_found_as_often_as_it_says(n_seeds: int, level: float, power: float) -> None:
    found = smallest_detectable(n_seeds, 0.03, level=level, power=power)
    draws = np.random.default_rng(0).normal(found, 0.03, size=(40_000, n_seeds))
    detected = scipy_stats.ttest_1samp(draws, 0, axis=1).pvalue < 1 - level
    assert np.mean(detected) == pytest.approx(power, abs=0.01)


@settings(deadline=None)
@given(st.integers(2, 200), st.floats(1e-4, 10), st.floats(0.5, 0.999), st.floats(0.55, 0.999))
def test_smallest_detectable_exists_and_shrinks_with_seeds(
    n_seeds: int,
    spread: float,
    level: float,
    power: float,
) -> None:
    found = smallest_detectable(n_seeds, spread, level=level, power=power)
    assert math.isfinite(found)
    assert smallest_detectable(n_seeds + 1, spread, level=level, power=power) < found
    assert smallest_detectable(n_seeds, 2 * spread, level=level, power=power) == pytest.approx(2 * found)


# what is refused

ONES = np.ones(4)
WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: seeds_interval([0.5, math.nan]), r"nan\] given as seeds' values; a value is finite\. Leave out"),
    (lambda: seeds_interval([0.5, 0.6], level=95), r"a level of 95 given.*Use 0\.95 for 95%"),
    (lambda: estimate([], ONES, accuracy), r"no seed's predictions given.*at least one seed"),
    (lambda: estimate([np.array([])], np.array([]), accuracy), r"no labels given.*Check the split"),
    (lambda: estimate([ONES, ONES[:3]], ONES, accuracy), r"lengths \[4, 3\] given for 4 labels.*Align"),
    (lambda: estimate([ONES], ONES, accuracy, resamples=1), r"1 resamples given.*at least 2.*Use 1000"),
    (lambda: examples_interval([ONES], ONES, lambda p, y, w: w), r"returned shape \(.*, 4\).*one number a"),
    (
        lambda: examples_interval([ONES], ONES, lambda p, y, w: w[:, 0] * math.nan),
        r"not finite in 1000 of 1000 rows.*Return the declared value",
    ),
    (lambda: paired_difference([ONES], [ONES, ONES], ONES, accuracy), r"arm has 1 seeds.*baseline 2.*Keep"),
    (lambda: holm([0.2, 1.5, math.nan]), r"\[1\.5, nan\] given as p values.*\[0, 1\].*Pass None"),
    (lambda: smallest_detectable(1, 0.1), r"1 seeds planned.*from 2 seeds on.*Plan more"),
    (lambda: smallest_detectable(5, 0.0), r"a spread of 0\.0 given.*above 0.*earlier runs"),
    (lambda: smallest_detectable(5, 0.1, power=0.05), r"a power of 0\.05 given.*between 0\.05.*such as 0\.8"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_what_cannot_be_answered_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
