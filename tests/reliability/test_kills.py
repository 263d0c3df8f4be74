"""Whatever is killed, and whenever: after the same command again each run was done once, with the numbers of a quiet sweep.

Each fault strikes at random moments of sweeps of 24 runs under Ray, start and end included, until it has struck so often:
once or twice in the slow tests (a killed driver is among the engine's), with the counts of a campaign in those of `soak`.
What was seen on the way is printed (`-rP` shows it).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from answered import results
from reliability.processes import descendants, started

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]

ROOT = Path(__file__).parents[2]
RUNS = 24
FEW, MANY = [pytest.mark.slow, pytest.mark.timeout(1800)], [pytest.mark.soak, pytest.mark.timeout(20_000)]
ENDS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
PATIENCE = 180.0
"""Seconds for a driver to notice that Ray is gone, or for the sweep to end."""


@dataclass
class Sweep:
    """A command that is called again and again until it has ended by itself, and what it may not do meanwhile."""

    words: list[str]
    folder: Path
    seen: dict[int, str] = field(default_factory=dict)
    """Every process below any call, with its start."""
    done: dict[str, int] = field(default_factory=dict)
    """Of the runs that were finished the moment of it."""
    calls: int = 0

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def start(self) -> subprocess.Popen[bytes]:
        self.calls += 1
        self.folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "sweeps.reinit_grid", *self.words, "--store", str(self.store)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with (self.folder / f"said{self.calls}").open("wb") as said:
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=said, stderr=subprocess.STDOUT)

    def said(self) -> str:
        """What the last call said."""
        return (self.folder / f"said{self.calls}").read_text()[-3000:]

    def look(self, driver: subprocess.Popen[bytes]) -> dict[int, str]:
        """The processes below a driver; and that nothing finished was finished again."""
        below = descendants(driver.pid)
        self.seen |= {pid: start for pid in below if (start := started(pid))}
        for file in self.store.glob("runs/*/DONE"):
            moment = file.stat().st_mtime_ns
            assert self.done.setdefault(file.parent.name, moment) == moment, f"{file.parent.name} was done twice"
        return below

    def check(self, quiet: Path) -> None:
        """Each run was done once, and the answers are those of a sweep that nothing happened to."""
        ends = [[a["outcome"] for a in attempts] for attempts in self.attempts()]
        assert [outcomes.count("done") for outcomes in ends] == [1] * RUNS, ends
        assert {outcome for outcomes in ends for outcome in outcomes} <= {None, "stopped", "done"}, ends
        assert results(self.store) == results(quiet)
        end = time.monotonic() + 60
        while left := [pid for pid, start in self.seen.items() if started(pid) == start]:
            assert time.monotonic() < end, f"still there: {left}"
            time.sleep(0.5)

    def attempts(self) -> list[list[dict[str, Any]]]:
        """Of each run the records of its executions, oldest first."""
        return [
            [json.loads(file.read_text()) for file in sorted(run.glob("attempts/*.json"))]
            for run in sorted(self.store.glob("runs/*"))
        ]


@pytest.fixture(scope="module")
def words(tiny_bert: str, toy_task: str) -> list[str]:
    """Three masks and eight seeds: 24 runs of about half a second."""
    return [f"model={tiny_bert}", f"task={toy_task}", "size=24", f"seed=0:{RUNS // 3}", "duration=steps:60"]


@pytest.fixture(scope="module")
def quiet(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A sweep that nothing happens to, and how many seconds it takes."""
    sweep, began = Sweep(words, tmp_path_factory.mktemp("quiet")), time.monotonic()
    assert sweep.start().wait() == 0, sweep.said()
    return sweep.store, time.monotonic() - began


def counts(few: int, many: int) -> tuple[Any, ...]:
    """How often a test strikes; 0: not among the slow ones."""
    return (*([pytest.param(few, marks=FEW)] if few else []), pytest.param(many, marks=MANY))


def until_struck(
    times: int, words: list[str], folder: Path, quiet: Path, strike: Callable[[Sweep, subprocess.Popen[bytes]], bool]
) -> Iterator[Sweep]:
    """Sweeps, each called until it ends by itself, until a fault has struck so often.

    Args:
        strike: Does the harm to a call that has just begun, and waits until that call has ended; whether it came to it.
    """
    struck = 0
    for number in itertools.count():
        sweep = Sweep(words, folder / str(number))
        while True:
            driver = sweep.start()
            try:
                if struck < times:
                    struck += strike(sweep, driver)
                else:
                    await_end(sweep, driver)
            finally:
                driver.kill()
            if driver.returncode == 0:
                break
        sweep.check(quiet)
        yield sweep
        if struck >= times:
            return


def await_end(sweep: Sweep, driver: subprocess.Popen[bytes], seconds: float = PATIENCE) -> float:
    """Wait until a call has ended; the seconds that took."""
    began = time.monotonic()
    while driver.poll() is None:
        sweep.look(driver)
        assert time.monotonic() - began < seconds, f"it goes on: {sweep.said()}"
        time.sleep(0.2)
    return time.monotonic() - began


def wait_until(moment: float, sweep: Sweep, driver: subprocess.Popen[bytes]) -> bool:
    """Wait until that moment of the clock; whether the call is still at it then."""
    while driver.poll() is None and time.monotonic() < moment:
        sweep.look(driver)
        time.sleep(min(0.2, max(0.0, moment - time.monotonic())))
    return driver.poll() is None


