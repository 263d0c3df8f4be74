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


def says(store: Store, run_id: str, attempt: int, step: int) -> None:
    """An attempt's record, of a run of a hundred steps."""
    told = {"step": step, "total": 100, "outcome": None}
    store.put(f"runs/{run_id}/attempts/{attempt:04}.json", json.dumps(told).encode())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_what_an_earlier_call_did_is_not_taken_for_speed(question: Sweep, store: Store, clock: list[float]) -> None:
    planned = plan(question, store, {"seed": "0"})
    first, second, *_ = planned.runs
    assert len(planned.runs) == 3
    shown = Progress(Schedule(planned), store, lambda spec: 1.0, 1, Console(quiet=True))
    for _ in range(2):
        shown._schedule.next()
    says(store, first, 1, 60)
    shown.started(first)
    assert shown.seconds_left() is None  # 60 steps, and no time has passed: that was before
    clock[0] = 10.0
    says(store, first, 2, 80)
    shown.started(second)
    assert shown.seconds_left() == pytest.approx(10 / 0.2 * (0.2 + 1 + 1))  # a fifth of a run in ten seconds
    clock[0] = 20.0
    shown._schedule.ended(first, "done")
    shown.ended(Outcome(first, "done", {}, seconds=20.0))
    assert shown.seconds_left() == pytest.approx(20 / 0.4 * 2)  # two fifths of it were done in twenty


def test_a_long_run_of_this_process_is_heard_of_on_its_way(
    question: Sweep, store: Store, no_view: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    assert launch.main(question, ["seed=0", "mask=none", "--local", "--store", str(store.root)]) == 0
    assert capsys.readouterr().out.count("0/1 done, 1 running") > 2  # once when it starts, then at its steps
