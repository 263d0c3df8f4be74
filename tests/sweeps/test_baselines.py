"""What a treated model is compared with, in every question that treats layers: the same model untouched, all else equal."""

from __future__ import annotations

import importlib

import pytest

from plm import Load, Store
from plm.inits.reinit import Reinit
from plm.spec import Seeds
from sweeps.engine.plan import plan

TREATING = (
    *("reinit_grid", "reinit_blocks", "layer_permutation", "graft_map", "layer_importance", "transferability"),
    "probing",
)


@pytest.mark.parametrize("name", TREATING)
def test_a_cell_is_compared_with_the_untouched_model_and_draws_by_its_own_seed(name: str, store: Store) -> None:
    sweep = importlib.import_module(f"sweeps.{name}").sweep
    planned = plan(sweep, store, {"seed": "1,2"})
    cells = {tuple(cell.labels.items()): cell for cell in planned.cells}
    treated = [cell for cell in planned.cells if not isinstance(cell.run.init, Load)]
    assert {cell.point["seed"] for cell in treated} == {1, 2}
    for cell in treated if name != "probing" else ():  # whose curves stand beside each other
        base = cells[tuple(sweep.baseline(cell.labels).items())]
        assert base is not cell
        assert isinstance(base.run.init, Load)
        assert base.run.init.origin == cell.run.init.origin
        assert {axis for axis, value in cell.point.items() if base.point[axis] != value} <= {*sweep.arms}
        assert (base.run.data, base.run.seeds, base.run.trained) == (cell.run.data, cell.run.seeds, cell.run.trained)
        assert sweep.baseline(base.labels) == base.labels
    for cell in planned.cells:
        seed = cell.point["seed"]
        assert cell.run.seeds == Seeds(fresh=seed, order=seed, noise=seed)
        assert not isinstance(cell.run.init, Reinit) or cell.run.init.seed == seed
    assert any(isinstance(cell.run.init, Reinit) for cell in planned.cells)
