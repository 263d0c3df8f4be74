"""Searches: what is tried, what is told to the study, what is given up, and that nothing finished is executed again."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as parquet
import pytest
from optuna.trial import TrialState
from tiny_search import make_pretrain_search, make_search, masks

from plm import RunSpec, Store
from plm.spec import AdamW
from search_spaces.finetuning import models
from search_spaces.seeds import seeds
from search_spaces.space import Trial
from sweeps.engine import launch
from sweeps.engine.found import tried
from sweeps.engine.schedule import Schedule
from sweeps.engine.search import Explorer
from sweeps.engine.setting import Setting, setting
from sweeps.engine.study import Study, outcome_of
from sweeps.engine.sweep import Search, Sweep
from sweeps.reinit_search import sweep as reinit_search

CONFIGURATIONS = 6


@pytest.fixture
def search(encoder: str, toy: str) -> Sweep:
    return make_search(encoder, toy)


pytestmark = pytest.mark.usefixtures("no_view")


@pytest.fixture(autouse=True)
def few_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw only for the test that looks at it: it takes longer than the runs."""
    if "results" not in request.node.name:
        monkeypatch.setattr("sweeps.engine.search_figures.save", lambda *_: [])


def call(question: Sweep, store: Store, *words: str) -> int:
    return launch.main(question, ["--store", str(store.root), "--local", *words])


