"""A search in MLflow: a child a trial with its point, mean and spread, and its seeds' runs below it."""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

import pytest
from tiny_search import make_search

from plm import Store
from sweeps.engine import launch, tracking
from sweeps.engine.found import tried
from sweeps.engine.setting import setting


def shown(store: Store, sweep: str) -> dict[str, Any]:
    """The view's runs by their tag `run_id`."""
    from mlflow.tracking.client import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{store.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(sweep)
    assert experiment is not None
    return {run.data.tags.get("run_id", ""): run for run in client.search_runs([experiment.experiment_id])}


@pytest.mark.filterwarnings("ignore")  # MLflow's own
@pytest.mark.usefixtures("no_view")  # it is pushed by hand here
def test_trials_have_their_seeds_below_them(encoder: str, toy: str, store: Store) -> None:
    search = make_search(encoder, toy)
    assert launch.main(search, ["--store", str(store.root), "--local", "--num-trials", "2"]) == 0
    tracking.push(store, None)
    runs, found = shown(store, search.name), tried(setting(search, {}), store)
    sweep = next(run for run in runs.values() if run.data.tags["role"] == "sweep")
    for trial in found:
        child = runs[f"{setting(search, {}).name}/{trial.number}"]
        assert child.data.tags["mlflow.parentRunId"] == sweep.info.run_id
        assert child.data.tags["role"] == "search trial"
        assert child.info.status == "FINISHED"
        assert child.data.params == {name: str(value) for name, value in trial.point.items()}
        assert child.data.metrics["val/score"] == pytest.approx(mean(trial.selected), abs=1e-12)
        assert child.data.metrics["spread"] == pytest.approx(stdev(trial.selected), abs=1e-12)
        assert child.data.metrics["seeds"] == 2
        for run_id in trial.runs[:2]:
            assert runs[run_id].data.tags["mlflow.parentRunId"] == child.info.run_id
        for run_id in trial.runs[2:]:  # measured again at fresh seeds: not what the trial was selected by
            assert runs[run_id].data.tags["mlflow.parentRunId"] == sweep.info.run_id
    assert sum(run.data.tags["role"] == "search trial" for run in runs.values()) == 2
    again = tracking.push(store, None)
    assert (again.changed, again.values) == (0, 0)
    assert {k: r.data.to_dictionary() for k, r in shown(store, search.name).items()} == {
        k: r.data.to_dictionary() for k, r in runs.items()
    }
