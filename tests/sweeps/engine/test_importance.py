"""What layers are worth: known games are recovered, from all masks and from some."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from staged import stage

from plm import RunSpec, Store, finetune, reinit, steps
from search_spaces.masks import masks as masks_axis
from search_spaces.masks import spelled, unablated
from search_spaces.seeds import seeds
from sweeps import layer_importance
from sweeps.engine import launch
from sweeps.engine.importance import Panel, caption, importance, markdown, panels, table
from sweeps.engine.importance_figures import draw
from sweeps.engine.plan import plan
from sweeps.engine.results import arms
from sweeps.engine.sweep import Sweep

Game = Callable[[frozenset[int]], float]


def kept(mask: str) -> frozenset[int]:
    return frozenset(layer for layer, bit in enumerate(mask) if bit == "0")


def by_definition(game: Game, count: int) -> list[float]:
    """Shapley values: what a layer adds, averaged over all orders in which layers come."""
    orders, worth = list(permutations(range(count))), [0.0] * count
    for order in orders:
        for i, layer in enumerate(order):
            worth[layer] += game(frozenset(order[: i + 1])) - game(frozenset(order[:i]))
    return [total / len(orders) for total in worth]


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=16, max_size=16))
def test_with_all_masks_both_are_exact(scores: list[float]) -> None:
    masks = spelled("uniform:16", 4)
    game = dict(zip(map(kept, masks), scores, strict=True))
    found = importance(masks, [[score, score] for score in scores])
    assert found.exhaustive
    assert [w.mean for w in found.shapley] == pytest.approx(by_definition(game.__getitem__, 4), abs=1e-9)
    for layer, worth in enumerate(found.effects):
        with_it = [score for layers, score in game.items() if layer in layers]
        without = [score for layers, score in game.items() if layer not in layers]
        assert worth.mean == pytest.approx(np.mean(with_it) - np.mean(without), abs=1e-9)
        assert worth.over_masks is None
    assert sum(w.mean for w in found.shapley) == pytest.approx(game[frozenset(range(4))] - game[frozenset()], abs=1e-9)


def paired(layers: frozenset[int]) -> float:
    """Layers 0 and 1 stand in for one another, 2 and 3 help only together, 5 does nothing."""
    return 0.3 * bool(layers & {0, 1}) + 0.2 * (layers >= {2, 3}) + 0.1 * (4 in layers) + 0.05 * len(layers & {6, 7})


def test_some_masks_are_enough() -> None:
    masks = ("0" * 8, *spelled("uniform:120:3", 8), "1" * 8)
    dice = np.random.default_rng(0)
    scores = [[paired(kept(mask)) + dice.normal(0, 0.01) for _ in range(3)] for mask in dict.fromkeys(masks)]
    found = importance(list(dict.fromkeys(masks)), scores)
    true = [0.15, 0.15, 0.1, 0.1, 0.1, 0.0, 0.05, 0.05]
    assert not found.exhaustive
    assert [w.mean for w in found.effects] == pytest.approx(true, abs=0.04)
    assert [w.mean for w in found.shapley] == pytest.approx(true, abs=0.08)  # few drawn masks keep few, or most
    assert sum(w.mean for w in found.shapley) == pytest.approx(paired(frozenset(range(8))), abs=0.03)  # not estimated
    for worth, value in zip(found.effects, true, strict=True):
        assert worth.over_masks is not None
        assert worth.over_masks.low < value < worth.over_masks.high
        assert worth.over_masks.high - worth.over_masks.low < 0.2
    assert found.explained is not None
    assert 0.5 < found.explained < 0.95


def test_none_and_all_take_no_part_in_the_effects_unless_all_masks_do() -> None:
    some = spelled("uniform:12:1", 6)
    masks = ["0" * 6, "1" * 6, *(mask for mask in some if 0 < mask.count("1") < 6)]
    scores = [[float(mask.count("0"))] * 2 for mask in masks]
    scores[0] = scores[1] = [100.0, 100.0]
    assert [w.mean for w in importance(masks, scores).effects] == pytest.approx([1.0] * 6)


def test_intervals_over_seeds_are_of_the_effects_themselves() -> None:
    masks = spelled("uniform:4", 2)
    found = importance(masks, [[kept(mask).__len__() * a for a in (1.0, 2.0, 3.0)] for mask in masks])
    assert found.effects[0].values == pytest.approx((1.0, 2.0, 3.0))
    assert found.effects[0].over_seeds is not None
    assert found.effects[0].over_seeds.low < 0 < 2 < found.effects[0].over_seeds.high  # 2 - 4.3 / sqrt(3)


@pytest.mark.parametrize(
    "masks",
    [
        ["0000", "1111"],
        ["0000", "0001", "0010", "0100", "1000", "0011"],
        ["0000", "1111", *(f"0{rest:03b}" for rest in range(1, 8))],  # the first layer is never redrawn
    ],
)
def test_too_few_masks_are_refused(masks: list[str]) -> None:
    with pytest.raises(ValueError, match="none, all and at least 5 others are needed"):
        importance(masks, [[0.0]] * len(masks))


# In a sweep


@pytest.mark.usefixtures("no_view")
def test_a_sweep_over_masks_answers_with_its_layers(
    encoder: str, toy: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*, model: str, task: str, mask: str, seed: int) -> RunSpec:
        init = reinit(model, mask, seed=seed)
        return finetune(task, init=init, size=24, seed=seed, batch_size=8, duration=steps(3), dtype="float32")

    from search_spaces.finetuning import models, tasks

    over = {
        "model": models(encoder),
        "task": tasks(toy),
        "mask": masks_axis("none", "uniform:64", "all"),
        "seed": seeds(2),
    }
    sweep = Sweep(
        run, over=over, baseline=lambda cell: cell | {"mask": unablated(cell["mask"])}, arms=("mask",), importance="mask"
    )  # fmt: skip
    words = ["--store", str(store.root), "--local"]
    assert launch.main(sweep, [*words, "mask=none,all"]) == 0
    assert "2 of 2 masks finished at all seeds: too few" in capsys.readouterr().out
    assert launch.main(sweep, words) == 0
    assert "toy, tiny: layers" in capsys.readouterr().out
    (panel,) = panels(arms(plan(sweep, store), store), plan(sweep, store))
    assert panel.found is not None
    assert panel.masks == ("00", "01", "10", "11")
    scores = {mask: arm.estimate.mean for mask, arm in zip(panel.masks, panel.arms, strict=True) if arm.estimate}
    by_hand = (scores["01"] + scores["00"] - scores["11"] - scores["10"]) / 2
    assert panel.found.effects[0].mean == pytest.approx(by_hand)
    head, rows = table(panel)
    assert [row[0] for row in rows] == ["0", "1"]
    assert len(head) == len(rows[0]) == 7
    assert "these are all masks there are" in caption(panel)[1]
    assert markdown([panel]) in (store.root / "sweeps" / sweep.name / "table.md").read_text()
    assert (store.root / "sweeps" / sweep.name / "figures" / "tiny-toy" / "importance.png").is_file()


def weighed(mask: str, store: Store) -> Panel:
    """The panel of a question about four layers, each of which is worth a tenth."""
    given = {"mask": mask, "seed": "0:2"}
    stage(plan(layer_importance.sweep, store, given), store, lambda cell: 0.5 + 0.1 * cell.point["mask"].count("0"))
    planned = plan(layer_importance.sweep, store, given)
    (panel,) = panels(arms(planned, store), planned)
    return panel


@pytest.mark.parametrize("mask", ["none,all,singles,blocks", "none,uniform:8,all,singles"])
def test_masks_that_were_chosen_are_not_averaged_over(mask: str, store: Store) -> None:
    """Enough of them for a regression, but one that says something else."""
    panel = weighed(mask, store)
    assert panel.found is None
    assert table(panel)[1] == []
    figure = draw([panel])
    assert not figure.axes[1].axison
    for said in (" ".join(caption(panel)), figure._supxlabel.get_text().replace("\n", " ")):  # type: ignore[attr-defined]
        assert "were not drawn uniformly" in said
        assert "ask for mask=none,uniform:64,all" in said


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ("0000,uniform:8,uniform:4:1,1111", "drawn uniformly, and none and all"),
        (",".join(map("".join, product("01", repeat=4))), "these are all masks there are"),
    ],
)
def test_masks_that_were_drawn_are_averaged_over_and_so_are_all(mask: str, said: str, store: Store) -> None:
    panel = weighed(mask, store)
    assert panel.found is not None
    assert said in caption(panel)[1]
    assert draw([panel]).axes[1].axison


def test_an_axis_of_masks_is_one_of_the_sweeps(encoder: str) -> None:
    with pytest.raises(ValueError, match="unknown axis of the figure 'masks'"):
        Sweep(lambda *, mask, seed: None, over={"mask": masks_axis("none"), "seed": seeds(1)}, importance="masks")
