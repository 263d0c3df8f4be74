"""What is told while a sweep runs: how much is left, by the work that was seen."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from plm import Store
from sweeps.engine import launch, progress
from sweeps.engine.plan import plan
from sweeps.engine.progress import Progress
from sweeps.engine.schedule import Schedule
from sweeps.engine.sweep import Sweep
from sweeps.engine.worker import Outcome


def says(store: Store, run_id: str, attempt: int, step: int, begun: int = 0) -> None:
    """An attempt's record, of a run of a hundred steps."""
    holder = {"host": "one", "machine": "one", "pid": 1, "ticks": None}
    told = {"started": attempt, "renewed": attempt, "step": step, "from": begun, "total": 100, "outcome": None}
    store.put(f"runs/{run_id}/attempts/{attempt:04}.json", json.dumps(told | {"holder": holder}).encode())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def shown(question: Sweep, store: Store) -> Progress:
    """Of three runs, two of which have been asked for."""
    schedule = Schedule(plan(question, store, {"seed": "0"}))
    assert len(schedule.plan.runs) == 3
    for _ in range(2):
        schedule.next()
    return Progress(schedule, store, lambda spec: 1.0, 1, Console(quiet=True))


def test_what_an_earlier_call_did_is_not_taken_for_speed(shown: Progress, store: Store, clock: list[float]) -> None:
    """It had come to step 60 of the first run, and had saved step 50."""
    first, second, _ = shown._schedule.plan.runs
    says(store, first, 1, 60)
    shown.started(first)
    assert shown.seconds_left() is None
    clock[0] = 10.0
    says(store, first, 2, 70, begun=50)
    shown.started(second)
    assert shown.seconds_left() == pytest.approx(10 / 0.2 * (0.3 + 1 + 1))  # a fifth of a run in ten seconds
    clock[0] = 25.0
    shown._schedule.ended(first, "done")
    shown.ended(Outcome(first, "done", {}, seconds=25.0))
    assert shown.seconds_left() == pytest.approx(25 / 0.5 * 2)  # half of it was done in 25


def test_a_run_that_is_repeated_is_all_work(shown: Progress, store: Store, clock: list[float]) -> None:
    """It was whole, and lacks the weights of a step; what others have done while one waited is none."""
    first, second, _ = shown._schedule.plan.runs
    for run_id in (first, second):
        says(store, run_id, 1, 100)
        shown.started(run_id)
    says(store, first, 2, 100)
    for run_id, seconds in ((first, 40.0), (second, 9.0)):
        shown._schedule.ended(run_id, "done")
        shown.ended(Outcome(run_id, "done", {}, seconds=seconds))
    assert shown.seconds_left() == pytest.approx(40.0)
    assert not shown._read, "what is kept of a run goes with it, else a long sweep's driver grows"


def test_a_store_that_is_away_stops_nothing(
    shown: Progress, store: Store, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    def away(*_: object) -> None:
        raise OSError("the bucket does not answer")

    monkeypatch.setattr(progress.RunFolder, "last_attempt", away)
    first, *_ = shown._schedule.plan.runs
    shown.started(first)
    assert shown.seconds_left() is None
    assert "1 running" in shown.line()


def test_a_long_run_of_this_process_is_heard_of_on_its_way(
    question: Sweep, store: Store, no_view: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    assert launch.main(question, ["seed=0", "mask=none", "--local", "--store", str(store.root)]) == 0
    assert capsys.readouterr().out.count("0/1 done, 1 running") > 2  # once when it starts, then at its steps
