"""A disk that is full at some moment of a sweep: what is there is whole, the reason is said, and with room again it goes on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from answered import results
from tiny import SIZES

import plm
from plm.store import RunFolder
from search_spaces.axis import numbers
from search_spaces.seeds import seeds
from sweeps.engine import launch
from sweeps.engine.sweep import Curve, Sweep

CASES = 12
ROOM = 16 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be made here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def question(tiny_bert: str, toy_task: str, toy_corpus: str) -> Sweep:
    """A pretraining of six steps with two checkpoints, and a fine-tuning from each."""

    def run(*, step: int, seed: int) -> plm.RunSpec:
        parent = plm.pretrain(
            plm.Bert(**SIZES, dropout=0.1),
            toy_corpus,
            vocabulary=tiny_bert,
            duration=plm.steps(6),
            batch_size=8,
            seq_len=16,
            lr=1e-3,
        )
        return plm.finetune(toy_task, init=parent.at(step), size=16, seed=seed, duration=plm.steps(2))

    return Sweep(
        run,
        over={"step": numbers(2, 4, form="a step"), "seed": seeds(1)},
        baseline=lambda cell: cell,
        arms=("step",),
        curve=Curve(axis="step", position=float, label="step", line="step"),
    )


def ask(sweep: Sweep, store: Path) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        status = launch.main(sweep, ["--store", str(store), "--local"])
    return status, said.getvalue()


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def fill(disk: Path, free: int) -> Path:
    """Leave so many bytes."""
    stat = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(bytes(max(0, stat.f_bavail * stat.f_frsize - free)))
    return filler


def test_a_full_disk_loses_nothing(disk: Path, question: Sweep, tmp_path: Path) -> None:
    assert ask(question, tmp_path / "quiet")[0] == 0
    needed = size(tmp_path / "quiet")
    refused = 0
    for case in range(CASES):
        store = disk / str(case)
        filler = fill(disk, needed * case // CASES)
        status, said = ask(question, store)
        assert "Traceback" not in said, said
        assert status in (0, 1, 2), said
        assert (status == 0) or "No space left" in said, said
        refused += status != 0
        for run in sorted(store.glob("runs/*")):
            folder = RunFolder(plm.Store.at(store), run.name)
            assert all(folder.verify_checkpoint(name) for name in folder.checkpoints())
        filler.unlink()
        status, said = ask(question, store)
        assert status == 0, said
        assert results(store, "test_disk") == results(tmp_path / "quiet", "test_disk")
        for run in store.glob("runs/*"):
            outcomes = [json.loads(file.read_text())["outcome"] for file in run.glob("attempts/*.json")]
            assert outcomes.count("done") == 1, outcomes
        subprocess.run(["rm", "-r", store], check=True)
    assert refused > CASES / 2
