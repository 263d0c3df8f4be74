"""Blocks: which cells there are, and where each mask stands in the figure."""

from __future__ import annotations

import pytest
from staged import stage

from plm import Load, Store
from plm.inits.reinit import Reinit
from search_spaces.masks import spelled
from sweeps.engine import panels, results
from sweeps.engine.drawing import Mark
from sweeps.engine.plan import plan
from sweeps.reinit_blocks import place, sweep


@pytest.mark.parametrize(
    ("mask", "marks"),
    [
        ("000000", [Mark("nothing redrawn")]),
        ("111111", [Mark("all redrawn")]),
        ("011000", [Mark("2 layers redrawn", 1)]),
        ("100111", [Mark("2 layers alone kept", 1)]),
        ("000100", [Mark("1 layer redrawn", 3)]),
        ("110111", [Mark("1 layer alone kept", 2)]),
        ("000111", [Mark("3 layers redrawn", 3), Mark("3 layers alone kept", 0)]),
        ("010101", [Mark("every second layer redrawn", 1)]),
        ("110100", [Mark("redrawn: 110100", 0)]),
        ("011110", [Mark("4 layers redrawn", 1)]),
        ("011111", [Mark("1 layer alone kept", 0)]),
        ("100001", [Mark("4 layers alone kept", 1)]),
        ("110", [Mark("2 layers redrawn", 0), Mark("1 layer alone kept", 2)]),
        ("101", [Mark("1 layer alone kept", 1), Mark("every second layer redrawn", 0)]),
        ("010", [Mark("1 layer redrawn", 1), Mark("every second layer redrawn", 1)]),
        ("10", [Mark("1 layer redrawn", 0), Mark("1 layer alone kept", 1)]),
    ],
)
def test_a_mask_has_its_place(mask: str, marks: list[Mark]) -> None:
    assert list(place({"mask": mask})) == marks


@pytest.mark.parametrize("word", ["blocks", "preserved_blocks", "singles", "alternate"])
@pytest.mark.parametrize("layers", [2, 3, 4, 5, 6, 12])
def test_every_mask_of_the_question_has_a_place(word: str, layers: int) -> None:
    for mask in spelled(word, layers):
        assert list(place({"mask": mask})), mask


@pytest.mark.parametrize(("word", "what"), [("blocks:7", "redrawn"), ("preserved_blocks:7", "alone kept")])
def test_a_block_of_more_than_half_is_drawn(word: str, what: str) -> None:
    """At the ends, where it is no more a block than the rest is, as the rest."""
    other = "alone kept" if what == "redrawn" else "redrawn"
    assert [list(place({"mask": mask})) for mask in spelled(word, 12)] == [
        [Mark(f"5 layers {other}", 7)],
        *([Mark(f"7 layers {what}", first)] for first in range(1, 5)),
        [Mark(f"5 layers {other}", 0)],
    ]


def test_the_cells_are_those_of_the_question(encoder: str, toy: str, store: Store) -> None:
    planned = plan(sweep, store, {"model": encoder, "task": toy, "size": "16", "seed": "0:2"})
    points = [cell.point for cell in planned.cells]
    assert {p["mask"] for p in points} == {"00", "11", "10", "01"}
    assert {p["scheme"] for p in points} == {"bert", "matched"}
    assert {p["duration"] for p in points} == {"epochs:3", "steps:450"}
    assert len(planned.runs) == (1 + 2 * 3) * 2 * 2  # nothing redrawn has no scheme
    for cell in planned.cells:
        init = cell.spec.init
        if isinstance(init, Reinit):
            assert "".join("01"[layer in init.layers] for layer in range(2)) == cell.point["mask"]
            assert (init.scheme, init.seed) == (cell.point["scheme"], cell.point["seed"])
        else:
            assert isinstance(init, Load)
            assert cell.point["mask"] == "00"


def test_a_scheme_has_a_panel_with_the_whole_model_in_it(encoder: str, toy: str, store: Store) -> None:
    given = {
        "model": encoder,
        "task": toy,
        "size": "16",
        "seed": "0:2",
        "duration": "epochs:3",
        "mask": "none,all,singles",
    }
    stage(plan(sweep, store, given), store, lambda cell: 0.5 + 0.1 * ("1" not in cell.point["mask"]))
    (panels_,) = sweep.figures
    figure = panels.draw(panels_, results.arms(plan(sweep, store, given), store))
    assert figure is not None
    assert [ax.get_title().rpartition(", ")[2] for ax in figure.axes] == ["scheme bert", "scheme matched"]
    for ax in figure.axes:
        drawn = {str(line.get_label()): line for line in ax.lines}
        assert {"nothing redrawn", "all redrawn", "1 layer redrawn"} <= set(drawn)
        assert set(drawn["nothing redrawn"].get_ydata()) == {0.6}  # type: ignore[arg-type]


def test_blocks_of_the_embedded_default(store: Store) -> None:
    planned = plan(sweep, store, {"seed": "0", "scheme": "bert", "task": "sentiment"})
    found = [cell.point["mask"] for cell in planned.cells]
    assert found == ["0000", "1111", "1100", "0110", "0011", "1001", "1000", "0100", "0010", "0001", "1010", "0101"]
