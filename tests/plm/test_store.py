"""The store: whole objects, one winner of every race, and nothing believed that was changed behind its back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_spec import MODEL, fine_tuning, pretraining, redrawn

import plm
from plm import claim
from plm import store as stores
from plm.claim import Busy, Lost
from plm.inits.load import Load
from plm.inits.reinit import Reinit
from plm.objects import side_by_side
from plm.store import VOUCHED, Store, step_name


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.at(tmp_path / "store")


# Objects


def test_put_get_list_delete(store):
    assert store.get("a/b") is None
    assert store.list("a") == []
    store.put("a/b", b"1")
    store.put("a/b", b"2")
    store.put("a/c/d", b"3")
    assert store.get("a/b") == b"2"
    assert store.list("a") == ["b", "c"]
    assert store.get("a/b/c") is None
    for key in ("a/c", "a/b", "a/b"):
        store.delete(key)
    assert store.list("a") == []


@pytest.mark.parametrize("operation", ["put", "create"])
def test_a_failed_write_leaves_nothing(store, monkeypatch, operation):
    store.put("a/old", b"old")

    def full(path, data):
        with open(path, "wb") as file:
            file.write(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        getattr(store, operation)("a/old" if operation == "put" else "a/new", b"new")
    assert os.listdir(store.root / "a") == ["old"]
    assert store.get("a/old") == b"old"


def test_unfinished_writes_are_not_listed(store):
    store.put("a/b", b"1")
    (store.root / "a/.c.123").write_bytes(b"2")
    assert store.list("a") == ["b"]


def raced(create: Callable[[int], bool]) -> list[int]:
    """Which of eight threads that create one object at a time were told that they did."""
    start, won = threading.Barrier(8), []

    def run(number: int) -> None:
        start.wait()
        if create(number):
            won.append(number)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_things_are_read_side_by_side_and_stay_in_order():
    together = threading.Barrier(4)

    def read(thing: int) -> int:
        together.wait(timeout=30)  # broken, unless four are on their way at a time
        return -thing

    assert side_by_side(read, range(8)) == [0, -1, -2, -3, -4, -5, -6, -7]
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda thing: 1 / thing, (2, 0, 1))


def test_one_creator_wins(store):
    (winner,) = raced(lambda number: store.create("a/b", str(number).encode()))
    assert store.get("a/b") == str(winner).encode()
    assert os.listdir(store.root / "a") == ["b"]


# Where it can be


def test_looking_creates_nothing(tmp_path):
    store = Store.at(tmp_path / "a/b")
    assert store.run(fine_tuning()).status() == "missing"
    assert not (tmp_path / "a").exists()
    assert Store.at(store) is store


def test_other_object_stores_are_refused():
    with pytest.raises(ValueError, match=r"gs://bucket: give a path .* or s3://bucket/prefix"):
        Store.at("gs://bucket")


@pytest.mark.parametrize("below", ["", "/runs"])
def test_a_file_is_no_store(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file is not a folder.*--store"):
        Store.at(f"{tmp_path}/file{below}")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(stores.os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(ValueError, match="cannot be written"):
        Store.at(tmp_path / "runs")


# Specs


def test_a_changed_spec_is_refused(store):
    spec = fine_tuning()
    store.put(f"runs/{spec.run_id}/spec.json", spec.to_json().replace('"batch_size": 16', '"batch_size": 17').encode())
    with pytest.raises(ValueError, match=r"it was changed. Remove the folder to run it anew"):
        store.run(spec)


def test_another_run_s_spec_is_refused(store):
    spec, other = fine_tuning(), fine_tuning(batch_size=17)
    store.put(f"runs/{spec.run_id}/spec.json", other.to_json().encode())
    with pytest.raises(ValueError, match=f"is that of {other.run_id}"):
        store.run(spec)


def test_a_run_is_found_after_its_model_has_moved(store, tmp_path):
    """The spec that was written names the old folder."""
    old, new = (fine_tuning(init=redrawn(tmp_path / name)) for name in ("old", "new"))
    store.run(old).claim(old).end("failed")
    (tmp_path / "old/config.json").unlink()
    assert store.run(new).status() == "failed"


# Claims


def test_a_run_is_claimed_once(store):
    spec = fine_tuning()
    folder = store.run(spec)
    attempt = folder.claim(spec)
    assert folder.status() == "running"
    with pytest.raises(Busy, match=f"being trained by process {os.getpid()}"):
        store.run(spec).claim(spec)
    attempt.end("failed", error="x")
    assert folder.status() == "failed"
    assert folder.claim(spec).number == 2


def test_one_of_many_claims_wins(store):
    spec, start, outcomes = fine_tuning(), threading.Barrier(6), []

    def claim() -> None:
        start.wait()
        try:
            outcomes.append(store.run(spec).claim(spec).number)
        except Busy:
            outcomes.append("busy")

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["1", *["busy"] * 5]


CLAIM = """
import sys, time
from plm.spec import RunSpec
from plm.store import Store
spec = RunSpec.from_json(sys.stdin.read())
Store.at(sys.argv[1]).run(spec).claim(spec).__enter__()
print("claimed", flush=True)
time.sleep(600)
"""


def test_a_killed_process_loses_its_claim(store):
    spec = fine_tuning()
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(plm.__path__[0]).parent,
    )
    with process:
        process.stdin.write(spec.to_json())
        process.stdin.close()
        assert process.stdout.readline() == "claimed\n"
        folder = store.run(spec)
        assert folder.status() == "running"
        with pytest.raises(Busy, match=f"process {process.pid}"):
            folder.claim(spec)
        process.send_signal(signal.SIGKILL)
    assert folder.status() == "interrupted"
    assert folder.claim(spec).number == 2


def claimed_elsewhere(store, spec, renewed: float) -> None:
    attempt = store.run(spec).claim(spec)
    attempt.record["holder"]["machine"] = "another"
    attempt.record["renewed"] = renewed
    store.put(attempt.key, attempt.encoded())


def test_a_claim_of_another_machine_goes_stale(store):
    spec = fine_tuning()
    claimed_elsewhere(store, spec, time.time())
    assert store.run(spec).status() == "running"
    claimed_elsewhere_spec = fine_tuning(batch_size=17)
    claimed_elsewhere(store, claimed_elsewhere_spec, time.time() - 2 * claim.STALE_SECONDS)
    assert store.run(claimed_elsewhere_spec).status() == "interrupted"


def test_a_clock_that_runs_ahead_holds_nobody_up(store, monkeypatch):
    """The holder's clock is an hour ahead of ours: it is believed as long as it is seen to renew its claim, and no longer."""
    spec, now = fine_tuning(), [1000.0]
    monkeypatch.setattr(claim.time, "monotonic", lambda: now[0])
    claimed_elsewhere(store, spec, time.time() + 3600)
    folder = store.run(spec)
    assert folder.status() == "running"
    now[0] += claim.STALE_SECONDS - 1
    assert folder.status() == "running"
    record = folder.last_attempt()
    store.put(f"{folder.key}/attempts/0001.json", json.dumps(record | {"renewed": record["renewed"] + 10}).encode())
    now[0] += 2
    assert folder.status() == "running", "it has renewed its claim"
    now[0] += claim.STALE_SECONDS
    assert folder.status() == "interrupted"
    assert folder.claim(spec).number == 2


