"""MLflow as the tests see it: a server that can be stopped and started again, and all that its view of a sweep holds."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def shown(uri: str, sweep: str = "question") -> dict[str, dict[str, Any]]:
    """All that the view of a sweep holds, but for the ids that a server draws: `run_id` (or `sweep`) -> content.

    Fails if two runs show one thing, or if a metric has two values at a step.
    """
    server, found = client(uri), {}
    runs = server.search_runs([server.get_experiment_by_name(sweep).experiment_id], max_results=1000)
    parents = [r.info.run_id for r in runs if r.data.tags["role"] == "sweep"]
    assert len(parents) == 1
    for run in runs:
        history = {}
        for key in run.data.metrics:
            values = [(m.step, m.timestamp, m.value) for m in server.get_metric_history(run.info.run_id, key)]
            if run.info.run_id not in parents:
                assert len({step for step, _, _ in values}) == len(values), f"{key} has two values at a step"
            history[key] = sorted(values)
        tags = {k: v for k, v in run.data.tags.items() if k not in ("mlflow.parentRunId", "plm.state")}
        name = "sweep" if run.info.run_id in parents else tags["run_id"]
        assert name not in found, f"{name} is shown twice"
        assert run.data.tags.get("mlflow.parentRunId", parents[0]) == parents[0]
        data = [(d.dataset.name, d.dataset.digest, d.dataset.source_type) for d in run.inputs.dataset_inputs]
        found[name] = {
            "status": run.info.status,
            "name": run.info.run_name,
            "params": run.data.params,
            "tags": tags,
            "history": history,
            "data": data,
            "times": (run.info.start_time, run.info.end_time),
        }
    return found


class Server:
    """`mlflow server` on this machine, which can be stopped and started again."""

    def __init__(self, root: Path, migrated: Path) -> None:
        root.mkdir()
        shutil.copy(migrated, root / "mlflow.db")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.root, self.uri = root, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--workers",
            "1",
            "--backend-store-uri",
            f"sqlite:///{self.root}/mlflow.db",
            "--artifacts-destination",
            f"{self.root}/files",
        ]
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until(lambda: self.answers(), 90)

    def answers(self) -> bool:
        try:
            return bool(urllib.request.urlopen(f"{self.uri}/health", timeout=1).status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
