"""The engine on a real local Ray: warm actors, failures, and drivers that are killed."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]

SECONDS = 180


def command(encoder: str, toy: str, store: Path, *words: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "sweeps.reinit_grid",
        f"model={encoder}",
        f"task={toy}",
        "size=24",
        "lr=0.001",
        "--store",
        str(store),
        *words,
    ]


def call(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)


def rows(store: Path) -> list[dict[str, object]]:
    table = parquet.read_table(io.BytesIO((store / "sweeps/reinit_grid/results.parquet").read_bytes()))
    return table.drop_columns(["seconds"]).to_pylist()


def finished_attempts(store: Path) -> list[int]:
    """For each run, how many of its executions ended as done."""
    return [
        sum(json.loads(a.read_text())["outcome"] == "done" for a in run.glob("attempts/*.json"))
        for run in sorted((store / "runs").iterdir())
    ]


@pytest.fixture(scope="module")
def undisturbed(encoder: str, toy: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of twelve runs, each some seconds long, that nothing happened to."""
    store = tmp_path_factory.mktemp("undisturbed")
    done = call(command(encoder, toy, store, *LONG))
    assert done.returncode == 0, done.stdout + done.stderr
    return store


LONG = ("duration=steps:150", "seed=0:4")


def test_actors_are_reused(undisturbed: Path) -> None:
    holders = {json.loads(a.read_text())["holder"]["pid"] for a in undisturbed.glob("runs/*/attempts/*.json")}
    assert len(list(undisturbed.glob("runs/*/DONE"))) == 12
    assert len(holders) <= max(2, os.cpu_count() or 1)


def test_the_second_call_executes_nothing_and_a_wider_one_only_what_is_new(
    encoder: str, toy: str, undisturbed: Path
) -> None:
    again = call(command(encoder, toy, undisturbed, *LONG))
    assert "12 finished before, 0 to run" in again.stdout, again.stdout + again.stderr
    wider = call(command(encoder, toy, undisturbed, LONG[0], "seed=0:5"))
    assert "12 finished before, 3 to run" in wider.stdout
    assert finished_attempts(undisturbed) == [1] * 15


def test_ray_and_this_process_give_the_same_bits(encoder: str, toy: str, undisturbed: Path, tmp_path: Path) -> None:
    assert call(command(encoder, toy, tmp_path, LONG[0], "seed=0:4", "--local")).returncode == 0
    there = {row["run_id"]: row for row in rows(undisturbed)}
    assert all(there[row["run_id"]] == row for row in rows(tmp_path))


def test_a_killed_driver_loses_nothing(encoder: str, toy: str, undisturbed: Path, tmp_path: Path) -> None:
    words = command(encoder, toy, tmp_path, *LONG)
    moments = random.Random(0)
    for _ in range(2):
        driver = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began = time.monotonic()
        before = len(list(tmp_path.glob("runs/*/DONE")))
        while (
            len(list(tmp_path.glob("runs/*/DONE"))) < before + 2
            and driver.poll() is None
            and time.monotonic() - began < 60
        ):
            time.sleep(0.05)
        time.sleep(moments.random())
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    last = call(words)
    assert last.returncode == 0, last.stdout + last.stderr
    assert finished_attempts(tmp_path) == [1] * 12
    expected = {row["run_id"]: row for row in rows(undisturbed)}
    assert {row["run_id"]: row for row in rows(tmp_path)} == {
        row["run_id"]: expected[row["run_id"]] for row in rows(tmp_path)
    }


def test_more_than_a_node_has_is_refused(encoder: str, toy: str, tmp_path: Path) -> None:
    refused = call(command(encoder, toy, tmp_path / "s", "--gpus", "1"))
    assert refused.returncode == 2
    assert "this machine has" in refused.stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sweep_is_resumable(encoder: str, toy: str, tmp_path: Path, number: int, status: int) -> None:
    words = command(encoder, toy, tmp_path, "duration=steps:150", "seed=0:2")
    driver = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not list(tmp_path.glob("runs/*/attempts/*")) and driver.poll() is None:
        time.sleep(0.05)
    driver.send_signal(number)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == status, said.decode()
    assert b"the same command goes on" in said
    again = call(words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert finished_attempts(tmp_path) == [1] * 6
