"""Readings start when their checkpoint is there, though the training goes on: here, or in another process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plm import RunSpec, Store
from plm.store import VOUCHED, RunFolder
from sweeps.embryology import sweep
from sweeps.engine import follow, launch
from sweeps.engine.follow import Follow
from sweeps.engine.plan import Plan, plan
from sweeps.engine.schedule import BLOCKED, Schedule

TRAINER = """
import sys, time
from pathlib import Path
import plm

store, spec = Path(sys.argv[1]), plm.RunSpec.from_json(Path(sys.argv[2]).read_text())
run, until = store / "runs" / spec.run_id, time.monotonic() + 40


def read():
    return list(store.glob("runs/similarity-*/DONE"))


def hold():
    # Do not come to the last step before the one before was read.
    while (run / "checkpoints/step_00000002/manifest.json").exists() and not read():
        assert time.monotonic() < until, "nobody reads"
        time.sleep(0.05)
    return False


plm.train(spec, store=store, execution=plm.Execution(keep=(0, 2)), should_stop=hold)
assert len(read()) < 3, "all was read before the last step was there"
"""


@pytest.fixture
def text(toy_corpus: str) -> str:
    return f"similarity:{toy_corpus}"


def begun(spec: RunSpec, store: Store, keep: tuple[int, ...]) -> RunFolder:
    """A run that somebody has begun."""
    folder = store.run(spec)
    folder.claim(spec).note(keep=[*keep])
    return folder


def planned(spec: RunSpec, store: Store, text: str) -> Plan:
    return plan(sweep, store, {"trajectory": f"{store.root}/runs/{spec.run_id}", "analysis": text})


def test_all_steps_that_a_training_will_keep_are_planned(
    pretrain: Callable[..., RunSpec], store: Store, text: str
) -> None:
    spec = pretrain()
    begun(spec, store, (0, 2, 4))
    found = planned(spec, store, text)
    assert [cell.point["step"] for cell in found.cells] == [0, 2, 4]
    assert found.keep == {spec.run_id: (0, 2, 4)}


def test_what_is_followed_starts_when_its_step_is_there(
    pretrain: Callable[..., RunSpec], store: Store, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "LOOK_SECONDS", 0.0)
    spec = pretrain()
    folder = begun(spec, store, (0, 2, 4))
    found = planned(spec, store, text)
    first, second, third = (cell.spec.run_id for cell in found.cells)
    patient, eager = Schedule(found), Schedule(found, follow=Follow(store))
    assert patient.next() is not None  # the training itself: it would wait for the other process
    assert eager.next() is None
    folder.put_checkpoint(0, {"model.safetensors": b"there"})
    assert patient.next() is None
    assert started(eager) == first
    assert started(eager) is None
    folder.put_checkpoint(2, {"model.safetensors": b"there"})
    assert started(eager) == second
    assert not eager.exhausted
    eager.state[spec.run_id] = "running"
    eager.ended(spec.run_id, "diverged")
    assert eager.state[third] == BLOCKED


def test_a_step_that_only_training_goes_on_from_is_not_read(pretrain: Callable[..., RunSpec], store: Store) -> None:
    spec = pretrain()
    folder = begun(spec, store, (0, 4))
    for step in (0, 2):
        folder.put_checkpoint(step, {"model.safetensors": b"there", "optimizer.safetensors": b"of late"})
    looking = Follow(store)
    assert [looking.has(spec.at(step)) for step in (0, 2)] == [True, False]


def test_what_a_repetition_writes_is_read_once_it_was_compared(pretrain: Callable[..., RunSpec], store: Store) -> None:
    spec, folder = pretrain(), store.run(pretrain())
    folder.put_checkpoint(4, {"model.safetensors": b"there"})
    with folder.claim(spec) as first:
        first.note(keep=[4])
        first.finish({name: b"[]" for name in VOUCHED if name != "spec.json"})
    again = folder.claim(spec, again=True)
    again.note(keep=[2, 4])
    folder.put_checkpoint(2, {"model.safetensors": b"others, perhaps"})

    def read() -> list[bool]:
        return [Follow(store).has(spec.at(step)) for step in (2, 4)]

    assert read() == [False, True]
    again.end("stopped")
    assert read() == [False, True]
    again.end("repeated")
    assert read() == [True, True]


def test_a_reading_is_not_blocked_without_a_look(pretrain: Callable[..., RunSpec], store: Store, text: str) -> None:
    """Its checkpoint has appeared since the last one, which was a moment ago."""
    spec = pretrain()
    attempt = store.run(spec).claim(spec)
    attempt.note(keep=[0, 2])
    found = planned(spec, store, text)
    attempt.end("stopped")
    schedule = Schedule(found, follow=Follow(store))
    assert started(schedule) == spec.run_id
    assert started(schedule) is None
    store.run(spec).put_checkpoint(0, {"model.safetensors": b"there"})
    schedule.ended(spec.run_id, "diverged")
    states = [schedule.state[cell.spec.run_id] for cell in found.cells]
    assert states == ["waiting", BLOCKED]


def test_a_store_that_is_away_for_a_moment_has_nothing_new(
    pretrain: Callable[..., RunSpec], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "LOOK_SECONDS", 0.0)
    spec = pretrain()
    folder, looking = store.run(spec), Follow(store)
    attempt = folder.claim(spec)
    attempt.note(keep=[2])
    folder.put_checkpoint(2, {"model.safetensors": b"there"})

    def away(self: Store, key: str) -> bytes | None:
        raise OSError(f"{key}: host is down")

    with monkeypatch.context() as gone:
        gone.setattr(Store, "get", away)
        assert not looking.has(spec.at(2))
        assert looking.elsewhere(spec)  # nobody can start it now
    assert looking.has(spec.at(2))
    attempt.end("stopped")
    assert not looking.elsewhere(spec)
    with monkeypatch.context() as gone:
        gone.setattr(Store, "get", away)
        assert not looking.elsewhere(spec)


def started(schedule: Schedule) -> str | None:
    spec = schedule.next()
    return spec and spec.run_id


def test_a_training_that_its_process_left_is_taken_over(
    pretrain: Callable[..., RunSpec], store: Store, text: str
) -> None:
    spec = pretrain()
    attempt = store.run(spec).claim(spec)
    attempt.note(keep=[0, 4])
    found = planned(spec, store, text)
    attempt.end("stopped", keep=[0, 4])
    assert started(Schedule(found, follow=Follow(store))) == spec.run_id


def test_a_training_in_another_process_is_read_as_it_goes(
    pretrain: Callable[..., RunSpec], store: Store, text: str, tmp_path: Path, no_view: None, capsys: Any
) -> None:
    spec = pretrain()
    (tmp_path / "spec.json").write_text(spec.to_json())
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER, str(store.root), str(tmp_path / "spec.json")], cwd=Path(__file__).parents[3]
    )
    try:
        while not (store.run(spec).last_attempt() or {}).get("keep"):
            assert trainer.poll() is None
            time.sleep(0.05)
        words = [f"trajectory={store.root}/runs/{spec.run_id}", f"analysis={text}", "--follow", "--local"]
        assert launch.main(sweep, [*words, "--store", str(store.root)]) == 0
        assert trainer.wait(30) == 0  # it has seen that the second step was read before it made the third
    finally:
        trainer.kill()
        trainer.wait()
    assert "4 runs: 0 finished before, 4 to run" in capsys.readouterr().out
    (attempt,) = store.run(spec).attempts()
    assert attempt["outcome"] == "done"
    assert launch.main(sweep, [*words, "--store", str(store.root)]) == 0
    assert "3 steps (0 to 4)" in " ".join(capsys.readouterr().out.split())


def test_a_search_is_not_followed(capsys: pytest.CaptureFixture[str]) -> None:
    from sweeps.pretrain_search import sweep as search

    assert launch.main(search, ["--follow"]) == launch.WRONG
    assert "--follow is for grids" in capsys.readouterr().err
