"""Scores: the weighted form and the plain one are one score; a constant prediction earns nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plm.metrics import METRICS, REPORTED, roc_area

CLASSES = ("accuracy", "f1", "matthews")
pytestmark = pytest.mark.filterwarnings(
    "ignore:A single label was found:UserWarning",  # scikit-learn, of a constant column; 0 stands by declaration
    "ignore:An input array is nearly constant",
)


@st.composite
def rows(draw, values):
    """Predictions, labels and how often each row counts, at least one of them once."""
    size = draw(st.integers(2, 12))
    arrays = [draw(hnp.arrays(float, size, elements=values)) for _ in range(2)]
    repeats = draw(hnp.arrays(int, size, elements=st.integers(0, 3)).filter(lambda r: r.sum() > 1))
    return *arrays, repeats


classes = rows(st.sampled_from([0.0, 1.0]) | st.sampled_from([0.0, 1.0, 2.0]))
numbers = rows(st.integers(-8, 8).map(lambda i: i / 4))
CASES = {name: classes if name in CLASSES else numbers for name in METRICS}


@pytest.mark.parametrize("name", METRICS)
@given(data=st.data())
def test_weights_of_one_are_the_score(name, data):
    predictions, labels, _ = data.draw(CASES[name])
    metric = METRICS[name]
    assert metric.weighted(predictions, labels, np.ones((2, len(labels)))) == pytest.approx(
        [metric.score(predictions, labels)] * 2, abs=1e-9
    )


@pytest.mark.parametrize("name", METRICS)
@given(data=st.data())
def test_weights_are_repetitions(name, data):
    predictions, labels, repeats = data.draw(CASES[name])
    metric = METRICS[name]
    if name == "f1" and set(labels) <= {0, 1}:
        pass  # two classes stay two classes however they are drawn
    elif name == "f1" and set(np.repeat(labels, repeats)) <= {0, 1}:
        return  # the whole split has a third class, the resample has not: the mean over classes stays the measure
    repeated = metric.score(np.repeat(predictions, repeats), np.repeat(labels, repeats))
    assert metric.weighted(predictions, labels, repeats[None].astype(float)) == pytest.approx([repeated], abs=1e-7)


@pytest.mark.parametrize("name", METRICS)
@given(data=st.data())
def test_scores_lie_within_their_bounds(name, data):
    predictions, labels, _ = data.draw(CASES[name])
    assert METRICS[name].low - 1e-12 <= METRICS[name].score(predictions, labels) <= 1 + 1e-12


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_prediction_scores_one(name):
    labels = np.array([0.0, 1, 1, 0, 1])
    assert METRICS[name].score(labels, labels) == pytest.approx(1)
    assert METRICS[name].weighted(labels, labels, np.ones((1, 5))) == pytest.approx([1])


@pytest.mark.parametrize("name", ["matthews", "pearson", "spearman"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_prediction_scores_nothing(name, value):
    metric, labels = METRICS[name], np.array([0.0, 1, 1, 0, 1])
    constant = np.full(5, value)
    assert metric.score(constant, labels) == 0
    assert metric.weighted(constant, labels, np.ones((3, 5))).tolist() == [0, 0, 0]
    assert metric.undefined(constant)
    assert not metric.undefined(labels)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_resample_of_one_row_scores_nothing(name):
    draw = np.random.default_rng(0)
    predictions, labels = draw.normal(size=(2, 50))
    assert METRICS[name].weighted(predictions, labels, 50 * np.eye(50)).tolist() == [0] * 50


def test_f1_is_of_class_one_even_where_a_third_class_is_predicted():
    predictions, labels = np.array([0.0, 2, 1, 1]), np.array([0.0, 1, 1, 0])
    assert METRICS["f1"].score(predictions, labels) == pytest.approx(0.5)
    assert METRICS["f1"].weighted(predictions, labels, np.ones((1, 4))) == pytest.approx([0.5])


def test_f1_of_three_classes_is_their_mean():
    predictions, labels = np.array([0.0, 1, 2, 2]), np.array([0.0, 1, 1, 2])
    assert METRICS["f1"].score(predictions, labels) == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_every_score_is_declared():
    assert {f"val/{name}" for name in METRICS} <= set(REPORTED)
    assert {direction for _, direction in REPORTED.values()} == {"min", "max", "none"}


def test_the_area_under_the_roc_curve_is_a_share_of_pairs():
    """Each positive beside each negative: 0.9 beats both, 0.4 beats one and ties with none."""
    scores, positive = np.array([0.9, 0.5, 0.4, 0.1]), np.array([1.0, 0.0, 1.0, 0.0])
    assert roc_area(scores, positive) == pytest.approx(3 / 4)
    assert roc_area(-scores, positive) == pytest.approx(1 / 4)
    assert roc_area(np.zeros(4), positive) == pytest.approx(1 / 2)
