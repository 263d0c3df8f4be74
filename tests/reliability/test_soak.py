"""Thousands of tiny trials in one call: nothing grows with their number that would end a long sweep, and nothing stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from reliability.processes import descendants, is_actor, resident, started

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(7200), pytest.mark.xdist_group("ray")]

ROOT = Path(__file__).parents[2]
TRIALS = int(os.environ.get("PLM_SOAK_TRIALS", "2000"))
WORKER_GROWTH, DRIVER_GROWTH = 50e6, 60e3
"""Bytes that a worker may grow by in all, and the driver with each trial."""
WARM = 0.2
"""The share of the trials after which growth counts."""


class Sample(NamedTuple):
    """One look at the processes of a sweep."""

    done: int
    driver: float
    """Resident bytes."""
    workers: dict[int, float]


def test_many_trials(tiny_bert: str, toy_task: str, tmp_path: Path) -> None:
    store, seen = tmp_path / "store", dict[int, str]()
    words = [f"model={tiny_bert}", f"task={toy_task}", "mask=none,all", "size=16", f"seed=0:{TRIALS // 2}"]
    command = [sys.executable, "-m", "sweeps.reinit_grid", *words, "duration=steps:2", "--store", str(store)]
    began = time.monotonic()
    with (tmp_path / "said").open("wb") as said:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        driver = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=said, stderr=subprocess.STDOUT)
        try:
            samples = watch(driver, store, seen)
        finally:
            driver.kill()
    assert driver.returncode == 0, (tmp_path / "said").read_text()[-3000:]
    assert sum(1 for _ in store.glob("runs/*/DONE")) == TRIALS
    assert sum(1 for _ in store.glob("runs/*/attempts/*")) == TRIALS, "none was done twice"
    first = next(s for s in samples if s.done >= WARM * TRIALS and s.workers)
    last = next(s for s in reversed(samples) if s.workers.keys() & first.workers.keys())
    each = (last.driver - first.driver) / (last.done - first.done)
    grown = {pid: last.workers[pid] - first.workers[pid] for pid in first.workers.keys() & last.workers.keys()}
    print(f"{TRIALS} trials in {time.monotonic() - began:.0f} s; driver {each / 1e3:.1f} KB a trial; workers", end=" ")
    print({pid: f"{last.workers[pid] / 1e6:.0f} MB, {more / 1e6:+.1f}" for pid, more in grown.items()})
    assert max(grown.values()) < WORKER_GROWTH
    assert each < DRIVER_GROWTH
    end = time.monotonic() + 60
    while left := [pid for pid, start in seen.items() if started(pid) == start]:
        assert time.monotonic() < end, f"still there: {left}"
        time.sleep(1)


def watch(driver: subprocess.Popen[bytes], store: Path, seen: dict[int, str]) -> list[Sample]:
    """Look every few seconds until the driver ends; all that ever descended from it is put into `seen`."""
    samples = []
    while driver.poll() is None:
        below = descendants(driver.pid)
        seen |= {pid: start for pid in below if (start := started(pid))}
        workers = {pid: size for pid, name in below.items() if is_actor(name) and (size := resident(pid))}
        samples.append(Sample(sum(1 for _ in store.glob("runs/*/DONE")), resident(driver.pid), workers))
        time.sleep(3)
    return samples
