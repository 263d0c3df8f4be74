"""A run trained by several processes: the numbers of one, and the same bits each time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import plm
from plm.parallel import Group, rounds
from plm.store import Store
from plm.train import Execution, train

ROOT = Path(__file__).parents[2]
WORKER = """
import json, sys
from plm.parallel import joined
from plm.spec import RunSpec
from plm.train import Execution, Stopped, train
from tiny import stop_after

with joined("cpu"):
    for document, store, stop, options in json.loads(sys.argv[1]):
        try:
            train(
                RunSpec.from_json(open(document).read()),
                store=store,
                execution=Execution(**options),
                should_stop=stop_after(stop),
            )
        except Stopped:
            pass
"""


def together(calls, folder, workers=2):
    """Train in a group of processes, as torchrun starts them: calls of (spec, store, steps until the stop, options)."""
    words = []
    for number, (spec, store, stop, options) in enumerate(calls):
        (folder / f"{number}.json").write_text(spec.to_json())
        words.append([str(folder / f"{number}.json"), str(store), stop, options])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(workers),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "OMP_WAIT_POLICY": "passive",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    command = [sys.executable, "-c", WORKER, json.dumps(words)]
    processes = [
        subprocess.Popen(command, env=known | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE)
        for rank in range(workers)
    ]
    said = [process.communicate(timeout=200)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * workers, "\n".join(said)[-3000:]


def numbers(spec, store):
    """What a run came by: final weights, metrics, and its lines but for time and speed."""
    folder = Store.at(store).run(spec)
    lines = [{k: v for k, v in line.items() if k != "time" and not k.startswith("speed/")} for line in folder.metrics()]
    return folder.result()["weights_sha256"], folder.result()["metrics"], lines


@pytest.fixture(scope="module")
def runs(pretrain, finetune):
    """A pretraining run without dropout, and a fine-tuning run (with dropout) whose last batch of an epoch is odd."""
    seven = plm.steps(7)
    return [pretrain(dropout=0.0, duration=seven), finetune(size=21, batch_size=4, duration=seven)]


NEVER = 10**9


@pytest.fixture(scope="module")
def trained(runs, tmp_path_factory):
    """Stores of runs trained by one process, by two, by two that stopped after every step, and by two with shards."""
    folder = tmp_path_factory.mktemp("together")
    pretraining, _ = runs
    for spec in runs:
        train(spec, store=folder / "one")
    whole = [(spec, folder / "two", NEVER, {}) for spec in runs]
    parts = [(spec, folder / "parts", stop, {}) for spec in runs for stop in [1] * 6 + [NEVER]]
    sharded = [(pretraining, folder / "sharded", stop, {"shard": True}) for stop in (2, 2, NEVER)]
    together([*whole, *parts, *sharded, (pretraining, folder / "alone", 3, {"shard": True})], folder)
    train(pretraining, store=folder / "alone")
    return folder


def assert_close(one, other):
    for alone, shared in zip(one[2], other[2], strict=True):
        assert shared == pytest.approx(alone, rel=1e-4)


def test_two_processes_train_what_one_does(runs, trained):
    """To rounding; fine-tuning drops out differently, so it is only held to end."""
    pretraining, fine_tuning = runs
    assert_close(*(numbers(pretraining, trained / name) for name in ("one", "two")))
    assert Store.at(trained / "two").run(fine_tuning).done
    environment = json.loads(Store.at(trained / "two").run(pretraining).get("environment.json"))
    assert environment[0]["workers"] == 2


def test_two_processes_resume_exactly(runs, trained):
    for spec in runs:
        assert numbers(spec, trained / "parts") == numbers(spec, trained / "two")
        attempts = Store.at(trained / "parts").run(spec).attempts()
        assert [a["outcome"] for a in attempts] == ["stopped"] * 6 + ["done"]
        assert [a["from"] for a in attempts] == [0, 1, 2, 3, 4, 5, 6]


def test_sharded_weights_train_the_same(runs, trained):
    """FSDP, stopped and gone on from, also by one process alone: the checkpoint is the same whoever wrote it."""
    pretraining, _ = runs
    for name in ("sharded", "alone"):
        assert_close(numbers(pretraining, trained / "one"), numbers(pretraining, trained / name))


# Who takes what


@given(st.integers(1, 40), st.integers(1, 5), st.none() | st.integers(1, 9))
def test_every_sequence_is_trained_once(size, workers, micro_batch):
    batch = {"input_ids": torch.arange(size)[:, None]}
    shares = [Group(rank, workers).parts(batch, micro_batch) for rank in range(workers)]
    assert len({len(share) for share in shares}) == 1
    taken = [int(i) for share in shares for piece, counted in share if counted for i in piece["input_ids"]]
    assert sorted(taken) == list(range(size))
    assert all(1 <= len(piece["input_ids"]) <= (micro_batch or size) for share in shares for piece, _ in share)


@given(st.integers(1, 20), st.integers(1, 5))
def test_every_batch_is_evaluated_once(count, workers):
    shares = [rounds(list(range(count)), Group(rank, workers)) for rank in range(workers)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(item for share in shares for item, counted in share if counted) == list(range(count))


def test_gradients_of_parts_add_up_to_those_of_the_batch(runs, tmp_path):
    train(runs[0], store=tmp_path / "whole")
    train(runs[0], store=tmp_path / "parts", execution=Execution(micro_batch=3))
    (whole, parts) = (numbers(runs[0], tmp_path / name) for name in ("whole", "parts"))
    for one, other in zip(whole[2], parts[2], strict=True):
        assert other == pytest.approx(one, rel=1e-4)


@pytest.mark.slow
def test_torchrun_trains_a_spec(runs, tmp_path):
    (tmp_path / "spec.json").write_text(runs[0].to_json())
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "plm"]
    command = [sys.executable, *words, str(tmp_path / "spec.json"), "--store", str(tmp_path / "store")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.count("val/loss") == 1
    environment = json.loads(Store.at(tmp_path / "store").run(runs[0]).get("environment.json"))
    assert environment[0]["workers"] == 2
