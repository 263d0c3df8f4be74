"""Searches with two criteria: what the study is told, what is raced against what, and what is measured again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from tiny_search import make_search

from plm import RunSpec, Store, finetune, reinit, steps
from search_spaces.finetuning import models, tasks
from search_spaces.masks import masks
from search_spaces.reinitialisation import kept_layers
from search_spaces.seeds import seeds
from search_spaces.space import Trial
from sweeps.engine import front_figures, launch
from sweeps.engine.found import Tried, caption, chances, on_front, table, tried
from sweeps.engine.setting import Setting, setting
from sweeps.engine.study import Study, outcome_of
from sweeps.engine.sweep import Criterion, Search, Sweep

KEPT = Criterion("pretrained layers", kept_layers)
pytestmark = pytest.mark.usefixtures("no_view")


@pytest.fixture
def search(encoder: str, toy: str) -> Sweep:
    """Six configurations of two layers; three seeds, raced after the first."""
    question = make_search(encoder, toy, metric="val/loss")
    fixed = {**question.fixed, "seed": seeds(3)}
    return replace(question, fixed=fixed, search=Search(trials=6, races=(1,), reduction=2, second=KEPT))


def call(question: Sweep, store: Store, *words: str) -> int:
    return launch.main(question, ["--store", str(store.root), "--local", *words])


def told(asked: Setting, store: Store) -> list[Any]:
    study = asked.study(store.root / "studies.db")
    try:
        return list(study.trials)
    finally:
        study.close()


def by_hand(trials: list[Tried]) -> set[int]:
    done = [t for t in trials if t.value is not None]
    return {
        t.number
        for t in done
        if not any(
            (o.value or 0) <= (t.value or 0) and (o.second or 0) <= (t.second or 0)
            and (o.value, o.second) != (t.value, t.second)
            for o in done
        )
    }  # fmt: skip


def test_a_search_of_two_criteria(
    search: Sweep, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.engine.search_figures.save", lambda *_: [])
    assert call(search, store) == 0
    asked = setting(search, {})
    found = tried(asked, store)
    assert len({str(t.point) for t in found}) == len(found) == 6
    assert {t.second for t in found} == {0.0, 1.0, 2.0}
    assert all(t.second == t.point["mask"].count("0") for t in found)
    # What the study was told.
    for trial, seen in zip(told(asked, store), found, strict=True):
        if seen.outcome == "done":
            assert trial.values == [pytest.approx(sum(seen.selected) / 3, abs=1e-12), seen.second]
            assert len(seen.selected) == 3
        else:
            assert outcome_of(trial) == seen.outcome == "pruned"
            assert len(seen.selected) == 1
            assert trial.user_attrs["value"] == seen.selected[0]
    # The front, whole, was measured again.
    on = {t.number for t in on_front(asked, found)}
    assert on == by_hand(found) == {t.number for t in found if t.reported}
    assert all(len(t.reported) == 3 for t in found if t.reported)
    # How sure that is.
    for reported in (False, True):
        chance = chances(asked, found, reported=reported)
        assert set(chance) == {t.number for t in found if (t.reported if reported else t.value is not None)}
        assert all(0 <= p <= 1 for p in chance.values())
    head, rows = table(asked, found)
    assert head.count("P(front)") == 2
    assert [int(row[0]) for row in rows[: len(on)]] == [t.number for t in on_front(asked, found)]
    assert "no other trial beats it by both val/loss and pretrained layers (smaller is better)" in str(
        caption(asked, found)
    )
    assert list(Path(store.root).glob("sweeps/*/figures/*/front.png"))
    # Nothing is executed twice.
    before = {p: p.stat().st_mtime_ns for p in store.root.glob("runs/*/attempts/*")}
    capsys.readouterr()
    assert call(search, store) == 0
    assert "6 known" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in store.root.glob("runs/*/attempts/*")} == before


def test_the_dry_run_counts_a_front_as_large_as_it_can_be(
    search: Sweep, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.engine.cost.timings", lambda specs, *_: [(1.0, 1.0)] * len(specs))
    assert call(search, store, "--dry-run") == 0
    assert "at most 27 runs: 6 new configurations, and the 3 trials on the front again" in capsys.readouterr().out


# The sampler


@pytest.mark.parametrize("second", [True, False])
def test_the_sampler_learns_from_both_criteria(tmp_path: Path, second: bool) -> None:
    """The score is the same everywhere, so what it should look for is the second criterion's better side."""

    def space(trial: Trial) -> dict[str, Any]:
        return {"x": trial.suggest_float("x", 0.0, 1.0)}

    study = Study(tmp_path / "studies.db", "s", space, smaller=False, second=second)
    try:
        for i in range(30):
            x = ((37 * i) % 100) / 100
            number = study.begin({"x": x}, x)
            study.ended(number, "pruned" if i % 2 else "done", 0.5, rung=1)
        diverged = study.begin({"x": 0.999}, 0.999)
        study.ended(diverged, "diverged")
        study.ended(study.begin({"x": 0.998}, 0.998), "failed")
        assert [t.state for t in study.trials[-2:]] == [TrialState.PRUNED, TrialState.FAIL]
        proposed = [study.propose(attempt)["x"] for attempt in range(12)]
        middle = sorted(proposed)[6]
        assert middle < 0.35 if second else middle > 0.65
    finally:
        study.close()


