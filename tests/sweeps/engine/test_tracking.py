"""The view against a real SQLite file and a real server: nothing missing, nothing twice, whatever dies in between."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tracker import Server, client, shown, until

from plm.data.corpus import Corpus
from plm.data.examples import Examples
from plm.data.files import Files
from plm.duration import epochs, steps
from plm.inits.reinit import Reinit
from plm.inits.scratch import Scratch
from plm.models.bert import Bert
from plm.objectives.classify import Classify
from plm.objectives.mlm import MaskedLM
from plm.spec import AdamW, Checkpoint, External, RunSpec, Seeds
from plm.store import Store
from plm.tasks import Task
from sweeps.engine.mlflow_view import PushReport
from sweeps.engine.shown import redact
from sweeps.engine.tracking import Pusher, main, push

pytestmark = [pytest.mark.xdist_group("mlflow"), pytest.mark.filterwarnings("ignore:The ``noload`` loader")]  # MLflow's

LINES = 6
BERT = Bert(
    vocab_size=300,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=32,
    dropout=0.0,
)
TASK = Task(rows="cd" * 32, num_labels=2, metrics=("accuracy",), counts=(100, 50), name="sst2", path="/home/me/sst2")


# ---------------------------------------------------------------------------------------------------------------------
# A store, filled by hand


def pretraining() -> RunSpec:
    vocabulary = External(files=(("tokenizer.json", "ab" * 32),), path="/home/me/tokenizer", name="a-tokenizer")
    paths = (("/home/me/a.txt",), ("/home/me/b.txt",))
    text = Files(train=("12" * 32,), validation=("34" * 32,), paths=paths, name="text")
    return RunSpec(
        objective=MaskedLM(),
        init=Scratch(BERT),
        data=Corpus(text, vocabulary),
        optim=AdamW(1e-4, 0.01),
        duration=steps(100),
        batch_size=8,
        seq_len=32,
        dtype="float32",
        seeds=Seeds(0, 0, 0),
    )


def finetuning(size: int, seed: int) -> RunSpec:
    init = Reinit(Checkpoint(pretraining(), 100), (1,), scheme="bert", seed=seed, bias="keep", layer_norm="reset")
    return RunSpec(
        objective=Classify(2),
        init=init,
        data=Examples(TASK, size, seed),
        optim=AdamW(5e-5, 0.0),
        duration=epochs(3),
        batch_size=8,
        seq_len=32,
        dtype="float32",
        seeds=Seeds(seed, seed, seed),
    )


def lines(count: int, began: float) -> bytes:
    """Training metrics at steps 10, 20, ...; an evaluation beside every third."""
    written = []
    for i in range(1, count + 1):
        common = {"step": 10 * i, "train/tokens": 320 * i}
        written.append(common | {"time": began + i, "train/loss": 1 / i, "train/lr": 1e-5})
        if i % 3 == 0:
            written.append(common | {"time": began + i + 0.5, "val/loss": 2 / i, "val/score": 1 - 1 / i})
    return "".join(json.dumps(line) + "\n" for line in written).encode()


VALUES = 3 * LINES + 2 * (LINES // 3)
"""Metric values of `lines(LINES)`: tokens, loss and rate a step, loss and score an evaluation."""


def begin(store: Store, spec: RunSpec, count: int = LINES, began: float = 1e9) -> Any:
    """A run in the making, held by this process."""
    folder = store.run(spec)
    attempt = folder.claim(spec)
    here = {"device": "cpu: a processor", "threads": 1, "python": "3.11", "versions": {"torch": "2.13.0"}}
    folder.put("environment.json", json.dumps([here]).encode())
    folder.put("metrics.jsonl", lines(count, began))
    return attempt


def finish(store: Store, spec: RunSpec, **began: float) -> None:
    attempt = begin(store, spec, **began)  # type: ignore[arg-type]
    result = {"metrics": {"val/score": 1 - 1 / LINES}, "notes": [], "steps": 10 * LINES, "seconds": 12.5, "flops": 1e12}
    attempt.finish({"result.json": json.dumps(result).encode(), "predictions.parquet": b"rows"})


def fail(store: Store, spec: RunSpec) -> None:
    attempt = begin(store, spec, 2)
    attempt.folder.put("error.txt", b"Traceback ...\nOSError: http://me:hunter2@there/x is gone")
    attempt.end("failed", error="OSError: http://me:hunter2@there/x is gone")


def ask(store: Store, sweep: str, cells: dict[tuple[int, int], RunSpec]) -> None:
    points = [
        {"run_id": spec.run_id, "point": {"task": "sst2", "size": str(size), "seed": str(seed)}}
        for (size, seed), spec in cells.items()
    ]
    document = {"name": sweep, "metric": "val/score", "axes": ["task", "size", "seed"], "cells": points}
    store.put(f"sweeps/{sweep}/sweep.json", json.dumps(document).encode())


def figure() -> bytes:
    from matplotlib.figure import Figure

    drawn, sink = Figure(), io.BytesIO()
    drawn.subplots().plot([1, 2, 3], [0.5, 0.7, 0.8])
    drawn.savefig(sink)
    return sink.getvalue()


def filled(root: Path, sweep: str = "question", sizes: tuple[int, ...] = (20, 40), seeds: int = 2) -> Store:
    """A finished sweep with its parent, table and figure."""
    store = Store.at(root)
    cells = {(size, seed): finetuning(size, seed) for size in sizes for seed in range(seeds)}
    ask(store, sweep, cells)
    for spec in (pretraining(), *cells.values()):
        if store.run(spec).status() != "done":
            finish(store, spec)
    store.put(f"sweeps/{sweep}/table.md", b"| size | score |\n|---|---|\n| 20 | 0.83 |\n")
    store.put(f"sweeps/{sweep}/figures/bert-sst2/curve.png", figure())
    return store


# ---------------------------------------------------------------------------------------------------------------------
# What a server holds


def database(store: Store) -> str:
    return f"sqlite:///{store.root}/mlflow.db"


@pytest.fixture
def store(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A finished sweep of four cells, with an empty database beside it."""
    monkeypatch.chdir(tmp_path)
    filled(tmp_path / "runs")
    shutil.copy(migrated, tmp_path / "runs" / "mlflow.db")
    return Store.at(tmp_path / "runs")


