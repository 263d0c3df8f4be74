"""Execute a plan under Ray Tune, in warm actors that are reused from trial to trial.

Tune hands out actors and resources; what runs next is our schedule's decision and what is finished is the store's.
Tune's own snapshots are scratch and never restored from: its restore starts afresh, silently, when a file is damaged.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from plm.store import Store
from sweeps.engine import capacity, interface
from sweeps.engine.progress import Progress
from sweeps.engine.schedule import Schedule
from sweeps.engine.worker import Resources, execution_for, outcome_of, trial
from sweeps.engine.workers import DRIVER, group_trial

DEATHS = 2
"""How often a trial whose process died is tried again; a trial that fails by itself ends as failed at once."""

LOOK_SECONDS = 10.0
"""Between two looks at whether this machine's Ray is there."""

QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_THRESHOLD_S": "60",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the command line decides what Ctrl-C does
    "TUNE_MAX_PENDING_TRIALS_PG": "4",  # enough in store that a freed actor always finds a trial
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
WORKER = {
    "OMP_WAIT_POLICY": "passive",  # a spinning thread beside another trial costs up to fifty times
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_ARENA_MAX": "1",  # a trial is a thread, and the heap of one is too small for `plm.memory.hold`
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}

JOIN = f"{interface.__name__}.{interface.choose.__name__}"
"""What every worker process of a cluster does first."""


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Be connected to the cluster at `address`, or to one of our own on this machine.

    Raises:
        ValueError: there is no cluster at that address.
    """
    if address and address.startswith("ray://"):
        raise ValueError(f"--address {address}: run the sweep on a node of the cluster, with --address auto.")
    if address and address != "auto":
        host, _, port = address.rpartition(":")
        try:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, ValueError) as error:
            raise ValueError(f"--address {address}: no Ray cluster answers there ({error}).") from error
    os.environ |= {name: value for name, value in (QUIET | WORKER).items() if name not in os.environ}
    try:
        _connect(address)
    except ConnectionError as error:
        raise ValueError(f"--address {address}: no Ray cluster is running here ({error}).") from error
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    ray.init(
        address=address or "local",
        include_dashboard=False if address is None else None,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
        runtime_env={"env_vars": WORKER} | ({"worker_process_setup_hook": JOIN} if address else {}),
    )


def check_node() -> None:
    """Ray does not always end a driver whose own node has died, and it would wait for its trials without end.

    Raises:
        ConnectionError: it has died.
    """
    here = ray.get_runtime_context().get_node_id()
    if not any(node["NodeID"] == here and node["Alive"] for node in ray.nodes()):
        raise ConnectionError("Ray has died on this machine; the same command goes on from here")


def check_resources(resources: Resources) -> None:
    """Refuse a trial that no node can hold.

    Raises:
        ValueError: with what was asked for and what the largest node has.
    """
    if not groups_that_fit(resources):
        nodes = ", ".join(
            f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in capacity.largest() or _nodes()
        )
        raise ValueError(
            f"a trial asks for {resources}; the nodes have {nodes}. Ask for less with --workers, --cpus and --gpus."
        )


def groups_that_fit(resources: Resources) -> int:
    """Trials that the cluster's nodes can hold at a time once it has grown, the workers of one on any of them."""
    return max(
        sum(resources.fit(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes) // resources.workers
        for nodes in (_nodes(), capacity.largest())
    )


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def run(
    schedule: Schedule,
    store: Store,
    resources: Resources,
    progress: Progress,
    check: Callable[[], None],
    max_concurrent: int | None,
    keep_weights: bool = False,
) -> None:
    """Run all that can be run, as many at a time as there is room for."""
    feed = Feed(schedule, store, resources, progress, keep_weights)
    most = max_concurrent
    if resources.workers > 1:  # the driver of a group asks for nothing, so more would start than there is room for
        most = min(groups_that_fit(resources), max_concurrent or groups_that_fit(resources))
    if schedule.source:
        schedule.source.at_a_time = min(groups_that_fit(resources), most or groups_that_fit(resources))
    with tempfile.TemporaryDirectory(prefix="tune-scratch-") as scratch:
        tune.Tuner(
            _function(resources),
            tune_config=tune.TuneConfig(search_alg=feed, num_samples=-1, max_concurrent_trials=most, reuse_actors=True),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                callbacks=[Watch(feed, check)],
                failure_config=tune.FailureConfig(max_failures=DEATHS),
            ),
        ).fit()


def _function(resources: Resources) -> Any:
    """What Tune calls for a trial: the run itself, or the driver of a group that trains it."""
    if resources.workers == 1:
        return tune.with_resources(trial, {"CPU": resources.cpus, "GPU": resources.gpus})
    return tune.with_resources(group_trial, DRIVER)


class Feed(Searcher):
    """Hands Tune the runs of a schedule as they become ready."""

    def __init__(
        self, schedule: Schedule, store: Store, resources: Resources, progress: Progress, keep_weights: bool
    ) -> None:
        super().__init__()
        self.schedule, self.progress = schedule, progress
        self._store, self._resources, self._keep_weights = store, resources, keep_weights
        self.run_of: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        spec = self.schedule.next()
        if spec is None:
            return Searcher.FINISHED if self.schedule.exhausted else None
        self.run_of[trial_id] = spec.run_id
        rungs = self.schedule.source.rungs(spec.run_id) if self.schedule.source else None
        execution = execution_for(self._resources, self.schedule.plan, spec.run_id, self._store, self._keep_weights)
        return {
            "spec": spec.to_json(),
            "store": self._store.location,
            "gpus": self._resources.gpus,
            "cpus": self._resources.cpus,
            "workers": self._resources.workers,
            "execution": asdict(execution),
            "rungs": rungs and asdict(rungs),
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        run_id = self.run_of[trial_id]
        outcome = outcome_of(run_id, None if error else (result or {}).get("outcome"))
        self.schedule.ended(run_id, outcome.status)
        self.progress.ended(outcome)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store knows what is finished."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles itself for a restore that never comes


class Watch(tune.Callback):
    """Tells the progress view when trials begin, and looks whether Ray is still there."""

    def __init__(self, feed: Feed, check: Callable[[], None]) -> None:
        self._feed, self._check, self._looked = feed, check, time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._feed.progress.started(self._feed.run_of[trial.trial_id])

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._feed.progress.tick()
        self._check()
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            check_node()

    def __getstate__(self) -> dict[str, Any]:
        return {}
