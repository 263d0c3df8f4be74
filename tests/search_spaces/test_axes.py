"""Axes of orders, depths, donors, and of the paper's experiments: how values are written, and what they become."""

from __future__ import annotations

from pathlib import Path

import pytest

import plm
from plm import Load
from plm.inits.drop import Drop
from plm.inits.graft import Graft
from plm.inits.permute import Permute
from plm.inits.reinit import Reinit
from search_spaces import transferability as paper
from search_spaces.analyses import analyses
from search_spaces.axis import Axis, By, Suited, suited
from search_spaces.depths import depths
from search_spaces.donors import donors, grafted, grafts
from search_spaces.orders import is_permutation, orders, rearranged


def test_a_symbol_may_depend_on_another_axis() -> None:
    value = By("way", {"a": (1, Suited((2,), (3, 4))), "b": (5,)})
    assert suited(value, {"way": "a", "model": "world-bert"}) == (1, 2)
    assert suited(value, {"way": "a", "model": "other"}) == (1, 3, 4)
    assert suited(value, {"way": "b", "model": "other"}) == (5,)


def test_orders_are_seeds_numbers_or_baselines() -> None:
    assert orders("none").read("1:3,redrawn:matched,1-0").values == ("1", "2", "redrawn:matched", "1-0")
    assert [is_permutation(order) for order in ("none", "redrawn:bert", "1", "1-0")] == [False, False, True, True]


def test_an_order_becomes_a_start() -> None:
    source = plm.model("world-bert")
    assert rearranged("world-bert", "none", 0) == Load(source)
    assert rearranged("world-bert", "3-2-1-0", 0) == Permute(source, (3, 2, 1, 0))
    assert rearranged("world-bert", "2", 0) == plm.permute(source, plm.permutation(2, 4))
    redrawn = rearranged("world-bert", "redrawn:matched", 5)
    assert isinstance(redrawn, Reinit)
    assert (redrawn.layers, redrawn.scheme, redrawn.seed) == ((0, 1, 2, 3), "matched", 5)


def test_depths_are_each_or_some() -> None:
    axis, point = depths("each"), {"model": "world-bert"}
    assert [kept for value in axis.values for kept in axis.expand(value, point)] == [0, 1, 2, 3, 4]
    assert [axis.expand(value, point) for value in axis.read("0,2").values] == [(0,), (2,)]
    with pytest.raises(ValueError, match="9 layers: world-bert has 4"):
        axis.expand(9, point)


def test_a_donor_is_a_moment_or_noise() -> None:
    run = plm.model("world-bert").run  # type: ignore[union-attr]
    assert grafted("world-bert", "0100", "1000", 0) == Graft(run.final, (1,), run.at(1000))
    assert grafted("world-bert", "0100", "4000", 0) == Load(run.final)
    noise = grafted("world-bert", "0100", "noise:matched", 3)
    assert isinstance(noise, Reinit)
    assert (noise.layers, noise.scheme, noise.seed) == ((1,), "matched", 3)


def test_a_step_has_one_spelling() -> None:
    assert donors("each").read("500,0500,noise:bert,0,00").values == ("500", "noise:bert", "0")


def test_donors_of_a_folder_are_its_steps_before_the_last(tiny_bert: str, tmp_path: Path) -> None:
    for step in (0, 5, 10):
        (tmp_path / f"step_{step:08}").symlink_to(tiny_bert)
    point = {"model": str(tmp_path)}
    assert donors("each").expand("each", point) == ("0", "5")
    assert grafts("singles").expand("singles", point) == ("10", "01")
    with pytest.raises(ValueError, match="a recipe, which comes by every step"):
        donors("each").expand("each", {"model": "world-bert"})


@pytest.mark.parametrize(
    ("axis", "text", "message"),
    [
        (orders("none"), "3:3", "not an order of layers"),
        (orders("none"), "redrawn:berd", "Did you mean 'bert'"),
        (orders("none"), "1:1000001", "'1:1000001' are 1,000,000 orders: a sweep takes 100,000 at most"),
        (orders("none"), "1:99999999999999999999", "orders: a sweep takes 100,000 at most"),
        (orders("none"), "5000000000", "the seeds of permutations are 0 to 4294967295"),
        (orders("none"), "4294967290:4294967297", "the seeds of permutations are 0 to 4294967295"),
        (depths("each"), "-1", "not a number of layers"),
        (donors("each"), "noise:berd", "Did you mean 'bert'"),
        (donors("each"), "last", "not a donor"),
        (paper.changes(), "order:3", "not a change"),
        (paper.scales("tiny"), "large", "unknown value 'large'"),
        (paper.experiments("blocks"), "block", "Did you mean 'blocks'"),
    ],
)
def test_what_means_nothing_is_refused(axis: Axis, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        axis.read(text)


def test_a_change_becomes_a_start() -> None:
    source = plm.model("world-bert")
    options = {"scheme": "bert", "seed": 1, "layer_norm": "keep"}
    assert paper.changed("world-bert", "first:3/4", **options) == Drop(source, (3,))  # type: ignore[arg-type]
    assert paper.changed("world-bert", "order:2/4", **options) == plm.permute(source, plm.permutation(2, 4))  # type: ignore[arg-type]
    redrawn = paper.changed("world-bert", "0011", **options)  # type: ignore[arg-type]
    assert isinstance(redrawn, Reinit)
    assert (redrawn.layers, redrawn.layer_norm, redrawn.seed) == ((2, 3), "keep", 1)


def test_no_permutation_is_the_order_that_is_there() -> None:
    there = [seed for seed in range(200) if plm.permutation(seed, 3) == (0, 1, 2)]
    assert there
    point = {"scheme": "bert", "seed": 0, "layer_norm": "reset"}
    assert all(paper.changed("world-bert", f"order:{seed}/3", **point) is None for seed in there[:2])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "baseline"), [("0011", "0000"), ("order:7/12", "0" * 12), ("first:2/6", "first:6/6"), ("1111", "0000")]
)
def test_a_change_has_its_baseline(change: str, baseline: str) -> None:
    assert paper.unchanged(change) == baseline


def test_gold_data_are_found_whatever_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gold@v2", "a+b", "text"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    parse = analyses("each").parse
    assert parse("probing:gold@v2+text@layers=4") == (f"probing:{tmp_path}/gold@v2+{tmp_path}/text@layers=4",)
    assert parse("prediction:a+b+text") == (f"prediction:{tmp_path}/a+b+{tmp_path}/text",)
    assert parse("prediction:nowhere@layers=4") == ("prediction:nowhere@layers=4",)