# Spaces that know what is held fixed


def tied(trial: Trial, point: Any) -> dict[str, Any]:
    """A bit for each letter of the task's name, as a model's layers would have it."""
    bits = [trial.suggest_categorical(f"layer_{i}", ("0", "1")) for i in range(len(Path(point["task"]).name))]
    return {"mask": "".join(bits)[:2]}


def test_a_space_is_told_what_the_search_holds_fixed(encoder: str, toy: str, tmp_path: Path) -> None:
    question = make_search(encoder, toy, over=tied)
    longer = shutil.copytree(toy, tmp_path / "longer")
    assert len(_asked(setting(question, {}))) == 3
    assert len(_asked(setting(question, {"layer_2": "0"}))) == 3
    with pytest.raises(ValueError, match="unknown axis 'layer_5'"):
        setting(question, {"layer_5": "0"})
    given = {"layer_5": "0", "task": str(longer)}
    assert _asked(setting(question, given))["layer_5"].choices == ("0",)


def _asked(found: Setting) -> dict[str, Any]:
    from search_spaces.space import questions

    return questions(found.space)


# What stands beside


def test_the_grid_beside_is_read_where_it_asks_the_same(
    encoder: str, toy: str, search: Sweep, store: Store, tmp_path: Path
) -> None:
    def run(*, model: str, task: str, mask: str, lr: float, seed: int) -> RunSpec:
        return finetune(
            task, init=reinit(model, mask, seed=seed), size=24, seed=seed, lr=lr, batch_size=8, duration=steps(3),
            dtype="float32",
        )  # fmt: skip

    from search_spaces.finetuning import learning_rates

    other = shutil.copytree(toy, tmp_path / "other")
    grid = {
        "model": models(encoder), "task": tasks(toy), "mask": masks("none", "uniform:4", "all"),
        "lr": learning_rates(1e-3), "seed": seeds(2),
    }  # fmt: skip
    whole = Sweep(run, over=grid, importance="mask", metric="val/loss", variant="-whole")
    assert call(whole, store) == 0
    assert call(whole, store, f"task={other}", "mask=none") == 0
    asked = setting(replace(search, search=replace(search.search, beside=whole.name)), {})
    found = front_figures.references(asked, store)
    assert sorted(r.second for r in found) == [0.0, 1.0, 1.0, 2.0]
    assert all(len(r.values) == 2 for r in found)
    assert {dict(r.labels)["task"] for r in found} == {"toy"}
    assert front_figures.references(setting(search, {}), store) == []
