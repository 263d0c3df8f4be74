"""The front of two criteria, and how sure it is that a trial is on it."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.engine.front import front, front_probabilities

NUMBERS = st.integers(0, 6).map(float)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12), st.booleans())
def test_what_is_on_the_front_is_beaten_by_none(points: list[tuple[float, float]], smaller: bool) -> None:
    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        better = a[0] <= b[0] if smaller else a[0] >= b[0]
        return better and a[1] <= b[1] and a != b

    found = front([value for value, _ in points], [cost for _, cost in points], smaller=smaller)
    assert found == [not any(beats(other, point) for other in points) for point in points]


def test_with_one_criterion_the_front_is_the_best() -> None:
    assert front([0.5, 0.7, 0.6], [0.0] * 3, smaller=False) == [False, True, False]
    assert front([0.5, 0.7, 0.6], [0.0] * 3, smaller=True) == [True, False, False]


def test_the_same_seeds_are_drawn_for_all_trials() -> None:
    """Seeds differ by far more than the trials do, and one trial is better at each of them."""
    noisy = [0.1, 0.9, 0.4]
    slightly_worse = [value - 0.001 for value in noisy]
    assert front_probabilities([noisy, slightly_worse], [1.0, 1.0], smaller=False) == [1.0, 0.0]
    assert front_probabilities([noisy, slightly_worse], [1.0, 0.0], smaller=False) == [1.0, 1.0]  # it is the cheaper
    assert front_probabilities([noisy, slightly_worse], [1.0, 2.0], smaller=True) == [1.0, 1.0]


def test_a_probability_is_the_share_of_all_redrawn_seeds() -> None:
    ours, theirs = [0.50, 0.62, 0.70], [0.60, 0.60, 0.60]
    mean, wider = sum(ours) / 3, (3 / 2) ** 0.5
    means = [mean + wider * (sum(drawn) / 3 - mean) for drawn in product(ours, repeat=3)]
    expected = sum(m > 0.6 for m in means) / len(means)
    plain = sum(sum(drawn) / 3 > 0.6 for drawn in product(ours, repeat=3)) / 27
    found = front_probabilities([ours, theirs], [0.0, 0.0], smaller=False, resamples=40_000)
    assert found[0] == pytest.approx(expected, abs=0.01)
    assert sum(found) == pytest.approx(1.0)
    assert 0 < plain <= 1


def test_the_spread_of_redrawn_means_is_that_of_a_mean_of_so_many_seeds() -> None:
    """Two seeds at -1 and 1 redrawn as they are spread by 0.71, and a mean of two by 1: 0.9 is then beaten by a quarter."""
    found = front_probabilities([[-1.0, 1.0], [0.9, 0.9]], [0.0, 0.0], smaller=False, resamples=20_000)
    assert found[0] == pytest.approx(0.25, abs=0.01)
    beyond = front_probabilities([[-1.0, 1.0], [1.2, 1.2]], [0.0, 0.0], smaller=False, resamples=20_000)
    assert beyond[0] == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("seeds", [[[0.1], [0.2]], [[0.1, 0.2], [0.2]], [[], []]])
def test_trials_without_the_same_seeds_are_refused(seeds: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="give all of them the same seeds"):
        front_probabilities(seeds, [0.0] * len(seeds), smaller=False)
