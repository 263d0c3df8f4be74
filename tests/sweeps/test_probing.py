"""Probes: what is frozen, and that the curve beside them is the grid's own runs."""

from __future__ import annotations

import pytest
from staged import stage

from plm import Load, Store
from plm.inits.drop import Drop
from plm.inits.reinit import Reinit
from sweeps import reinit_grid
from sweeps.engine import cost, panels, results
from sweeps.engine.drawing import Mark
from sweeps.engine.plan import Cell, plan
from sweeps.probing import place, sweep


def cells(store: Store, **given: str) -> dict[tuple[str, int, str], Cell]:
    planned = plan(sweep, store, {"seed": "0", "task": "sentiment", "size": "100"} | given)
    return {(c.point["way"], c.point["kept"], c.point["scheme"]): c for c in planned.cells}


def test_a_probe_is_of_the_first_layers_with_a_frozen_body(store: Store) -> None:
    found = cells(store)
    assert {(way, kept) for way, kept, _ in found} == {
        *(("probe", kept) for kept in (1, 2, 3, 4)),
        ("noise", 4),
        *(("finetune", kept) for kept in (0, 1, 2, 3, 4)),
    }
    probe, whole, noise = (
        found[key].spec for key in (("probe", 1, "bert"), ("probe", 4, "bert"), ("noise", 4, "matched"))
    )
    assert isinstance(probe.init, Drop)
    assert probe.init.layers == (1, 2, 3)
    assert isinstance(whole.init, Load)
    assert isinstance(noise.init, Reinit)
    assert (noise.init.layers, noise.init.scheme) == ((0, 1, 2, 3), "matched")
    assert {spec.trained for spec in (probe, whole, noise)} == {"probe"}
    assert {spec.optim.lr for spec in (probe, whole, noise)} == {1e-3}
    assert found["probe", 2, "bert"].spec.run_id == found["probe", 2, "matched"].spec.run_id


def test_a_probe_costs_one_pass_over_its_texts(store: Store) -> None:
    """However long it is trained; fine-tuning costs three a step, and evaluation is the same."""
    short, long = (cells(store, duration=duration) for duration in ("epochs:1", "epochs:3"))
    probe, whole = ("probe", 4, "bert"), ("finetune", 4, "bert")
    assert cost.flops(short[probe].spec, store) == cost.flops(long[probe].spec, store)
    texts = short[probe].spec.data.num_sequences, short[probe].spec.data.task.counts[1]
    each = cost.flops(short[probe].spec, store) / sum(texts)
    assert cost.flops(long[whole].spec, store) == pytest.approx(each * (9 * texts[0] + texts[1]))


def test_the_curve_beside_is_the_grid_itself(store: Store) -> None:
    grid = plan(reinit_grid.sweep, store, {"seed": "0", "task": "sentiment", "size": "100", "scheme": "bert"})
    ours = {
        cell.spec.run_id for (way, _, scheme), cell in cells(store).items() if (way, scheme) == ("finetune", "bert")
    }
    assert ours == {cell.spec.run_id for cell in grid.cells}


def test_other_models_are_probed_for_longer(encoder: str, toy: str, store: Store) -> None:
    planned = plan(sweep, store, {"model": encoder, "task": toy, "size": "16", "seed": "0", "scheme": "bert"})
    durations = {(cell.point["way"], cell.point["duration"]) for cell in planned.cells}
    assert durations == {
        ("probe", "epochs:40"), ("noise", "epochs:40"), ("finetune", "epochs:3"), ("finetune", "steps:450"),
    }  # fmt: skip


def test_both_curves_have_their_place() -> None:
    assert list(place({"way": "probe", "kept": 2})) == [Mark("probe, body frozen", 2)]
    assert list(place({"way": "noise", "kept": 4})) == [Mark("probe of all layers redrawn")]
    assert list(place({"way": "finetune", "kept": 0})) == [Mark("fine-tuned, others redrawn", 0)]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"lr": "1e-4,1e-3"}, ["lr 0.0001", "lr 0.001"]),
        ({"lr": "1e-4", "duration": "steps:2,steps:3"}, ["duration steps:2", "duration steps:3"]),
    ],
)
def test_what_the_command_line_varies_tells_lines_apart(
    given: dict[str, str], names: list[str], encoder: str, toy: str, store: Store
) -> None:
    given |= {"model": encoder, "task": toy, "size": "16", "seed": "0:2", "scheme": "bert"}
    given = {"duration": "steps:3"} | given
    stage(plan(sweep, store, given), store, lambda cell: 0.5 + 0.1 * cell.point["kept"])
    figure = panels.draw(sweep.figures[0], results.arms(plan(sweep, store, given), store))
    assert figure is not None
    drawn = {str(line.get_label()): [round(x) for x in line.get_xdata()] for line in figure.axes[0].lines}  # type: ignore[union-attr]
    for name in names:
        assert drawn[f"probe, body frozen, {name}"] == [1, 2]
        assert drawn[f"fine-tuned, others redrawn, {name}"] == [0, 1, 2]
        assert f"probe of all layers redrawn, {name}" in drawn


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"way": "probe", "kept": "0"}, r"there is way=finetune\. Beside the others there is kept=1,2,3,4\."),
        ({"way": "noise", "kept": "2"}, r"there is way=probe,finetune\. Beside the others there is kept=4\."),
    ],
)
@pytest.mark.parametrize("smoke", [False, True])
def test_values_that_do_not_go_together_say_what_does(
    store: Store, given: dict[str, str], said: str, smoke: bool
) -> None:
    with pytest.raises(ValueError, match=rf"no cell for these values\. Beside the others {said}$"):
        plan(sweep, store, {"task": "sentiment"} | given, smoke=smoke)


def test_what_means_nothing_beside_the_rest_is_named(store: Store) -> None:
    given = {"task": "sentiment", "size": "100", "seed": "1"}
    planned = plan(sweep, store, given | {"way": "probe", "kept": "0,2"})
    assert {cell.point["kept"] for cell in planned.cells} == {2}
    assert planned.left_out == ("left out: kept=0, with which nothing is asked here.",)
    both = plan(sweep, store, given | {"way": "probe,noise", "kept": "0,2"})
    assert [said.partition(",")[0] for said in both.left_out] == ["left out: way=noise", "left out: kept=0"]
    assert plan(sweep, store, given | {"kept": "0,2"}).left_out == ()  # fine-tuning asks with none kept
