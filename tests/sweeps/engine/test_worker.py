"""What a trial is given, and how one process of a group fails."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from plm import Execution, RunSpec, Store, claim
from sweeps.engine import worker, workers
from sweeps.engine.worker import Outcome, Resources


@pytest.mark.parametrize(
    ("asked", "cpus", "gpus", "fit"),
    [
        (Resources(cpus=1), 8, 0, 8),
        (Resources(cpus=3), 8, 0, 2),
        (Resources(gpus=0.2), 16, 1, 5),  # although 1 // 0.2 is 4
        (Resources(gpus=0.1), 16, 1, 10),
        (Resources(gpus=1 / 3), 16, 1, 3),
        (Resources(gpus=0.4), 16, 2, 4),  # two on each: no trial lies on two GPUs
        (Resources(gpus=0.6), 16, 2, 2),
        (Resources(gpus=1), 2, 8, 2),
        (Resources(gpus=2), 16, 5, 2),
        (Resources(gpus=0.5), 16, 0, 0),
    ],
)
def test_so_many_workers_fit(asked: Resources, cpus: float, gpus: float, fit: int) -> None:
    assert asked.fit(cpus, gpus) == fit


def test_a_trial_waits_a_while_for_another_process(
    finetune: Callable[..., RunSpec], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
    spec = finetune()
    with store.run(spec).claim(spec):
        assert worker.execute(spec, store, Execution()).status == "busy"
    assert worker.execute(spec, store, Execution()).status == "done"


def test_a_trial_that_follows_a_death_takes_the_run_over(
    finetune: Callable[..., RunSpec], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine the dead one's lease must run out first; were the trial to end before, Tune would forget the death."""
    assert worker.WAIT_SECONDS > claim.STALE_SECONDS
    shorter = 0.02
    for module, name in ((claim, "STALE_SECONDS"), (worker, "WAIT_SECONDS"), (worker, "POLL_SECONDS")):
        monkeypatch.setattr(module, name, getattr(module, name) * shorter)
    spec = finetune()
    dead = store.run(spec).claim(spec)
    dead.record["holder"]["machine"] = "another"
    dead.note(renewed=time.time())
    assert worker.execute(spec, store, Execution()).status == "done"
    assert len(store.run(spec).attempts()) == 2


def test_what_tune_is_told_is_the_outcome() -> None:
    failed = Outcome("", "failed", {"val/loss": 0.5}, 1.5, "OSError: disk full")
    assert worker.outcome_of("a", worker.reported(failed)["outcome"]) == replace(failed, run_id="a")
    assert worker.outcome_of("a", None) == Outcome("a", "failed", {}, error="its process died")


def test_a_group_stops_waiting_when_its_first_process_does(
    finetune: Callable[..., RunSpec], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that gave up by a clock of its own would leave the others in their next exchange."""
    said = iter([False, False, True])

    class Second:
        def told(self, value: tuple[bool, bool]) -> tuple[bool, bool]:
            assert value == (False, True)
            return False, next(said)

    monkeypatch.setattr(worker, "WAIT_SECONDS", -1.0)
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
    monkeypatch.setattr("plm.parallel.group", Second)
    spec = finetune()
    with store.run(spec).claim(spec):
        assert worker.execute(spec, store, Execution()).status == "busy"
    assert list(said) == []


def test_a_process_that_fails_in_a_group_is_seen_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it returned, the others would wait for it in their next exchange until that times out."""
    outcomes = iter([Outcome("a", "failed", {}, error="OSError: disk full"), Outcome("a", "diverged", {})])
    monkeypatch.setattr("sweeps.engine.worker.run_trial", lambda config: next(outcomes))
    with pytest.raises(RuntimeError, match="disk full"):
        workers.member({})
    assert workers.member({})["status"] == "diverged"  # which all of them know


def test_a_group_that_failed_leaves_a_record(finetune: Callable[..., RunSpec], store: Store) -> None:
    spec, folder = finetune(), store.run(finetune())
    workers.note_failure(spec, store, "worker 1: OSError: disk full", "the whole trace")
    assert folder.status() == "failed"
    assert folder.get("error.txt") == b"the whole trace"
    assert folder.attempts()[-1]["error"] == "worker 1: OSError: disk full"
    workers.note_failure(spec, store, "another", "another")  # what is there says more
    assert len(folder.attempts()) == 1


def test_a_group_that_failed_is_described_by_who_failed() -> None:
    class GroupError(Exception):
        worker_failures: ClassVar[dict[int, Exception]] = {
            1: RuntimeError("Traceback\n  ...\nRuntimeError: OSError: disk full\n")
        }

    assert workers._last_words(GroupError("long")) == "worker 1: RuntimeError: OSError: disk full"
    assert workers._last_words(TimeoutError("late")) == "TimeoutError: late"


def test_of_a_groups_notes_as_much_goes_as_can(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, another = (store.root / "scratch" / name for name in ("mine", "another"))
    for folder in (mine / "a", mine / "b", mine / "c", another):
        folder.mkdir(parents=True)
        (folder / "note").write_text("")
    remove = os.rmdir

    def stuck(path: str, **options: Any) -> None:
        if Path(path).name in "ab":  # whichever comes first
            raise OSError(f"{path} is busy")
        remove(path, **options)

    with monkeypatch.context() as held:
        held.setattr(os, "rmdir", stuck)
        workers._clear(store, "scratch/mine")
    left = sorted(path.relative_to(mine).as_posix() for path in mine.rglob("*"))
    assert left == ["a", "b"]
    workers._clear(store, "scratch/mine")
    assert not mine.exists()
    assert another.exists()
    workers._clear(store, "scratch/another")
    assert not (store.root / "scratch").exists()
