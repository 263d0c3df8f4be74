"""Permutations: the paper's own, between their baselines."""

from __future__ import annotations

import pytest

from plm import Load, Store, permutation
from plm.inits.permute import Permute
from plm.inits.reinit import Reinit
from sweeps.engine.drawing import Mark
from sweeps.engine.plan import plan
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
