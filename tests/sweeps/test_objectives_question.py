"""Objectives: equal compute against FLOPs that are really counted, the question put as it is, and a tiny one run for real."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from plm import RunSpec, Store, shape, train
from plm.build import Cache, build
from plm.objectives import IGNORED
from plm.store import RunFolder
from plm.train import open_stream
from search_spaces import objectives as space
from sweeps.engine import launch
from sweeps.engine.pivot import pretraining
from sweeps.engine.plan import plan
from sweeps.objectives import sweep

AXES = {"text": "world:stories", "duration": "steps:900", "size": 16, "seed": 0}


def cell(objective: str, task: str = "sentiment", model: str = "electra-4x128", **axes: object) -> RunSpec:
    spec = sweep.run(**AXES | {"model": model, "objective": objective, "task": task} | axes)
    assert spec is not None
    return spec


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.at(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("name", space.INSTEAD)
def test_flops_are_those_that_a_forward_pass_takes(name: str, data: Store, prose: str) -> None:
    spec = pretraining(cell(name, text=prose))
    model = build(spec, data, Cache()).model.eval()
    model.set_attn_implementation("eager")  # torch counts no fused attention on a CPU
    if hasattr(model, "generator"):
        model.generator.set_attn_implementation("eager")
    batch = open_stream(spec, data, Cache()).batch(0)
    chosen = float((batch["labels"] != IGNORED).float().mean())
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        spec.objective.losses(model, batch)
    objective = replace(spec.objective, rate=chosen)  # type: ignore[call-arg]
    expected = objective.flops_per_token(shape(spec.init.architecture()), spec.seq_len)
    assert counted.get_total_flops() / batch["input_ids"].numel() == pytest.approx(expected, rel=0.01)


def test_all_arms_cost_what_the_baseline_costs() -> None:
    costs = {name: space.training_flops(pretraining(cell(name))) for name in space.INSTEAD}
    steps = {name: pretraining(cell(name)).total_steps for name in space.INSTEAD}
    assert steps["mlm"] == 900
    assert all(cost == pytest.approx(costs["mlm"], rel=1 / 900) for cost in costs.values())
    # Predicting everywhere from the vocabulary is dear; saying yes or no there is cheap.
    assert steps["all-tokens-mlm"] < steps["replace-mlm"] < steps["electra-15%"] < 900
    assert steps["all-tokens-mlm"] < steps["electra"] < steps["electra-15%"]


def test_sentence_objectives_train_as_long_as_the_baseline() -> None:
    assert {pretraining(cell(name, model="bert-4x128")).total_steps for name in space.BESIDE} == {900}


def test_every_arm_is_another_run() -> None:
    specs = [cell(name) for name in space.INSTEAD] + [cell(name, model="bert-4x128") for name in space.BESIDE]
    assert len({spec.run_id for spec in specs}) == len({pretraining(spec).run_id for spec in specs}) == len(specs)


def test_a_cell_exists_where_it_makes_sense() -> None:
    for name, model, task in (
        ("electra", "bert-4x128", "sentiment"),
        ("mlm+sop", "electra-4x128", "sentiment"),
        ("mlm", "bert-4x128", "sop"),
        ("electra", "electra-4x128", "nsp"),
    ):
        assert sweep.run(**AXES, model=model, objective=name, task=task) is None


def test_a_question_that_was_trained_on_is_the_pretraining_itself() -> None:
    parent = pretraining(cell("mlm+nsp", model="bert-4x128"))
    assert cell("mlm+nsp", "nsp", "bert-4x128") == parent
    other = cell("mlm+nsp", "sop", "bert-4x128")
    assert other.init.origin == parent.final
    assert other.objective == space.objective("mlm+sop", 0.15)


def test_all_the_data_is_no_axis_of_a_question(store: Store) -> None:
    planned = plan(sweep, store, {"size": "all", "seed": "0", "objective": "mlm+nsp", "duration": "steps:2"})
    assert {cell.point["size"] for cell in planned.cells} == {"all", 2000}


def test_a_tiny_one_runs_and_the_question_moves_no_weight(store: Store, prose: str, toy: str) -> None:
    tiny = {"text": prose, "model": "bert-1x32", "duration": "steps:2", "seed": "0", "size": "16"}
    words = [f"{name}={value}" for name, value in tiny.items()]
    words += ["objective=mlm+nsp,mlm+sop", f"task={toy},nsp,sop", "--local", "--store", str(store.root)]
    assert launch.main(sweep, words) == 0
    asked = cell("mlm+nsp", "sop", "bert-1x32", duration="steps:2", text=prose)
    first, then = (RunFolder(store, run.run_id).result() for run in (pretraining(asked), asked))
    assert first["weights_sha256"] != ""
    assert then["metrics"]["val/mlm"] != first["metrics"]["val/mlm"]  # other pairs
    assert "val/nsp_accuracy" in first["metrics"]
    assert then["metrics"]["val/sop_accuracy"] > 0
    weights = [
        torch.nn.utils.parameters_to_vector(build(replace(asked, init=replace(asked.init, origin=run.final)), store, Cache()).model.parameters())
        for run in (pretraining(asked), asked)
    ]  # fmt: skip
    assert (weights[0] - weights[1]).abs().max() < 1e-25
    table = (store.root / "sweeps/objectives/table.md").read_text()
    assert f"{then['metrics']['val/sop_accuracy']:.3f}" in table.split("## toy")[0]
    assert train(asked, store=store).metrics == then["metrics"]
