"""Grafts over a trajectory: the parent is trained once with the steps that are asked for, and noise stands beside."""

from __future__ import annotations

import pytest
from staged import stage

from plm import Store
from plm.recipes import world_bert
from sweeps.engine import cost, results
from sweeps.engine.drawing import Mark
from sweeps.engine.plan import plan
from sweeps.graft_map import place, sweep


def test_one_parent_keeps_all_steps(store: Store) -> None:
    planned = plan(sweep, store, {"seed": "0", "donor": "0,500,noise:matched"})
    (parent,) = planned.keep
    assert planned.keep[parent] == (0, 500, 4000)
    per_size = 1 + 3 * 4  # nothing grafted, and each layer from each donor
    assert len(planned.runs) == 1 + 2 * per_size
    assert len(planned.cells) == 2 * 3 * 5


def test_a_graft_from_the_last_step_is_the_model(store: Store) -> None:
    planned = plan(sweep, store, {"seed": "0", "donor": "4000", "size": "100"})
    assert len({cell.spec.run_id for cell in planned.cells}) == 1


def test_the_baselines_own_runs_are_no_comparison(store: Store) -> None:
    given = {"seed": "0:3", "donor": "4000,500", "size": "100"}
    stage(
        plan(sweep, store, given),
        store,
        lambda cell: 0.5 + 0.01 * (cell.point["mask"].find("1") + 2) ** cell.point["seed"],
    )
    planned = plan(sweep, store, given)
    arms = results.arms(planned, store)
    own = [arm for arm in arms if arm.point["donor"] == "4000" and "1" in arm.point["mask"]]
    assert len(own) == 4
    assert {arm.difference.values for arm in own if arm.difference} == {(0.0, 0.0, 0.0)}
    assert {arm.p_holm for arm in own} == {None}
    assert {arm.comparisons for arm in arms} == {4}
    assert "of 4 comparisons" in cost.detectable(planned, [])


def test_a_trajectory_of_folders_will_do(
    encoder: str, toy: str, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("steps")
    for step in (0, 10):
        (folder / f"step{step}").symlink_to(encoder)
    planned = plan(sweep, store, {"model": str(folder), "task": toy, "size": "16", "seed": "0"})
    assert {cell.point["donor"] for cell in planned.cells} == {"noise:matched", "noise:bert", "0"}
    same = {cell.spec.run_id for cell in planned.cells if cell.point["donor"] == "0"}
    assert len(same) == 1  # both steps are the same files


def test_a_run_of_another_store_is_not_trained_anew(store: Store) -> None:
    run = store.run(world_bert())
    run.claim(world_bert())
    given = {"model": f"{store.root}/{run.key}", "task": "sentiment", "seed": "0", "donor": "500", "size": "100"}
    with pytest.raises(ValueError, match="has no checkpoint so far"):
        plan(sweep, store, given)
    for step in (500, 4000):
        store.put(f"{run.key}/checkpoints/step_{step:08d}/config.json", b"{}")
    assert plan(sweep, store, given).cells
    with pytest.raises(ValueError, match=r"is a run of another store, and would be trained anew .*--store .*/store\)"):
        plan(sweep, Store.at(f"{store.root}-other"), given)


@pytest.mark.parametrize(
    ("donor", "mask", "marks"),
    [
        ("500", "0100", [Mark("layer 1", 500.0)]),
        ("noise:bert", "0001", [Mark("layer 3", -1.0)]),
        ("500", "0110", [Mark("0110", 500.0)]),
        ("500", "0000", []),
    ],
)
def test_a_graft_has_its_place(donor: str, mask: str, marks: list[Mark]) -> None:
    assert list(place({"donor": donor, "mask": mask})) == marks
