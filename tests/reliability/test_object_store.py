"""A sweep whose store is a bucket: killed, gone on with from a machine without its copies, and answered as on a disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from answered import results
from bucket import BUCKET, served

from plm.store import RunFolder, Store

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def address() -> Iterator[str]:
    with served() as address:
        yield address


@pytest.mark.parametrize(
    "default",
    [
        pytest.param(False, marks=pytest.mark.slow, id="local"),
        pytest.param(True, marks=[pytest.mark.soak, pytest.mark.ray], id="the default under Ray"),
    ],
)
def test_a_sweep_in_a_bucket_is_killed_and_gone_on_with(
    default: bool, address: str, tiny_bert: str, toy_task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [f"model={tiny_bert}", f"task={toy_task}", "size=24", "seed=0:3", "duration=steps:40", "--local"]
    words, name = (["--smoke"], "reinit_grid-smoke") if default else (small, "reinit_grid")
    location = f"s3://{BUCKET}/team/one?endpoint_override={address}"
    monkeypatch.setenv("PLM_CACHE", str(tmp_path / "cache"))
    store = Store.at(location)
    sweep = start(words, location, tmp_path / "one", tmp_path / "said")
    while sweep.poll() is None and len(done(store)) < 2:
        time.sleep(0.05)
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    wait_for_no_holder(store)
    before = done(store)
    assert len(before) >= 2, (tmp_path / "said").read_text()
    sweep = start(words, location, tmp_path / "another", tmp_path / "said")
    assert sweep.wait() == 0, (tmp_path / "said").read_text()
    runs = [RunFolder(store, name) for name in store.list("runs")]
    left = len(runs) - len(before)
    assert left > 0, "it was killed too late"
    assert f"{len(runs)} runs: {len(before)} finished before, {left} to run" in (tmp_path / "said").read_text()

    ends = [[attempt["outcome"] for attempt in run.attempts()] for run in runs]
    assert all(outcomes.count("done") == 1 for outcomes in ends), ends
    assert sum(map(len, ends)) <= len(runs) + 2, "a kill interrupts what the processes were at"

    assert start([*words, "--local"], str(tmp_path / "disk"), tmp_path / "third", tmp_path / "said").wait() == 0
    disk = Store.at(tmp_path / "disk")
    assert results(store, name) == results(disk, name)
    assert {*store.list(f"sweeps/{name}")} == {*disk.list(f"sweeps/{name}")}
    assert "a-secret" not in "".join(path.read_text(errors="replace") for path in files(tmp_path))


def start(words: list[str], store: str, machine: Path, said: Path) -> subprocess.Popen[bytes]:
    """A sweep in a process of its own, with a folder of its own for copies."""
    machine.mkdir(exist_ok=True)
    environment = os.environ | {"PLM_CACHE": str(machine / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sweeps.reinit_grid", *words, "--store", store]
    with said.open("wb") as output:
        return subprocess.Popen(command, cwd=machine, env=environment, stdout=output, stderr=subprocess.STDOUT)


def wait_for_no_holder(store: Store) -> None:
    """Ray's processes outlive their driver by some seconds, and may finish what they were at."""
    while any(RunFolder(store, name).held for name in store.list("runs")):
        time.sleep(0.5)


def done(store: Store) -> list[str]:
    return [name for name in store.list("runs") if "DONE" in store.list(f"runs/{name}")]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
