"""The space of masks and their fine-tuning: every mask is in it, and what only a mask needs is asked only then."""

from __future__ import annotations

import pytest

from plm import finetune, reinit
from search_spaces.masks import spelled
from search_spaces.reinitialisation import DURATIONS, kept_layers, reinitialisation
from search_spaces.space import drawn, questions, replayed, tied
from sweeps.reinit_search import run

POINT = {"model": "world-bert", "task": "acceptability", "size": 400}


def test_every_mask_is_there_and_the_rest_depends_on_it() -> None:
    space = tied(reinitialisation, lambda: POINT)
    common = {"lr": 5e-4, "duration": "steps:100"}
    fresh = {"scheme": "matched", "redrawn_lr": 5.0}
    for mask in spelled("uniform:16", 4):
        bits = {f"layer_{i}": bit for i, bit in enumerate(mask)}
        asked = common | (fresh if "1" in mask else {})
        assert replayed(space, bits | common | fresh) == (bits | asked, {"mask": mask} | asked)
    assert set(questions(space)) == {"layer_0", "layer_1", "layer_2", "layer_3", *common, *fresh}


def test_the_space_of_another_model_has_its_layers(tiny_bert: str) -> None:
    asked = questions(tied(reinitialisation, lambda: {"model": tiny_bert}))
    assert {name for name in asked if name.startswith("layer_")} == {"layer_0", "layer_1"}
    assert asked["duration"].choices == DURATIONS
    assert asked["lr"].high < 1e-3


def test_all_that_is_drawn_is_a_run_and_says_what_it_keeps() -> None:
    space = tied(reinitialisation, lambda: POINT)
    for trial in drawn(space, 20):
        found = replayed(space, trial.answers)
        assert found is not None
        spec = run(**POINT, **found[1], seed=0)
        assert kept_layers(spec) == found[1]["mask"].count("0")
        assert spec.optim.redrawn_lr == found[1].get("redrawn_lr", 1.0)


def test_a_mask_that_redraws_nothing_keeps_all(toy_task: str, tiny_bert: str) -> None:
    assert kept_layers(finetune(toy_task, init=reinit(tiny_bert, "00"))) == 2.0
    assert kept_layers(finetune(toy_task, init=reinit(tiny_bert, "10"))) == 1.0


def test_uniform_masks() -> None:
    few = spelled("uniform:50", 12)
    assert len(few) == len(set(few)) == 50
    assert few == spelled("uniform:50:0", 12)
    assert set(few) & set(spelled("uniform:50:1", 12)) != set(few)
    assert spelled("uniform:20", 12) == few[:20]  # asking for more keeps what was run
    many = spelled("uniform:2000", 12)
    share = [sum(mask[layer] == "1" for mask in many) / 2000 for layer in range(12)]
    assert all(abs(s - 0.5) < 0.04 for s in share)  # 3.6 standard deviations, without repetition fewer
    assert 6 - 0.15 < sum(mask.count("1") for mask in many) / 2000 < 6 + 0.15
    assert set(spelled("uniform:999", 3)) == {f"{i:03b}" for i in range(8)}
    for count, layers, there in ((2**24, 24, "16,777,216"), (100_001, 24, "16,777,216"), (2**17, 17, "131,072")):
        with pytest.raises(ValueError, match=f"uniform:{count} of {there} masks of .* a sweep takes 100,000 at most"):
            spelled(f"uniform:{count}", layers)
    assert len(spelled("uniform:1000000", 10)) == 2**10