def test_a_process_goes_on_after_an_end_that_could_not_be_written(store, monkeypatch):
    """A notebook, when the disk was full and is not any more: the record says that this process, which lives, holds the run."""
    spec = fine_tuning()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch, store.run(spec).claim(spec) as attempt:
        patch.setattr(type(store), "put", full)
        with pytest.raises(OSError, match="No space"):
            attempt.end("failed")
    assert store.run(spec).last_attempt()["outcome"] is None
    assert store.run(spec).claim(spec).number == 2


def test_a_process_goes_on_after_a_claim_that_could_not_be_completed(store):
    spec = fine_tuning()

    def full(self, key: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(store), "put", full)
        with pytest.raises(OSError, match="No space"):
            store.run(spec).claim(spec)
    assert store.run(spec).last_attempt()["outcome"] is None
    assert store.run(spec).claim(spec).number == 2


def test_who_is_seen_to_renew_a_claim_lives_whatever_its_clock_says(store):
    """Once seen: at first sight there is nothing but its clock, which is two minutes behind ours."""
    spec = fine_tuning()
    claimed_elsewhere(store, spec, time.time() - 2 * claim.STALE_SECONDS)
    folder = store.run(spec)
    assert folder.status() == "interrupted"
    record = folder.last_attempt()
    store.put(f"{folder.key}/attempts/0001.json", json.dumps(record | {"renewed": record["renewed"] + 10}).encode())
    assert folder.status() == "running"


def test_a_claim_is_renewed_while_it_lasts(store, monkeypatch):
    monkeypatch.setattr(claim, "RENEW_SECONDS", 0.01)
    spec = fine_tuning()
    folder = store.run(spec)
    with folder.claim(spec) as attempt:
        first = folder.last_attempt()["renewed"]
        deadline = time.time() + 20
        while folder.last_attempt()["renewed"] == first and time.time() < deadline:
            time.sleep(0.01)
        assert folder.last_attempt()["renewed"] > first
        attempt.end("stopped")
    assert folder.last_attempt()["outcome"] == "stopped"


