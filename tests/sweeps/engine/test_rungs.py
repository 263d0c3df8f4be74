"""Successive halving: who goes on, who is told what, and that a decision outlives its process."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plm import Store
from sweeps.engine.rungs import Judge, Rungs, among_best

RUNGS = Rungs(study="s", metric="val/loss", smaller=True, shares=(0.125, 0.5), reduction=3)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30, unique=True), st.integers(1, 5), st.booleans())
def test_so_many_are_among_the_best(values: list[float], reduction: int, smaller: bool) -> None:
    best = [v for v in values if among_best(values, v, reduction, smaller=smaller)]
    assert len(best) == math.ceil(len(values) / reduction)
    assert best == [v for v in values if v in sorted(values, reverse=not smaller)[: len(best)]]


def test_equal_values_go_on_together() -> None:
    assert among_best([0.5] * 9, 0.5, 3, smaller=True)


def test_the_first_goes_on_and_later_ones_are_compared_with_all_before(store: Store) -> None:
    survived = [RUNGS.survives(store, "rung-0", f"run-{i}", loss) for i, loss in enumerate((5.0, 4.0, 4.5, 6.0, 3.0))]
    assert survived == [True, True, False, False, True]
    assert RUNGS.survives(store, "rung-0", "run-0", 9.9)  # what was decided stays decided
    assert RUNGS.survives(store, "rung-1", "run-9", 9.9)  # another rung knows nothing of this one


@pytest.mark.parametrize("smaller", [True, False])
def test_a_third_goes_on_in_the_long_run(store: Store, smaller: bool) -> None:
    dice, rungs = random.Random(0), Rungs("t", "m", smaller, (0.5,), 3)
    values = {f"run-{i}": dice.random() for i in range(150)}
    went_on = [who for who, value in values.items() if rungs.survives(store, "rung-0", who, value)]
    assert 35 <= len(went_on) <= 65  # a third is 50, with a standard deviation of 6
    best = sorted(values, key=lambda who: values[who], reverse=not smaller)[:20]
    assert set(best) <= set(went_on)


def test_a_trial_is_compared_with_those_that_cost_no_more(store: Store) -> None:
    def survives(who: str, loss: float, cost: float) -> bool:
        return replace(RUNGS, reduction=2, cost=cost).survives(store, "seeds-1", who, loss)

    assert survives("dear and good", 1.0, 3.0)
    assert survives("cheap and bad", 2.0, 1.0)  # nothing as cheap was there
    assert not survives("dear and worse", 2.1, 3.0)  # both are better, and neither is dearer
    assert not survives("cheap and worse", 2.2, 1.0)
    assert survives("cheap and better", 1.5, 1.0)
    assert survives("free", 9.0, 0.0)


def judge(store: Store, who: str, total: int = 16) -> Judge:
    return Judge(RUNGS, store, who, total)


def test_a_run_is_compared_when_it_comes_to_a_rung(store: Store) -> None:
    good, bad = judge(store, "good"), judge(store, "bad")
    for step in range(0, 17, 2):
        good.report(step, {"val/loss": 3.0 - step / 10}, None)
    assert not good.pruned
    bad.report(1, {"train/loss": 9.0}, None)
    bad.report(1, {"val/loss": 9.0}, None)  # before the rung
    assert not bad.pruned
    bad.report(2, {"val/loss": 9.0}, None)
    assert bad.pruned
    assert RUNGS.left_by(store, "bad") == (0, {"value": 9.0, "cost": 0.0, "survived": False})
    assert RUNGS.left_by(store, "good") == (1, {"value": 2.2, "cost": 0.0, "survived": True})


def test_a_resumed_run_is_told_the_same_again(store: Store) -> None:
    RUNGS.survives(store, "rung-0", "good", 1.0)
    judge(store, "bad").report(2, {"val/loss": 2.0}, None)
    assert judge(store, "bad").pruned
    again = judge(store, "good")
    again.report(8, {"val/loss": 0.9}, None)
    assert not again.pruned
    assert store.list("studies/s/rung-1") == ["good.json"]


def test_the_last_step_is_no_rung(store: Store) -> None:
    short = judge(store, "short", total=2)
    short.report(2, {"val/loss": 1.0}, None)
    assert not store.list("studies/s/rung-0")


def test_a_rung_is_reached_by_an_evaluation_a_rounding_early(store: Store) -> None:
    odd = judge(store, "odd", total=1003)
    odd.report(125, {"val/loss": 1.0}, None)  # an eighth would be 125.4
    assert store.list("studies/s/rung-0") == ["odd.json"]