@pytest.mark.parametrize("times", counts(0, 100))
def test_a_driver_is_killed(times: int, words: list[str], quiet: tuple[Path, float], tmp_path: Path) -> None:
    calls = struck_drivers(signal.SIGKILL, times, words, quiet, tmp_path)
    print(f"{times} drivers killed in {len(calls)} sweeps of {RUNS} runs, {max(calls)} calls for one at most")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("times", counts(0, 10))
def test_a_driver_is_told_to_end(
    times: int, number: signal.Signals, words: list[str], quiet: tuple[Path, float], tmp_path: Path
) -> None:
    calls = struck_drivers(number, times, words, quiet, tmp_path)
    print(f"{times} drivers ended by {number.name} in {len(calls)} sweeps of {RUNS} runs")


def struck_drivers(
    number: signal.Signals, times: int, words: list[str], quiet: tuple[Path, float], folder: Path
) -> list[int]:
    """Send a signal to drivers at random moments; the calls that each sweep took."""
    draw, (undisturbed, seconds) = random.Random(number), quiet

    def strike(sweep: Sweep, driver: subprocess.Popen[bytes]) -> bool:
        if not wait_until(time.monotonic() + draw.uniform(0, seconds), sweep, driver):
            return False
        driver.send_signal(number)
        await_end(sweep, driver)
        assert driver.returncode in (ENDS[number], -number, 0), sweep.said()  # -number: it was still being imported
        return True

    return [sweep.calls for sweep in until_struck(times, words, folder, undisturbed, strike)]


@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
@pytest.mark.parametrize("times", counts(0, 10))
def test_ray_is_killed_under_a_driver(
    times: int, victim: str, words: list[str], quiet: tuple[Path, float], tmp_path: Path
) -> None:
    draw, noticed, (undisturbed, seconds) = random.Random(victim), list[float](), quiet

    def strike(sweep: Sweep, driver: subprocess.Popen[bytes]) -> bool:
        named: list[int] = []
        while driver.poll() is None and not named:
            named = [pid for pid, name in sweep.look(driver).items() if Path(name.split("\0")[0]).name == victim]
            time.sleep(0.05)
        if not wait_until(time.monotonic() + draw.uniform(0, seconds / 2), sweep, driver):
            return False
        os.kill(named[0], signal.SIGKILL)
        noticed.append(await_end(sweep, driver))
        return True

    sweeps = list(until_struck(times, words, tmp_path, undisturbed, strike))
    print(f"{times} times {victim} killed in {len(sweeps)} sweeps of {RUNS} runs; the call ended after", end=" ")
    print(f"{statistics.median(noticed):.0f} s, {max(noticed):.0f} at most")


@pytest.mark.parametrize("times", counts(2, 50))
def test_a_process_that_trains_is_killed(
    times: int, words: list[str], quiet: tuple[Path, float], tmp_path: Path
) -> None:
    draw, killed = random.Random(0), list[tuple[Path, float]]()

    def training(sweep: Sweep) -> list[tuple[Path, int]]:
        files = [
            sorted(run.glob("attempts/*.json"))[-1]
            for run in sweep.store.glob("runs/*")
            if any(run.glob("attempts/*.json"))
        ]
        records = {file: json.loads(file.read_text()) for file in files}
        return [(file, record["holder"]["pid"]) for file, record in records.items() if record["outcome"] is None]

    def strike(sweep: Sweep, driver: subprocess.Popen[bytes]) -> bool:
        moment = time.monotonic() + draw.uniform(0, 8)
        while wait_until(moment, sweep, driver):
            held = training(sweep)
            if held and len(killed) < times:
                file, pid = draw.choice(held)
                # It may have been killed before, and nobody has begun its run again.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append((file, time.time()))
                moment = time.monotonic() + draw.uniform(3, 8)
            else:
                moment = time.monotonic() + 0.05
        assert driver.returncode == 0, sweep.said()
        return len(killed) >= times

    repeat = 0
    for _ in until_struck(1, words, tmp_path, quiet[0], strike):
        repeat += 1
    gaps = [json.loads(later.read_text())["started"] - when for file, when in killed if (later := _next(file)).exists()]
    assert len(gaps) >= 0.8 * times, "the runs of killed processes were not begun again"
    print(
        f"{times} processes killed in {repeat} sweeps of {RUNS} runs; {len(gaps)} runs were begun again after", end=" "
    )
    print(f"{statistics.median(gaps):.1f} s, {max(gaps):.1f} at most")


def _next(attempt: Path) -> Path:
    """The record of the execution after this one."""
    return attempt.with_name(f"{int(attempt.stem) + 1:04d}.json")


@pytest.mark.parametrize("times", counts(1, 20))
def test_two_drivers_race(times: int, words: list[str], quiet: tuple[Path, float], tmp_path: Path) -> None:
    draw, shared = random.Random(0), 0
    for number in range(times):
        sweep = Sweep([*words, "--local"], tmp_path / str(number))
        drivers = []
        for _ in range(2):
            drivers.append(sweep.start())
            time.sleep(draw.uniform(0, 0.5))
        for driver in drivers:
            await_end(sweep, driver)
            assert driver.returncode == 0, sweep.said()
        sweep.check(quiet[0])
        shared += len({attempt["holder"]["pid"] for attempts in sweep.attempts() for attempt in attempts}) == 2
    print(f"{times} races of two drivers for {RUNS} runs; both did some in {shared}")
    assert shared, "one always did all: that was no race"
