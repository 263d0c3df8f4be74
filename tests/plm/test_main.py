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
from plm.__main__ import Lines, main
from plm.store import Store
from plm.train import Execution, train


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
    assert main([written(finetune()), "--store", "gs://bucket"]) == 2
    assert "s3://bucket/prefix" in capsys.readouterr().err


def test_a_diverged_run(finetune, written, tmp_path, capsys):
    assert main([written(finetune(lr=1e30)), "--store", str(tmp_path)]) == 1
    assert "Diverged" in capsys.readouterr().err


def test_a_busy_run(finetune, written, tmp_path, capsys):
    spec = finetune()
    Store.at(tmp_path).run(spec).claim(spec)
    assert main([written(spec), "--store", str(tmp_path)]) == 1
    assert "is being trained by process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--keep", "0,1,...,5"], "doubling from 1 does not meet 5"),
        (["--keep", "0,9"], "step 9 is after the run's last, 4"),
        (["--device", "abacus"], "--device abacus"),
        (["--cpus", "0"], "a run needs at least 1"),
    ],
)
def test_a_wrong_flag_starts_nothing(pretrain, written, tmp_path, capsys, flags, said):
    assert main([written(pretrain()), "--store", str(tmp_path / "runs"), *flags]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_steps_to_keep(pretrain, written, tmp_path, capsys):
    spec = pretrain()
    assert main([written(spec), "--store", str(tmp_path), "--keep", "0,1,2,last", "--device", "cpu"]) == 0
    assert Store.at(tmp_path).run(spec).checkpoints() == [f"step_{step:08d}" for step in (0, 1, 2, 4)]
    err = capsys.readouterr().err
    assert "step 2 of 4  kept" in err
    assert "step 4 of 4  train/loss " in err


def test_progress_is_told_at_the_speed_so_far(monkeypatch, capsys):
    times = iter([100.0, 110.0, 160.0, 400.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    lines = Lines(1000)
    lines.report(100, {"train/loss": 9.87654}, None)
    lines.report(150, {"train/loss": 5.0}, None)
    lines.report(200, {}, Path("somewhere"))
    lines.report(250, {"val/loss": 4.5}, None)
    lines.report(1000, {"train/loss": 4.0, "val/loss": 3.0}, None)
    assert capsys.readouterr().err.splitlines() == [
        "step 100 of 1,000  train/loss 9.8765",
        "step 150 of 1,000  train/loss 5.0000  3 min left",
        "step 200 of 1,000  kept",
        "step 250 of 1,000  val/loss 4.5000  5 min left",
        "step 1,000 of 1,000  train/loss 4.0000  val/loss 3.0000",
    ]


@pytest.fixture
def trajectory(pretrain, tmp_path):
    """The folder of a run with four kept steps."""
    return train(pretrain(), store=tmp_path, execution=Execution(keep=(0, 1, 2, 3))).path


def test_the_audit_of_a_clean_trajectory(trajectory, capsys):
    assert main(["audit", str(trajectory)]) == 0
    table, said = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert [line.split()[0] for line in table.splitlines()] == ["step", "0", "1", "2", "3", "4"]
    assert said == f"audit of {trajectory.name}: 5 checkpoints, compared by weights: no defect."
    assert main(["audit", "--json", *map(str, sorted((trajectory / "checkpoints").iterdir()))]) == 0
    assert json.loads(capsys.readouterr().out)["clean"]


def test_the_audit_of_one_with_a_defect(trajectory, capsys):
    assert main(["audit", str(trajectory / "checkpoints"), "--steps", "0:6:2"]) == 1
    out = capsys.readouterr().out
    assert "missing: the schedule has it" in out
    assert "1 with defects" in out


@pytest.mark.parametrize(
    ("arguments", "said"), [(["/nowhere"], "there is no folder"), ([".", "--steps", "1:2"], "is not from:to:stride")]
)
def test_a_wrong_audit(arguments, said, capsys):
    assert main(["audit", *arguments]) == 2
    assert said in capsys.readouterr().err


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
