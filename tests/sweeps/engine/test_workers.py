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

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("ray")]

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
    over={{"step": numbers(200, form="a step"), "seed": seeds(1)}},
    baseline=lambda cell: cell,
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


def test_a_killed_worker_is_replaced_and_the_numbers_are_the_same(question: list[str], tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}
    asked = subprocess.Popen(
        [*question, str(tmp_path)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        while not list(tmp_path.glob("runs/mlm-*/checkpoints/step_00000200/manifest.json")):
            assert asked.poll() is None, asked.communicate()[0]
            time.sleep(0.02)
        parent = next(tmp_path.glob("runs/mlm-*"))
        holder = json.loads(next((parent / "attempts").iterdir()).read_text())["holder"]
        os.kill(holder["pid"], signal.SIGKILL)
        said, _ = asked.communicate(timeout=380)
    finally:
        asked.kill()
    assert asked.returncode == 0, said
    attempts = [json.loads(path.read_text()) for path in sorted((parent / "attempts").iterdir())]
    assert [attempt["outcome"] for attempt in attempts] == [None, "done"]
    assert attempts[1]["from"] >= 200
    assert {e["workers"] for e in json.loads((parent / "environment.json").read_text())} == {2}
    assert not (tmp_path / "scratch").exists()
    # The same run in a group of two that nothing happened to, without Ray.
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "plm"]
    whole = [sys.executable, *words, str(tmp_path / "spec.json"), "--store", str(tmp_path / "whole")]
    (tmp_path / "spec.json").write_text((parent / "spec.json").read_text())
    subprocess.run(whole, env=environment, check=True, capture_output=True, cwd=ROOT, timeout=200)
    sums = [json.loads((path / "result.json").read_text()) for path in (parent, tmp_path / "whole/runs" / parent.name)]
    assert sums[0]["weights_sha256"] == sums[1]["weights_sha256"]
    assert sums[0]["metrics"] == sums[1]["metrics"]
