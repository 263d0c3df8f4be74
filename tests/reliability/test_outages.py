"""An MLflow server that is away for a while, and sometimes the driver with it: afterwards the view shows all, and all once."""

from __future__ import annotations

import math
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tracker import Server, shown

from sweeps.engine.tracking import main

pytestmark = [pytest.mark.xdist_group("mlflow"), pytest.mark.filterwarnings("ignore:The ``noload`` loader")]  # MLflow's

ROOT = Path(__file__).parents[2]
RUNS = 6
SECONDS = 12.0
"""About how long a sweep takes, and within which an outage begins."""


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
        pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(20_000)]),
    ],
)
def test_a_server_that_is_away(
    times: int, tiny_bert: str, toy_task: str, tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow puts the files of a database without a server below the current folder
    draw, server, away = random.Random(0), Server(tmp_path / "server", migrated), list[float]()
    words = [f"model={tiny_bert}", f"task={toy_task}", "size=24", "seed=0:2", "duration=steps:300", "--local"]
    server.start()
    try:
        for case in range(times):
            store, kill = tmp_path / str(case), case % 4 == 1
            sweep = start([*words, "--store", str(store), "--tracking-uri", server.uri], tmp_path / "said")
            time.sleep(draw.uniform(0, SECONDS / (2 if kill else 1)))
            server.stop()
            gone = time.monotonic()
            pause = math.exp(draw.uniform(math.log(0.1), math.log(30)))
            time.sleep(min(pause, SECONDS / 4) if kill else pause)
            if kill:
                assert sweep.poll() is None, "it had ended"
                sweep.kill()
                sweep.wait()
                sweep = start([*words, "--store", str(store), "--tracking-uri", server.uri], tmp_path / "said")
            server.start()
            away.append(time.monotonic() - gone)
            assert sweep.wait(180) == 0, (tmp_path / "said").read_text()
            assert main(["--store", str(store), "--tracking-uri", server.uri]) == 0
            anew = tmp_path / f"{case}.db"
            shutil.copy(migrated, anew)
            assert main(["--store", str(store), "--tracking-uri", f"sqlite:///{anew}"]) == 0
            view, whole = shown(server.uri, "reinit_grid"), shown(f"sqlite:///{anew}", "reinit_grid")
            assert len(view) == 1 + RUNS
            for sweep_of in (view, whole):
                del sweep_of["sweep"]["history"]  # how many runs were done at each sending
            assert view == whole
            server.stop()
            server = Server(tmp_path / f"server{case}", migrated)
            server.start()
    finally:
        server.stop()
    print(f"{times} outages of {min(away):.1f} to {max(away):.1f} s, {times // 4} with the driver killed meanwhile")


def start(words: list[str], said: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with said.open("wb") as output:
        command = [sys.executable, "-m", "sweeps.reinit_grid", *words]
        return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
