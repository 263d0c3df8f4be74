"""`python -m plm`: exit statuses that a scheduler can act on, and a signal that costs nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import plm
from plm.__main__ import main
from plm.store import Store
from plm.train import train


@pytest.fixture(autouse=True)
def handlers():
    """The command installs its own; the test run keeps its."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def written(tmp_path):
    def write(spec) -> str:
        (tmp_path / "spec.json").write_text(spec.to_json())
        return str(tmp_path / "spec.json")

    return write


def test_done(finetune, written, tmp_path, capsys):
    spec = finetune()
    assert main([written(spec), "--store", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "val/accuracy 0." in out
    assert str(tmp_path / "runs/runs" / spec.run_id) in out
    assert Store.at(tmp_path / "runs").run(spec).done


@pytest.mark.parametrize(
    ("text", "said"), [("{", "not a run's spec.json"), ("{}", "not a run's spec.json"), (None, "No such file")]
)
def test_a_wrong_file_starts_nothing(tmp_path, capsys, text, said):
    if text is not None:
        (tmp_path / "spec.json").write_text(text)
    assert main([str(tmp_path / "spec.json"), "--store", str(tmp_path / "runs")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_wrong_store_starts_nothing(finetune, written, capsys):
    assert main([written(finetune()), "--store", "s3://bucket"]) == 2
    assert "object stores are not supported" in capsys.readouterr().err


def test_a_diverged_run(finetune, written, tmp_path, capsys):
    assert main([written(finetune(lr=1e30)), "--store", str(tmp_path)]) == 1
    assert "Diverged" in capsys.readouterr().err


def test_a_busy_run(finetune, written, tmp_path, capsys):
    spec = finetune()
    Store.at(tmp_path).run(spec).claim(spec)
    assert main([written(spec), "--store", str(tmp_path)]) == 1
    assert "is being trained by process" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_state_to_go_on_from(finetune, written, tmp_path, number, status):
    spec = finetune(duration=plm.steps(1500))
    process = subprocess.Popen(
        [sys.executable, "-m", "plm", written(spec), "--store", str(tmp_path / "parts")],
        cwd=Path(plm.__path__[0]).parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = Store.at(tmp_path / "parts").run(spec)
    deadline = time.time() + 120
    while not (folder.path / "environment.json").exists() and time.time() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert "the same call goes on from there" in said
    assert folder.status() == "interrupted"
    stopped = folder.last_attempt()["step"]
    assert 0 < stopped < 1500
    sums = [
        json.loads((train(spec, store=tmp_path / name).path / "result.json").read_text())["weights_sha256"]
        for name in ("parts", "whole")
    ]
    assert sums[0] == sums[1]
    assert folder.last_attempt()["from"] == stopped
