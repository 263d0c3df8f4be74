"""A sweep's cells: narrowing, unions, symbols that expand, and names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search_spaces.axis import Suited
from search_spaces.finetuning import durations, learning_rates, models
from search_spaces.masks import masks
from search_spaces.seeds import seeds
from sweeps.engine.sweep import Sweep, extremes, points
from sweeps.reinit_grid import sweep as reinit_grid


def test_axes_expand_per_model(question: Sweep) -> None:
    assert [p["mask"] for p in points(question, {"seed": "0"})] == ["00", "01", "11"]


def test_an_axis_is_replaced_in_place(question: Sweep) -> None:
    found = points(question, {"mask": "11,00", "seed": "3:5"})
    assert [(p["mask"], p["seed"]) for p in found] == [("11", 3), ("11", 4), ("00", 3), ("00", 4)]


def test_a_cell_asked_twice_is_one(question: Sweep) -> None:
    assert len(points(question, {"mask": "progressive,none,all,01", "seed": "0,0:2"})) == 6


def test_a_union_of_grids_keeps_each_cell_once(question: Sweep) -> None:
    assert isinstance(question.over, dict)
    union = replace(question, over=[question.over, question.over | {"scheme": "matched"}, question.over])
    assert len(points(union, {})) == 12


def test_a_pinned_grid_is_left_out_when_other_values_are_asked_for(question: Sweep) -> None:
    union = replace(question, over=[question.over, question.over | {"scheme": "matched"}])  # type: ignore[operator]
    assert {p["scheme"] for p in points(union, {"scheme": "shuffle"})} == {"shuffle"}
    assert {p["scheme"] for p in points(union, {"seed": "0"})} == {"bert", "matched"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sizes": "3"}, "unknown axis 'sizes'"),
        ({"mask": "progresive"}, "Did you mean 'progressive'"),
        ({"mask": "000"}, "write 2 characters 0 or 1"),
        ({"seed": "4:4"}, "half-open range"),
        ({"seed": "-1"}, "not a seed"),
        ({"lr": "0"}, "positive learning rate"),
        ({"scheme": "berd"}, "Did you mean 'bert'"),
    ],
)
def test_wrong_values_are_named(question: Sweep, given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        points(question, given)


def test_every_axis_must_be_in_the_grid(question: Sweep) -> None:
    with pytest.raises(ValueError, match="run\\(\\) takes"):
        replace(question, over={"seed": seeds(2)})


def test_an_unknown_metric_is_refused(question: Sweep) -> None:
    with pytest.raises(ValueError, match=r"Did you mean 'val/score'"):
        replace(question, metric="val/scor")


def test_suited_values_depend_on_the_model() -> None:
    lr = learning_rates(Suited((1e-3,), (1e-5,)))
    assert lr.expand(lr.values[0], {"model": "world-bert"}) == (1e-3,)
    assert lr.expand(lr.values[0], {"model": "/somewhere"}) == (1e-5,)


@pytest.mark.parametrize("text", ["3", "epochs:0", "epochs:x", "hours:2", "steps:1.5"])
def test_wrong_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        durations().read(text)


def test_one_thing_has_one_spelling(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    (folder := __import__("pathlib").Path("m")).mkdir()
    assert models().read("m,./m").values == (str(folder.resolve()),)
    assert durations().read("epochs:3,epochs:3.0").values == ("epochs:3",)


def test_extremes_keep_the_first_and_last_of_every_axis() -> None:
    cells = [{"mask": m, "size": s, "seed": d} for m in ("00", "01", "11") for s in (1, 2, 3) for d in range(4)]
    assert extremes(cells) == [{"mask": m, "size": s, "seed": 0} for m in ("00", "11") for s in (1, 3)]


def test_the_grid_of_the_issue_has_21_cells(encoder: str, toy: str) -> None:
    found = points(reinit_grid, {"model": encoder, "task": toy, "size": "16", "seed": "0:3", "mask": "progressive"})
    assert len(found) == 3 * 3  # a line of the progressive masks for each seed; no controls unless asked for


def test_masks_read_symbols_and_bits() -> None:
    assert masks().read("none,0011,all").values == ("none", "0011", "all")