@pytest.fixture
def server(tmp_path: Path, migrated: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server", migrated)
    made.start()
    yield made
    made.stop()


# ---------------------------------------------------------------------------------------------------------------------
# What is shown


def test_a_sweep_is_a_parent_run_and_its_runs_are_children(store: Store) -> None:
    report = push(store, None)
    assert report == PushReport(runs=5, changed=5, values=5 * (VALUES + 2))
    view = shown(database(store))
    spec = finetuning(40, 1)
    child = view[spec.run_id]
    assert child["status"] == "FINISHED"
    assert child["name"] == "40 seed=1"
    assert child["data"] == [("sst2", "cdcdcdcdcdcd", "local")]
    axes = {"task": "sst2", "size": "40", "seed": "1"}
    assert axes.items() <= child["params"].items()
    assert axes.items() <= child["tags"].items()
    assert child["params"]["spec.optim.lr"] == "5e-05"
    assert child["params"]["spec.data.stratified"] == "False"
    assert child["params"]["spec.init.origin"] == f"{pretraining().run_id} step 100"
    assert child["history"]["val/score"] == [(30, int(1e12) + 3500, 1 - 1 / 3), (60, int(1e12) + 6500, 1 - 1 / 6)]
    assert child["history"]["work/seconds"][0][2] == 12.5
    parent = view[pretraining().run_id]
    assert parent["tags"]["role"] == "parent"
    assert parent["name"] == f"parent {pretraining().run_id}"
    sweep = view["sweep"]
    assert sweep["status"] == "FINISHED"
    assert sweep["name"] == "question"
    assert [sweep["history"][f"work/runs_{k}"][-1][2] for k in ("done", "failed", "asked")] == [5, 0, 5]
    assert sweep["tags"]["mlflow.note.content"].startswith("| size | score |")


def test_table_and_figures_are_artifacts_of_the_parent(store: Store) -> None:
    push(store, None)
    figures = list((store.root / "mlflow-artifacts" / "question").rglob("curve.png"))
    assert [f.read_bytes() for f in figures] == [store.get("sweeps/question/figures/bert-sst2/curve.png")]
    store.put("sweeps/question/table.md", b"another")
    push(store, None)
    assert [f.read_bytes() for f in (store.root / "mlflow-artifacts").rglob("table.md")] == [b"another"]
    assert not list(Path.cwd().glob("ml*")), "MLflow wrote into the working directory"


def test_nothing_is_shown_of_where_things_lie_or_who_made_them(store: Store) -> None:
    push(store, None)
    text = json.dumps(shown(database(store)))
    for secret in ("/home/me", str(store.root), socket.gethostname(), "mlflow.source"):
        assert secret not in text


def test_a_failed_run_is_shown_with_its_error_and_then_with_its_success(store: Store) -> None:
    spec = finetuning(60, 0)
    ask(store, "question", {(20, 0): finetuning(20, 0), (60, 0): spec, (80, 0): finetuning(80, 0)})
    fail(store, spec)
    push(store, None)
    view = shown(database(store))
    assert view[spec.run_id]["status"] == view["sweep"]["status"] == "FAILED"
    assert view[spec.run_id]["tags"]["error"] == "OSError: http://***@there/x is gone"
    assert "Traceback" in view[spec.run_id]["tags"]["mlflow.note.content"]
    assert "hunter2" not in json.dumps(view)
    assert "1 missing" in view["sweep"]["tags"]["status"]
    finish(store, spec)
    push(store, None)
    view = shown(database(store))
    assert view[spec.run_id]["status"] == "FINISHED"
    assert view[spec.run_id]["tags"]["error"] == ""
    assert view["sweep"]["status"] == "KILLED"  # one cell was never run


def test_a_shared_run_appears_under_each_sweep(store: Store) -> None:
    ask(store, "other", {(20, 0): finetuning(20, 0)})
    assert push(store, None).runs == 5 + 2
    for sweep in ("question", "other"):
        assert finetuning(20, 0).run_id in shown(database(store), sweep)


def test_a_run_that_answers_two_cells_has_the_labels_of_both(store: Store) -> None:
    spec = finetuning(20, 0)
    ask(store, "question", {(20, 0): spec, (40, 0): spec})
    push(store, None)
    assert shown(database(store))[spec.run_id]["params"]["size"] == "20 or 40"


@pytest.mark.parametrize("which", [0, 1])
def test_a_run_whose_files_were_changed_is_told_and_the_others_are_shown(store: Store, which: int) -> None:
    spec = (finetuning(20, 0), pretraining())[which]
    store.run(spec).put("result.json", b"{}")
    report = push(store, None)
    assert report.runs == 4
    assert len(report.problems) == 1
    assert f"{spec.run_id}: " in report.problems[0]
    assert "result.json changed" in report.problems[0]


def test_more_than_one_request_holds_arrives_whole(store: Store) -> None:
    spec = finetuning(60, 0)
    ask(store, "question", {(60, 0): spec})
    begin(store, spec, 700)
    push(store, None)
    history = shown(database(store))[spec.run_id]["history"]
    assert {key: len(values) for key, values in history.items()} == {
        "train/tokens": 700,
        "train/loss": 700,
        "train/lr": 700,
        "val/loss": 233,
        "val/score": 233,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Nothing twice, nothing missing


def test_pushing_again_changes_nothing(store: Store) -> None:
    push(store, None)
    before = shown(database(store))
    assert push(store, None) == PushReport(runs=5)
    assert shown(database(store)) == before


def test_a_crash_between_the_values_and_the_tag_doubles_nothing(store: Store) -> None:
    push(store, None)
    before = shown(database(store))
    server = client(database(store))
    for run in server.search_runs([server.get_experiment_by_name("question").experiment_id]):
        server.delete_tag(run.info.run_id, "plm.state")
    assert push(store, None).changed == 5
    assert shown(database(store)) == before


def test_a_growing_run_sends_its_new_lines_only(store: Store) -> None:
    spec = finetuning(60, 0)
    ask(store, "question", {(60, 0): spec})
    attempt = begin(store, spec, 4)
    assert push(store, None).values == (VALUES + 2) + (3 * 4 + 2)
    view = shown(database(store))
    assert view[spec.run_id]["status"] == view["sweep"]["status"] == "RUNNING"
    attempt.folder.put("metrics.jsonl", lines(6, 1e9))
    assert push(store, None).values == 3 * 2 + 2
    attempt.end("stopped")
    push(store, None)
    assert shown(database(store))[spec.run_id]["status"] == "KILLED"


def test_steps_that_a_resumed_run_repeats_are_not_doubled(store: Store) -> None:
    spec = finetuning(60, 0)
    ask(store, "question", {(60, 0): spec})
    begin(store, spec, 5).end("stopped")
    push(store, None)
    finish(store, spec, began=2e9)  # from an older checkpoint: the same steps at other times
    push(store, None)
    history = shown(database(store))[spec.run_id]["history"]["train/loss"]
    assert [step for step, _, _ in history] == [10, 20, 30, 40, 50, 60]
    assert {ms // 10**12 for _, ms, _ in history} == {2}


def test_the_view_is_rebuilt_from_the_store(store: Store, migrated: Path) -> None:
    push(store, None)
    before = shown(database(store))
    shutil.copy(migrated, store.root / "mlflow.db")
    shutil.rmtree(store.root / "mlflow-artifacts")
    push(store, None)
    assert shown(database(store)) == before


def test_two_at_once_show_each_run_once(store: Store) -> None:
    command = [sys.executable, "-m", "sweeps.engine.tracking", "--store", str(store.root)]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(shown(database(store))) == 6


def test_a_view_that_was_doubled_heals(store: Store) -> None:
    push(store, None)
    before = shown(database(store))
    server = client(database(store))
    experiment = server.get_experiment_by_name("question").experiment_id
    for run in server.search_runs([experiment]):  # as if every answer had been lost
        server.create_run(experiment, int(2e12), {k: v for k, v in run.data.tags.items() if k != "plm.state"})
    push(store, None)
    assert shown(database(store)) == before


def test_a_killed_pusher_leaves_nothing_missing(tmp_path: Path, migrated: Path) -> None:
    store = filled(tmp_path / "runs", sizes=tuple(range(10, 90, 4)))
    shutil.copy(migrated, store.root / "mlflow.db")
    command = [sys.executable, "-m", "sweeps.engine.tracking", "--store", str(store.root)]
    for runs in (3, 12, 24):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(
            lambda runs=runs: (
                len(client(database(store)).search_runs(["1"])) > runs  # type: ignore[misc]
                if client(database(store)).get_experiment_by_name("question")
                else False
            )
        )
        process.kill()
        process.wait()
    push(store, None)
    view = shown(database(store))
    assert len(view) == 1 + 1 + 40
    assert all(len(run["history"]["train/loss"]) == LINES for name, run in view.items() if name != "sweep")


# ---------------------------------------------------------------------------------------------------------------------
# Beside a sweep


def test_a_pusher_shows_a_sweep_while_it_runs(store: Store) -> None:
    spec = finetuning(60, 0)
    ask(store, "question", {(60, 0): spec, (20, 0): finetuning(20, 0)})
    pusher = Pusher(store, None, "question")
    until(lambda: pusher._state == "pushed")
    assert shown(database(store))["sweep"]["status"] == "RUNNING"
    finish(store, spec)
    assert pusher.close() is None
    view = shown(database(store))
    assert view["sweep"]["status"] == view[spec.run_id]["status"] == "FINISHED"


def test_a_dead_server_costs_a_sweep_nothing(store: Store) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    pusher = Pusher(store, f"http://me:hunter2@127.0.0.1:{port}", "question")
    started = time.monotonic() - began
    assert started < 0.2
    until(lambda: pusher._state == "away")
    began = time.monotonic()
    message = pusher.close()
    assert time.monotonic() - began < 0.5
    assert message is not None
    assert f"http://***@127.0.0.1:{port} does not answer" in message
    assert f"python -m sweeps.engine.tracking --store {store.root}" in message
    assert "hunter2" not in message


def test_a_server_that_accepts_and_never_answers_costs_no_more(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pusher = Pusher(store, f"http://127.0.0.1:{silent.getsockname()[1]}", "question")
        until(lambda: pusher._state == "asking")
        began = time.monotonic()
        assert "does not answer" in (pusher.close() or "")
        assert time.monotonic() - began < 1


def test_the_pusher_ends_with_a_killed_engine_and_pushes_what_is_there(store: Store) -> None:
    engine = (
        "import sys, time; from sweeps.engine.tracking import Pusher\n"
        "print(Pusher(sys.argv[1], None, 'question')._process.pid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", engine, str(store.root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    until(lambda: not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")
    assert shown(database(store))["sweep"]["status"] == "FINISHED"


@pytest.mark.slow
def test_a_server_stopped_in_mid_sweep_and_started_later(
    store: Store, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = {(size, 0): finetuning(size, 0) for size in range(50, 60)}
    ask(store, "question", cells)
    pusher = Pusher(store, server.uri, "question")
    specs = list(cells.values())
    for spec in specs[:4]:
        finish(store, spec)
    until(lambda: pusher._state == "pushed")
    server.stop()
    for spec in specs[4:7]:
        finish(store, spec)
    until(lambda: pusher._state == "away")
    server.start()
    until(lambda: pusher._state == "pushed")
    assert len(shown(server.uri)) == 1 + 1 + 7
    for spec in specs[7:]:
        finish(store, spec)
    server.stop()
    began = time.monotonic()
    message = pusher.close()
    assert time.monotonic() - began < 1
    assert message
    server.start()
    assert main(["--store", str(store.root), "--tracking-uri", server.uri]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    view = shown(server.uri)
    assert len(view) == 1 + 1 + 10
    assert view["sweep"]["status"] == "FINISHED"
    assert all(len(run["history"]["train/loss"]) == LINES for name, run in view.items() if name != "sweep")
    figures = client(server.uri).list_artifacts(
        next(r for r in client(server.uri).search_runs(["1"]) if r.data.tags["role"] == "sweep").info.run_id,
        "figures/bert-sst2",
    )
    assert [f.path for f in figures] == ["figures/bert-sst2/curve.png"]


# ---------------------------------------------------------------------------------------------------------------------
# The command line


def test_the_command_says_what_it_did(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--store", str(store.root), "--sweep", "question"]) == 0
    assert capsys.readouterr().out.startswith("5 runs shown, 5 of them sent")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--store", "nowhere"], "there is none"),
        (["--store", "runs", "--sweep", "../x"], "no sweep ../x; it has: question"),
        (
            ["--store", "runs", "--tracking-uri", "http://me:hunter2@127.0.0.1:9"],
            r"http://***@127.0.0.1:9 does not answer",
        ),
    ],
)
def test_a_wrong_command_exits_2_with_one_line(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "hunter2" not in error


def test_what_is_no_tracking_server_is_told_in_one_line(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        assert main(["--store", str(store.root), "--tracking-uri", f"http://127.0.0.1:{other.server_port}"]) == 2
        other.shutdown()
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("the tracking server")]
    assert len(error) == 1
    assert "refused" in error[0]


def test_help_answers_without_mlflow() -> None:
    code = (
        "import sys; from sweeps.engine.tracking import main\n"
        "try: main(['--help'])\nfinally: assert 'mlflow' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://me:secret@host/x", "http://***@host/x"),
        ("postgresql+psycopg2://me:se/cret@host:5432/db", "postgresql+psycopg2://***@host:5432/db"),
        ("http://me:p@ss@host", "http://***@host"),
        ("see https://host/x and mail a@b.c", "see https://host/x and mail a@b.c"),
    ],
)
def test_redact(text: str, clean: str) -> None:
    assert redact(text) == clean