def studies(store: Store) -> dict[str, list[optuna.trial.FrozenTrial]]:
    """The trials of each study in the store."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{store.root / 'studies.db'}")
    found = {
        name: optuna.load_study(study_name=name, storage=storage).trials for name in optuna.get_all_study_names(storage)
    }
    storage.engine.dispose()
    return found


def told(store: Store, state: TrialState = TrialState.COMPLETE) -> list[dict[str, Any]]:
    """The configurations of the only study that are in a state."""
    (trials,) = studies(store).values()
    return [t.params for t in trials if t.state == state]


def attempts(store: Store) -> dict[str, int]:
    """Run -> how often it was executed."""
    return {p.name: len(list((p / "attempts").iterdir())) for p in (store.root / "runs").iterdir()}


def specs(store: Store, ids: list[str]) -> list[RunSpec]:
    return [RunSpec.from_json((store.get(f"runs/{run_id}/spec.json") or b"").decode()) for run_id in ids]


@contextmanager
def explored(question: Sweep, store: Store, trials: int) -> Iterator[tuple[Explorer, Schedule, Study]]:
    asked = setting(question, {})
    study = Study(store.root / "studies.db", asked.name, asked.space, smaller=asked.smaller)
    try:
        explorer = Explorer(asked, store, study, trials=trials)
        yield explorer, Schedule(explorer.plan(asked.parents(store)), explorer), study
    finally:
        study.close()


# What is tried


def test_a_finite_space_is_tried_whole_each_configuration_once(
    search: Sweep, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(search, store, "--num-trials", "10") == 0
    assert f"no more configurations: {CONFIGURATIONS} of 10 tried" in capsys.readouterr().out
    configurations = [tuple(sorted(p.items())) for p in told(store)]
    assert len(configurations) == len(set(configurations)) == CONFIGURATIONS
    assert not told(store, TrialState.FAIL)  # what was proposed in vain leaves no trace
    assert set(attempts(store).values()) == {1}
    assert len(attempts(store)) == 2 * CONFIGURATIONS + 2  # two seeds each, and the best at two fresh ones


def test_the_same_call_executes_nothing_and_a_larger_one_goes_on(
    search: Sweep, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(search, store, "--num-trials", "3") == 0
    before = attempts(store)
    capsys.readouterr()
    assert call(search, store, "--num-trials", "3") == 0
    assert attempts(store) == before
    assert "3 known" in capsys.readouterr().out
    assert call(search, store, "--num-trials", "5") == 0
    assert len(told(store)) == 5
    assert set(attempts(store).values()) == {1}
    assert before.items() <= attempts(store).items()
    reported = [t for t in tried(setting(search, {}), store) if t.reported]
    assert set(before) <= {r for t in tried(setting(search, {}), store) for r in t.runs}  # earlier confirmations stay
    assert 1 <= len(reported) <= 2


def test_two_spellings_of_one_computation_are_tried_once(encoder: str, toy: str, store: Store) -> None:
    def twins(trial: Trial) -> dict[str, Any]:
        return {"mask": "01", "lr": 1e-3 if trial.suggest_categorical("which", ("a", "b")) else 1.0}

    assert call(make_search(encoder, toy, over=twins), store) == 0
    assert len(told(store)) == 1


def test_a_configuration_without_a_cell_is_passed_over(encoder: str, toy: str, store: Store) -> None:
    question = make_search(encoder, toy)

    def run(*, model: str, task: str, mask: str, lr: float = 1e-3, seed: int) -> RunSpec | None:
        return None if mask == "00" else question.run(model=model, task=task, mask=mask, lr=lr, seed=seed)

    assert call(replace(question, run=run), store, "--num-trials", "10") == 0
    assert len(told(store)) == CONFIGURATIONS - 1


def test_an_axis_of_the_space_is_narrowed_on_the_command_line(search: Sweep, store: Store) -> None:
    assert call(search, store, "layer_0=1", "lr=0.003", "seed=0", "--num-trials", "10") == 0
    points = {
        (t.point["mask"], t.point.get("lr"))
        for t in tried(setting(search, {"layer_0": "1", "lr": "0.003", "seed": "0"}), store)
    }
    assert points == {("10", None), ("11", 0.003)}


def test_proposals_depend_on_what_was_tried_and_on_nothing_else(search: Sweep, store: Store) -> None:
    with explored(search, store, 6) as (_, _, study):
        first = study.propose()
        assert study.propose() == first
        assert len({str(study.propose(attempt)) for attempt in range(20)}) > 1
        study.ended(study.begin(first), "done", 0.5)
        assert len({str(study.propose(attempt)) for attempt in range(20)}) > 1


# Seeds, selection, confirmation


def test_a_trial_is_the_mean_of_its_seeds_on_a_slice_of_the_training_rows(search: Sweep, store: Store) -> None:
    assert call(search, store, "--num-trials", "2") == 0
    (trials,) = studies(store).values()
    for trial, seen in zip(trials, tried(setting(search, {}), store), strict=True):
        assert len(seen.selected) == 2
        assert trial.value == pytest.approx(sum(seen.selected) / 2, abs=1e-12)
        found = specs(store, list(seen.runs[:2]))
        assert {spec.seeds.order for spec in found} == {0, 1}
        assert all(spec.data.task.slice == 12 for spec in found)  # a fifth of 64 rows


def test_the_best_are_measured_again_at_fresh_seeds_on_the_untouched_split(search: Sweep, store: Store) -> None:
    assert call(search, store, "--num-trials", "4") == 0
    found = tried(setting(search, {}), store)
    best = max(found, key=lambda t: t.value or 0.0)
    again = [t for t in found if t.reported]
    assert [t.value for t in again] == [best.value]
    confirmed = specs(store, list(again[0].runs[2:]))
    assert {spec.seeds.order for spec in confirmed} == {2, 3}
    assert all(spec.data.task.slice == 0 for spec in confirmed)


def test_smaller_is_better_where_the_metric_says_so(search: Sweep, store: Store) -> None:
    loss = replace(search, metric="val/loss")
    assert call(loss, store, "--num-trials", "4") == 0
    found = tried(setting(loss, {}), store)
    assert [t.value for t in found if t.reported] == [min(t.value for t in found if t.value is not None)]


def test_results_say_which_trial_a_run_is_of(search: Sweep, store: Store) -> None:
    assert call(search, store, "--num-trials", "2") == 0
    data = store.get(f"sweeps/{search.name}/results.parquet") or b""
    rows = parquet.read_table(io.BytesIO(data)).to_pylist()
    assert sorted((row["trial"], row["purpose"]) for row in rows if row["purpose"] == "select") == [
        (0, "select"),
        (0, "select"),
        (1, "select"),
        (1, "select"),
    ]
    assert sum(row["purpose"] == "confirm" for row in rows) == 2
    assert {"run_id", "status", *search.axes, "val/score", "seconds"} <= set(rows[0])
    assert list((store.root / "sweeps" / search.name).glob("figures/*/search.png"))
    assert "selected by" in (store.root / "sweeps" / search.name / "table.md").read_text()


# Giving up


def test_what_is_not_among_the_best_at_a_rung_is_given_up(
    toy_corpus: str, still_bert: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    question = make_pretrain_search(toy_corpus, still_bert)
    assert call(question, store) == 0
    (trials,) = studies(store).values()
    assert len(trials) == 5
    done = [t for t in trials if t.state == TrialState.COMPLETE]
    pruned = [t for t in trials if t.state == TrialState.PRUNED]
    assert pruned
    assert len(done) + len(pruned) == 5
    assert {"lr": 3e-3} in [t.params for t in done]
    assert all(t.intermediate_values for t in pruned)
    for trial in tried(setting(question, {}), store):
        steps_done = [
            store.json(f"runs/{r}/attempts/{n}")["step"]
            for r in trial.runs[:1]
            for n in store.list(f"runs/{r}/attempts")
        ]
        assert trial.outcome in ("done", "pruned")
        if trial.outcome == "pruned":
            assert len(trial.runs) == 1  # the other seeds were never begun
            assert steps_done[0] in (5, 9)  # a rung's step, and the one during which it was told
    assert "given up" in capsys.readouterr().out
    before = attempts(store)
    assert call(question, store) == 0
    assert attempts(store) == before  # what was given up is not taken up again


def test_a_race_compares_trials_after_some_seeds(search: Sweep, store: Store) -> None:
    raced = replace(search, metric="val/loss", search=Search(trials=6, confirmed=1, races=(1,), reduction=6))
    assert call(raced, store) == 0
    (trials,) = studies(store).values()
    found = tried(setting(raced, {}), store)
    assert {t.outcome for t in found} == {"done", "pruned"}
    assert all(len(t.selected) == (1 if t.outcome == "pruned" else 2) for t in found)
    assert sum(t.state == TrialState.PRUNED for t in trials) == sum(t.outcome == "pruned" for t in found)


# Failures


def failing(question: Sweep, lr: float, **changes: Any) -> Sweep:
    """The search with runs that go wrong at one learning rate."""

    def run(*, model: str, task: str, mask: str, lr: float = 1e-3, seed: int) -> RunSpec:
        spec = question.run(model=model, task=task, mask=mask, lr=lr, seed=seed)
        assert spec is not None
        return replace(spec, **changes) if lr == bad else spec

    bad = lr
    return replace(question, run=run)


def test_what_diverges_is_the_worst_there_is_and_not_tried_again(
    search: Sweep, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    question = failing(search, 3e-3, optim=AdamW(lr=1e30, weight_decay=0.0, clip=1e30))
    assert call(question, store, "--num-trials", "10") == 1
    (trials,) = studies(store).values()
    assert sorted(outcome_of(t) for t in trials) == ["diverged"] * 2 + ["done"] * 4
    assert {t.state for t in trials if outcome_of(t) == "diverged"} == {TrialState.PRUNED}
    before = attempts(store)
    assert "2 diverged: they count as the worst and are not tried again" in capsys.readouterr().out
    assert call(question, store, "--num-trials", "10") == 1
    assert "2 diverged: they count as the worst and are not tried again" in capsys.readouterr().out
    assert attempts(store) == before


def test_what_fails_is_tried_again_by_the_next_call(
    search: Sweep, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    def fail(*_: object) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as broken:
        broken.setattr(importlib.import_module("plm.train"), "_loop", fail)
        assert call(search, store, "--num-trials", "2") == 1
    assert not told(store)
    failed = told(store, TrialState.FAIL)
    assert len(failed) == 2
    assert call(search, store, "--num-trials", "2") == 0
    assert sorted(map(str, told(store))) == sorted(map(str, failed))


# Memory


def test_a_changed_space_takes_over_the_finished_runs_that_lie_in_it(
    encoder: str, toy: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    def narrower(trial: Trial) -> dict[str, Any]:
        return masks(trial)

    assert call(make_search(encoder, toy), store, "--num-trials", "10") == 0
    before = attempts(store)
    assert call(make_search(encoder, toy, over=narrower), store, "--num-trials", "10") == 0
    assert attempts(store) == before
    assert "6 of them taken over" in capsys.readouterr().out
    assert [len(trials) for trials in studies(store).values()] == [6, 6]

    assert call(make_search(encoder, toy), store, "layer_0=0", "--num-trials", "10") == 0
    assert attempts(store) == {**before, **attempts(store)}
    assert "3 of them taken over" in capsys.readouterr().out


def test_a_lost_study_is_made_again_from_the_runs(search: Sweep, store: Store) -> None:
    assert call(search, store, "--num-trials", "3") == 0
    before, first = attempts(store), told(store)
    (store.root / "studies.db").unlink()
    assert call(search, store, "--num-trials", "3") == 0
    assert attempts(store) == before
    assert told(store) == first


def test_names_of_studies_follow_what_bears_on_a_trial(encoder: str, toy: str) -> None:
    def name(question: Sweep, **given: str) -> str:
        return setting(question, given).name

    question = make_search(encoder, toy)
    assert name(question) == name(make_search(encoder, toy))
    others = {
        name(question, seed="0:3"),
        name(question, lr="0.001"),
        name(replace(question, metric="val/loss")),
        name(make_search(encoder, toy, num_steps=4)),
        *(
            name(replace(question, search=replace(question.search, **changed)))
            for changed in ({"rungs": (0.5,)}, {"races": (1,)}, {"reduction": 2})
        ),
    }
    assert len(others - {name(question)}) == 7
    assert name(replace(question, search=replace(question.search, trials=99, confirmed=9))) == name(question)


def test_a_study_is_held_by_one_process(search: Sweep, store: Store) -> None:
    refused = pytest.raises(ValueError, match="running in another process")
    with explored(search, store, 1), refused, explored(search, store, 1):
        pass
    with explored(search, store, 1):
        pass


def test_a_damaged_database_is_named(search: Sweep, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.root.mkdir()
    (store.root / "studies.db").write_bytes(b"not a database" * 100)
    assert call(search, store) == 2
    assert "studies.db cannot be read" in capsys.readouterr().err


def test_a_store_on_a_network_needs_a_folder_for_the_study(
    search: Sweep, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.engine.study._filesystem", lambda path: "nfs4" if path == store.root else "ext4")
    assert call(search, store) == 2
    assert "--state DIR" in capsys.readouterr().err
    assert not store.root.exists()
    assert call(search, store, "--state", str(tmp_path / "state"), "--num-trials", "1") == 0
    assert (tmp_path / "state" / "studies.db").is_file()
    assert not (store.root / "studies.db").exists()


def module(encoder: str, toy: str, store: Store, *words: str) -> list[str]:
    return [sys.executable, "-m", "tiny_search", encoder, toy, "--store", str(store.root), *words]


def environment() -> dict[str, str]:
    root = Path(__file__).parents[3]
    return os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}", "OMP_WAIT_POLICY": "passive"}


@pytest.mark.slow
def test_a_killed_search_goes_on(encoder: str, toy: str, store: Store) -> None:
    words = module(encoder, toy, store, "--local", "--num-trials", "6")
    for done in (3, 7):
        driver = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began = time.monotonic()
        while (
            len(list(store.root.glob("runs/*/DONE"))) < done and driver.poll() is None and time.monotonic() < began + 90
        ):
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    finished = {p.parent.name for p in store.root.glob("runs/*/DONE")}
    before = attempts(store)
    last = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=180, check=False)
    assert last.returncode == 0, last.stdout + last.stderr
    assert all(attempts(store)[run_id] == before[run_id] for run_id in finished)
    configurations = [str(sorted(p.items())) for p in told(store)]
    assert len(configurations) == len(set(configurations)) == 6
    assert not [t for trials in studies(store).values() for t in trials if not t.state.is_finished()]


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_a_search_under_ray_finds_the_same_as_in_this_process(
    encoder: str, toy: str, store: Store, tmp_path: Path
) -> None:
    words = module(encoder, toy, store, "--num-trials", "10")
    there = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=240, check=False)
    assert there.returncode == 0, there.stdout + there.stderr
    assert set(attempts(store).values()) == {1}
    here = Store.at(tmp_path / "here")
    assert call(make_search(encoder, toy, num_steps=60), here, "--num-trials", "10") == 0
    (with_ray,), (alone,) = studies(store).values(), studies(here).values()
    assert {str(sorted(t.params.items())): t.value for t in with_ray} == {
        str(sorted(t.params.items())): t.value for t in alone
    }


# The command line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sizes=3"], "unknown axis 'sizes'"),
        (["mask=01"], "unknown axis 'mask'"),  # made of answers, not one itself
        (["layer_0=2"], "unknown value '2'"),
        (["lr=fast"], "unknown value 'fast'"),
        (["seed=x"], "not a seed"),
        (["model=a,b"], "a search holds it at one value"),
    ],
)
def test_a_wrong_word_ends_with_2_and_leaves_nothing(
    search: Sweep, store: Store, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert call(search, store, *words) == 2
    assert message in capsys.readouterr().err
    assert not store.root.exists()


@pytest.mark.parametrize("words", [["--num-trials", "3"], ["--state", "/tmp"]])
def test_a_grid_has_no_trials(
    question: Sweep, store: Store, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert call(question, store, *words) == 2
    assert "are for searches" in capsys.readouterr().err
    assert not store.root.exists()


def test_a_search_says_what_its_function_does_not_fit(encoder: str, toy: str) -> None:
    with pytest.raises(ValueError, match="the space gives dropout"):
        setting(make_search(encoder, toy, over=lambda trial: {"mask": "01", "dropout": 0.1}), {})
    with pytest.raises(ValueError, match="gives no mask, which run"):
        setting(make_search(encoder, toy, over=lambda trial: {}), {})
    with pytest.raises(ValueError, match="a search folds its seeds"):
        make_search(encoder, toy, fixed={"model": models(encoder)})
    with pytest.raises(ValueError, match=r"fixed axes \['size'\]"):
        make_search(encoder, toy, fixed={"seed": seeds(1), "size": seeds(1)})


def test_the_dry_run_bounds_the_cost_and_writes_nothing(
    search: Sweep, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.engine.cost.timings", lambda specs, *_: [(2.0, 1.0)] * len(specs))
    assert call(search, store, "--dry-run", "--num-trials", "5") == 0
    said = capsys.readouterr().out
    assert "at most 12 runs: 5 new configurations, and the 1 best again" in said
    assert "about 96 s" not in said
    assert "about 2 min" in said  # 12 runs of 3 steps of 2 s, 1 s of evaluation and .3 s besides, and one start
    assert not store.root.exists()


def test_with_a_rate_nothing_is_probed(
    search: Sweep, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.engine.cost.timings", lambda *_: pytest.fail("a probe"))
    flops, hours = [], []
    for rate in ("1e4", "2e4"):
        assert call(search, store, "--dry-run", "--num-trials", "5", "--rate", rate) == 0
        work, said = capsys.readouterr().out.split("at most ")[-1].split(" FLOPs, ", 1)
        assert f"GPU-hours at {float(rate):.1e} FLOPs a second (--rate); what is given up early costs less" in said
        flops.append(float(work))
        hours.append(float(said.split(" GPU-hours")[0].split()[-1]))
    assert flops[0] == flops[1]
    assert hours == [pytest.approx(flops[0] / rate / 3600, abs=0.01) for rate in (1e4, 2e4)]
    assert not store.root.exists()


@pytest.mark.parametrize("words", [[], ["--rate", "1e13"], ["layer_0=1", "layer_11=0", "--rate", "1e13"]])
def test_a_search_is_priced_by_known_numbers_alone(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """As a grid is; to be run, its model must be fetched."""
    monkeypatch.setattr("plm.stand_ins._is_cached", lambda _: False)
    monkeypatch.setattr("plm.stand_ins._is_prepared", lambda _: False)
    asked = ["model=bert-base-uncased", "task=sst2", *words]
    assert call(reinit_search, store, *asked, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "known by their numbers alone, not fetched: bert-base-uncased, sst2" in said
    assert f"GPU-hours at {'1' if words else '2'}.0e+13 FLOPs a second (--rate)" in said
    assert call(reinit_search, store, *asked) == 2
    assert "could not be had" in capsys.readouterr().err
    assert not store.root.exists()


def test_the_table_of_a_search_reads_and_writes_nothing_else(
    search: Sweep, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(search, store, "--table") == 0
    assert "none yet" in capsys.readouterr().out
    assert not store.root.exists()
    assert call(search, store, "--num-trials", "2") == 0
    first = capsys.readouterr().out
    files = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    assert call(search, store, "--table") == 0
    assert capsys.readouterr().out in first
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == files


def test_a_setting_knows_its_cells(search: Sweep) -> None:
    found: Setting = setting(search, {})
    assert found.cells({"layer_0": "0", "layer_1": "0", "lr": 5.0})  # an answer that is not asked for does not matter
    assert not found.cells({"layer_0": "0", "layer_1": "1", "lr": 5.0})
    assert not found.cells({"layer_0": "0"})
