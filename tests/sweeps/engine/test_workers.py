"""Runs that several processes train together under Ray Train, and one of them that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plm.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.xdist_group("ray")]

ROOT = Path(__file__).parents[3]
QUESTION = '''
"""When is the first word learned?"""
import sys

import plm
from search_spaces.axis import numbers
from search_spaces.seeds import seeds
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Curve, Sweep

MODEL, TASK, TEXT = {places!r}
BERT = plm.Bert(
    vocab_size=45, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
    max_position_embeddings=32, dropout=0.1,
)


def run(*, step, seed):
    parent = plm.pretrain(BERT, TEXT, vocabulary=MODEL, duration=plm.steps(900), batch_size=8, seq_len=16, lr=1e-3)
    return plm.finetune(TASK, init=parent.at(step), size=16, seed=seed, duration=plm.steps(2))


sweep = Sweep(
    run,
    over={{"step": numbers(200, 900, form="a step"), "seed": seeds(1)}},
    baseline=lambda cell: cell | {{"step": 900}},
    arms=("step",),
    curve=Curve(axis="step", position=float, label="step", line="step"),
)
launch(sweep)
'''


@pytest.fixture(scope="module")
def question(encoder: str, toy: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words that ask when a pretraining run of two workers has learned something."""
    folder = tmp_path_factory.mktemp("question")
    rows = [json.loads(line)["sentence"] for line in (Path(toy) / "train.jsonl").read_text().splitlines()]
    text = folder / "text"
    text.mkdir()
    for split in ("train", "validation"):
        (text / f"{split}.txt").write_text("\n".join(rows))
    (folder / "learned.py").write_text(QUESTION.format(places=(encoder, toy, str(text))))
    return [sys.executable, str(folder / "learned.py"), "--workers", "2", "--store"]


def ask(words: list[str], store: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}
    return subprocess.Popen(
        [*words, str(store)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def parent_of(store: Path) -> Path:
    return next(path for path in (store / "runs").iterdir() if path.name.startswith("mlm-"))


def test_a_killed_worker_is_replaced_and_the_numbers_are_the_same(question: list[str], tmp_path: Path) -> None:
    whole = ask(question, tmp_path / "whole")
    said, _ = whole.communicate(timeout=300)
    assert whole.returncode == 0, said
    hurt = ask(question, tmp_path / "hurt")
    while not list(tmp_path.glob("hurt/runs/mlm-*/checkpoints/step_00000200/manifest.json")):
        assert hurt.poll() is None, hurt.communicate()[0]
        time.sleep(0.02)
    attempt = next((parent_of(tmp_path / "hurt") / "attempts").iterdir())
    os.kill(json.loads(attempt.read_text())["holder"]["pid"], signal.SIGKILL)
    said, _ = hurt.communicate(timeout=300)
    assert hurt.returncode == 0, said
    attempts = [json.loads(a.read_text()) for a in sorted((parent_of(tmp_path / "hurt") / "attempts").iterdir())]
    assert [a["outcome"] for a in attempts] == [None, "done"]
    assert attempts[1]["from"] >= 200
    sums = [
        {
            run.name: json.loads((run / "result.json").read_text())["weights_sha256"]
            for run in (store / "runs").iterdir()
        }
        for store in (tmp_path / "whole", tmp_path / "hurt")
    ]
    assert sums[0] == sums[1]
    assert len(sums[0]) == 3
    environment = json.loads((parent_of(tmp_path / "hurt") / "environment.json").read_text())
    assert {e["workers"] for e in environment} == {2}
    assert Store.at(tmp_path / "hurt").list("scratch") == []
