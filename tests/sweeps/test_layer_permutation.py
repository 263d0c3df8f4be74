"""Permutations: the paper's own, between their baselines."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from scipy import stats
from staged import stage

from plm import Load, Store, permutation
from plm.inits.permute import Permute
from plm.inits.reinit import Reinit
from sweeps.engine import correlation, cost, results
from sweeps.engine.drawing import Mark
from sweeps.engine.plan import Cell, plan
from sweeps.engine.stats import holm
from sweeps.layer_permutation import place, sweep


def test_the_cells_are_permutations_and_their_baselines(store: Store) -> None:
    planned = plan(sweep, store, {"seed": "1", "task": "sentiment"})
    inits = {cell.point["order"]: cell.spec.init for cell in planned.cells}
    moved = [seed for seed in range(1, 11) if permutation(seed, 4) != (0, 1, 2, 3)]
    assert list(inits) == ["none", "redrawn:bert", "redrawn:matched", *map(str, moved)]
    assert len(moved) < 10  # one of the ten moves nothing of four layers
    assert isinstance(inits["none"], Load)
    for scheme in ("bert", "matched"):
        redrawn = inits[f"redrawn:{scheme}"]
        assert isinstance(redrawn, Reinit)
        assert (redrawn.layers, redrawn.scheme) == ((0, 1, 2, 3), scheme)
    for seed in moved:
        permuted = inits[str(seed)]
        assert isinstance(permuted, Permute)
        assert permuted.order == permutation(seed, 4)


def test_the_training_seed_does_not_change_the_permutation(store: Store) -> None:
    planned = plan(sweep, store, {"seed": "1,2", "task": "sentiment", "order": "3"})
    assert len({cell.spec.init for cell in planned.cells}) == 1
    assert len(planned.runs) == 3  # and the pretraining


def uneven(cell: Cell) -> float:
    """A score of each run, drawn by its id."""
    return Random(cell.spec.run_id).randrange(50, 100) / 100


def test_seeds_that_draw_the_same_order_are_one_arm(store: Store) -> None:
    """Of four layers, seeds 7 and 8 draw the same order: one hypothesis, and one point of a correlation."""
    assert permutation(7, 4) == permutation(8, 4) != permutation(2, 4)
    given = {"size": "100,400", "order": "none,redrawn:bert,2,3,7,8"}
    stage(plan(sweep, store, given), store, uneven)
    planned = plan(sweep, store, given)
    arms = results.arms(planned, store)
    seven, eight = (next(arm for arm in arms if arm.point["order"] == order) for order in "78")
    assert seven.runs == eight.runs
    assert seven.p_holm == eight.p_holm is not None
    for task, size in product(("sentiment", "acceptability"), (100, 400)):
        family = [arm for arm in arms if (arm.point["task"], arm.point["size"]) == (task, size)]
        assert {arm.comparisons for arm in family} == {4}
        tests = {arm.runs: stats.ttest_1samp(arm.difference.values, 0).pvalue for arm in family if arm.difference}
        corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
        assert {arm.runs: arm.p_holm for arm in family if arm.difference} == pytest.approx(corrected)
        assert "group of arms: 4 (arms of the same runs are one)" in "".join(results.caption(family))
    assert len(cost.spreads_of(arms)) == 4 * 4
    assert "of 4 comparisons" in cost.detectable(planned, [])


def test_correlations_are_among_permutations_alone(store: Store) -> None:
    """Baselines differ from all permutations by much on every task, and would make any correlation."""
    stage(plan(sweep, store), store, uneven)
    assert sweep.correlation is not None
    found = correlation.pairs(sweep.correlation, results.arms(plan(sweep, store), store))
    assert [pair.tasks[0] == pair.tasks[1] for pair in found] == [False, True, True]
    assert {pair.n for pair in found} == {8}


@pytest.mark.parametrize(
    ("order", "mark"),
    [
        ("none", Mark("layers in order")),
        ("redrawn:matched", Mark("all layers redrawn, scheme matched")),
        ("7", Mark("permuted layers", 0)),
        ("1-0", Mark("permuted layers", 0)),
    ],
)
def test_an_order_has_its_place(order: str, mark: Mark) -> None:
    assert list(place({"order": order})) == [mark]
