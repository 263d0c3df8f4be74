"""Searches whose runs start from other runs: parents that no probe foresaw, parents that fail, and what is kept of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import SIZES

from plm import Bert, RunSpec, Store, finetune, pretrain, steps
from search_spaces.seeds import seeds
from search_spaces.space import Trial
from sweeps.engine import cost, launch
from sweeps.engine.found import Tried, tried
from sweeps.engine.plan import Plan, arrange
from sweeps.engine.schedule import Schedule
from sweeps.engine.setting import setting
from sweeps.engine.sweep import Search, Sweep
from sweeps.engine.worker import Resources

pytestmark = pytest.mark.usefixtures("no_view")


@pytest.fixture(autouse=True)
def few_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly nothing is foreseen, and nothing is drawn."""
    monkeypatch.setattr("sweeps.engine.setting.PROBES", 1)
    monkeypatch.setattr("sweeps.engine.setting.LISTED", 0)
    monkeypatch.setattr("sweeps.engine.search_figures.save", lambda *_: [])


@pytest.fixture
def question(toy_corpus: str, toy_task: str, still_bert: str) -> Sweep:
    """Fine-tuning from a step of a pretraining whose learning rate is chosen too: at 1e30 it diverges."""

    def run(*, step: int, lr: float, seed: int) -> RunSpec:
        parent = pretrain(
            Bert(**SIZES, dropout=0.0), toy_corpus, vocabulary=still_bert, duration=steps(6), lr=lr, batch_size=4,
            seq_len=16, dtype="float32",
        )  # fmt: skip
        return finetune(
            toy_task, init=parent.at(step), size=16, seed=seed, duration=steps(2), batch_size=8, dtype="float32"
        )

    def space(trial: Trial) -> dict[str, Any]:
        return {
            "step": trial.suggest_categorical("step", (1, 3, 5)),
            "lr": trial.suggest_categorical("lr", (1e-3, 1e30)),
        }

    return Sweep(run, over=space, fixed={"seed": seeds(1)}, search=Search(trials=9, confirmed=1))


def call(question: Sweep, store: Store, *words: str) -> int:
    return launch.main(question, ["--store", str(store.root), "--local", *words])


def found(question: Sweep, store: Store, **given: str) -> dict[tuple[Any, Any], Tried]:
    return {(t.point["step"], t.point["lr"]): t for t in tried(setting(question, given), store)}


def outcomes(store: Store, objective: str) -> list[list[str]]:
    """How each execution of each run of an objective ended."""
    folders = sorted((store.root / "runs").glob(f"{objective}-*"))
    return [
        [store.json(f"runs/{folder.name}/attempts/{name}")["outcome"] for name in store.list(f"runs/{folder.name}/attempts")]
        for folder in folders
    ]  # fmt: skip


def test_a_step_that_nobody_foresaw_is_made_when_a_trial_asks_for_it(question: Sweep, store: Store) -> None:
    assert call(question, store, "lr=0.001") == 0
    trials = found(question, store, lr="0.001")
    assert {key: t.outcome for key, t in trials.items()} == {(step, 1e-3): "done" for step in (1, 3, 5)}
    assert [t for t in trials.values() if t.reported]
    assert outcomes(store, "mlm") == [["done", "repeated", "repeated"]]
    assert call(question, store, "lr=0.001") == 0
    assert outcomes(store, "mlm") == [["done", "repeated", "repeated"]]


def test_a_small_space_is_foreseen_whole(question: Sweep, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.engine.setting.LISTED", 512)
    assert call(question, store, "lr=0.001") == 0
    assert outcomes(store, "mlm") == [["done"]]


@pytest.mark.parametrize(("probes", "foreseen"), [(1, 1), (24, 2)])
def test_trials_whose_parent_fails_are_settled_and_the_others_go_on(
    question: Sweep,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    probes: int,
    foreseen: int,
) -> None:
    monkeypatch.setattr("sweeps.engine.setting.PROBES", probes)
    rates = "1e+30,0.001"  # in this order the only probe is a sound one
    parents = setting(question, {"lr": rates}).parents(store).runs.values()
    assert sorted(spec.optim.lr for spec in parents) == [1e-3, 1e30][:foreseen]
    for _ in range(2):
        assert call(question, store, f"lr={rates}") == 1
        trials = found(question, store, lr=rates)
        assert {key: t.outcome for key, t in trials.items()} == {
            (step, lr): "done" if lr == 1e-3 else "failed" for step in (1, 3, 5) for lr in (1e-3, 1e30)
        }
        assert len([t for t in trials.values() if t.reported]) == 1  # the best was measured again all the same
        assert "no more configurations: 6 of 9 tried" in capsys.readouterr().out
    assert {"diverged"} in [set(ended) for ended in outcomes(store, "mlm")]


def test_a_search_whose_parent_fails_says_so(question: Sweep, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(question, store, "lr=1e+30") == 1
    said = capsys.readouterr().out
    assert "could not be made: 0 of 9 configurations tried" in said
    assert "no more configurations" not in said


def arranged(question: Sweep, store: Store, step: int) -> Plan:
    return arrange(question, setting(question, {}).cells({"step": step, "lr": 1e-3}), store)


def test_a_step_that_is_asked_for_while_the_parent_trains_is_made_after_it(question: Sweep, store: Store) -> None:
    schedule = Schedule(arranged(question, store, 1))
    parent = schedule.next()
    assert parent is not None
    schedule.add(arranged(question, store, 3))
    schedule.ended(parent.run_id, "done")
    assert schedule.next() == parent
    assert schedule.plan.keep[parent.run_id] == (1, 3)
    schedule.ended(parent.run_id, "done")
    children = [schedule.next(), schedule.next()]
    assert None not in children
    assert parent not in children


@pytest.mark.parametrize("rungs", [(), (0.25, 0.5)])
def test_the_dry_run_counts_what_is_given_up(
    toy_corpus: str, still_bert: str, store: Store, monkeypatch: pytest.MonkeyPatch, rungs: tuple[float, ...]
) -> None:
    from dataclasses import replace

    from tiny_search import make_pretrain_search

    monkeypatch.setattr("sweeps.engine.cost.timings", lambda specs, *_: [(1.0, 1.0)] * len(specs))
    monkeypatch.setattr("sweeps.engine.setting.PROBES", 24)
    question = make_pretrain_search(toy_corpus, still_bert)
    question = replace(question, search=replace(question.search, rungs=rungs))
    asked = setting(question, {})
    bound = cost.bound(asked.shown(store), 6 * 2, store, Resources(), 1, True)
    assert call(question, store) == 0
    folders = list((store.root / "runs").iterdir())
    used = sum(size_of(folder) for folder in folders)
    assert max(size_of(folder) for folder in folders) <= bound.bytes / 12
    assert used <= bound.bytes <= (8 if rungs else 2) * used


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
