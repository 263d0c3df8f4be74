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

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def address() -> Iterator[str]:
    with served() as address:
        yield address


def test_a_sweep_in_a_bucket_is_killed_and_gone_on_with(
    address: str, tiny_bert: str, toy_task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"model={tiny_bert}", f"task={toy_task}", "size=24", "seed=0:3", "duration=steps:40", "--local"]
    location = f"s3://{BUCKET}/team/one?endpoint_override={address}"
    monkeypatch.setenv("PLM_CACHE", str(tmp_path / "cache"))
    store = Store.at(location)
    sweep = start(words, location, tmp_path / "one", tmp_path / "said")
    while sweep.poll() is None and len(done(store)) < 2:
        time.sleep(0.05)
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    before = done(store)
    assert 2 <= len(before) < 9, (tmp_path / "said").read_text()
    sweep = start(words, location, tmp_path / "another", tmp_path / "said")
    assert sweep.wait() == 0, (tmp_path / "said").read_text()
    assert f"9 runs: {len(before)} finished before, {9 - len(before)} to run" in (tmp_path / "said").read_text()

    runs = [RunFolder(store, name) for name in store.list("runs")]
    assert len(runs) == 9
    ends = [[attempt["outcome"] for attempt in run.attempts()] for run in runs]
    assert all(outcomes.count("done") == 1 for outcomes in ends), ends
    assert sum(map(len, ends)) <= 9 + 1, "a kill interrupts one run"

    assert start(words, str(tmp_path / "disk"), tmp_path / "third", tmp_path / "said").wait() == 0
    disk = Store.at(tmp_path / "disk")
    assert results(store) == results(disk)
    assert {*store.list("sweeps/reinit_grid")} == {*disk.list("sweeps/reinit_grid")}
    assert "a-secret" not in "".join(path.read_text(errors="replace") for path in files(tmp_path))


def start(words: list[str], store: str, machine: Path, said: Path) -> subprocess.Popen[bytes]:
    """A sweep in a process of its own, with a folder of its own for copies."""
    machine.mkdir(exist_ok=True)
    environment = os.environ | {"PLM_CACHE": str(machine / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sweeps.reinit_grid", *words, "--store", store]
    with said.open("wb") as output:
        return subprocess.Popen(command, cwd=machine, env=environment, stdout=output, stderr=subprocess.STDOUT)


def done(store: Store) -> list[str]:
    return [name for name in store.list("runs") if "DONE" in store.list(f"runs/{name}")]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