def test_who_was_overtaken_stops(store, monkeypatch):
    monkeypatch.setattr(claim, "RENEW_SECONDS", 0.01)
    spec = fine_tuning()
    with store.run(spec).claim(spec) as attempt:
        attempt.check()
        store.put(f"runs/{spec.run_id}/attempts/0002.json", b"{}")
        deadline = time.time() + 20
        while not attempt.lost and time.time() < deadline:
            time.sleep(0.01)
        assert attempt.lost
        with pytest.raises(Lost, match="attempt 1 was taken over by a later one"):
            attempt.finish({})
    assert not store.run(spec).done


# Finished runs


@pytest.fixture
def finished(store):
    spec = fine_tuning()
    folder = store.run(spec)
    attempt = folder.claim(spec)
    folder.put("metrics.jsonl", b'{"step": 1}\n')
    folder.put("environment.json", b"[]")
    attempt.finish({"result.json": b'{"metrics": {}}', "predictions.parquet": b"rows"})
    return folder


def test_a_finished_run_is_done(finished):
    assert finished.done
    assert finished.status() == "done"
    assert finished.result() == {"metrics": {}}
    assert finished.metrics() == [{"step": 1}]
    assert finished.last_attempt()["outcome"] == "done"


@pytest.mark.parametrize("name", VOUCHED)
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_file_that_changed_after_the_end_is_named(finished, name, how):
    data = finished.get(name)
    if how == "missing":
        finished.store.delete(f"{finished.key}/{name}")
    else:
        finished.put(name, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match=f"{name} changed after the run was finished. Restore it"):
        finished.status()


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b"[]", b"3", b"null"])
def test_a_broken_done_is_not_believed(finished, data):
    finished.put("DONE", data)
    with pytest.raises(ValueError, match="changed after the run was finished"):
        finished.status()


# Checkpoints


@pytest.fixture
def kept(store):
    """A run that keeps its steps 10 and 20."""
    spec = pretraining()
    folder = store.run(spec)
    for step in (10, 20):
        folder.put_checkpoint(step, {"model.safetensors": b"weights" * step, "config.json": b"{}"})
    return spec, folder


def spoil(file: Path, how: str) -> None:
    data = file.read_bytes()
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-3] if how == "truncated" else data[:5] + bytes([data[5] ^ 4]) + data[6:])


def test_a_whole_checkpoint_is_given(kept, store):
    spec, folder = kept
    assert store.checkpoint(spec.at(20)) == folder.path / "checkpoints/step_00000020"


@pytest.mark.parametrize("how", ["missing", "truncated", "flipped"])
@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_spoilt_checkpoint_is_refused_as_a_parent(kept, store, how, name):
    spec, folder = kept
    spoil(folder.path / "checkpoints" / step_name(20) / name, how)
    with pytest.raises(ValueError, match="no complete checkpoint at step 20; it keeps: 10"):
        store.checkpoint(spec.at(20))
    assert store.checkpoint(spec.at(10)).is_dir()


def test_a_checkpoint_exists_once_its_manifest_does(kept, store):
    spec, folder = kept
    folder.put("checkpoints/step_00000030/model.safetensors", b"half")
    assert folder.checkpoints() == [step_name(10), step_name(20)]
    folder.drop_checkpoint(step_name(20))
    folder.drop_checkpoint(step_name(10), "config.json")
    assert folder.checkpoints() == [step_name(10)]
    assert not (folder.path / "checkpoints" / step_name(10) / "config.json").exists()
    assert store.checkpoint(spec.at(10)).is_dir()


def test_a_missing_checkpoint_lists_those_there_are(kept, store):
    with pytest.raises(ValueError, match="no complete checkpoint at step 15; it keeps: 10, 20"):
        store.checkpoint(kept[0].at(15))
    with pytest.raises(ValueError, match="it keeps: none"):
        store.checkpoint(fine_tuning(init=Load(MODEL)).at(1))


def test_a_reinit_of_a_step_is_a_child_of_it(kept):
    spec, _ = kept
    child = fine_tuning(init=Reinit(spec.at(20), (0,), "bert", 0))
    assert child.parents() == (spec.at(20),)


def test_a_run_that_was_finished_meanwhile_is_not_done_again(still_bert, toy_task, tmp_path):
    spec = plm.finetune(toy_task, init=still_bert, size=8, duration=plm.steps(1), dtype="float32")
    folder = Store.at(tmp_path).run(spec)
    plm.train(spec, store=tmp_path)
    with pytest.raises(Busy, match="finished meanwhile"):
        folder.claim(spec)
    done = folder.get("DONE")
    folder.store.delete(f"{folder.key}/DONE")  # as if killed between the attempt's record and this
    record = folder.last_attempt()
    with pytest.raises(Busy):  # its holder, this process, lives: it is about to write it
        folder.claim(spec)
    record["holder"]["pid"], record["holder"]["ticks"] = 2**22 - 1, "0"
    folder.put("attempts/0001.json", json.dumps(record).encode())
    assert plm.train(spec, store=tmp_path).metrics
    assert folder.get("DONE") == done
    assert len(folder.attempts()) == 1
