"""The command line: its flags are frozen, wrong words answer fast with status 2, and nothing is started by them."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from plm import RunSpec, Store, train
from plm.data import corpus
from plm.spec import AdamW
from sweeps.engine import cost, launch
from sweeps.engine.plan import plan
from sweeps.engine.sweep import Sweep
from sweeps.engine.worker import Resources
from sweeps.reinit_grid import sweep as reinit_grid

FLAGS = {
    "--help",
    "--store",
    "--tracking-uri",
    "--address",
    "--cpus",
    "--gpus",
    "--max-concurrent",
    "--num-trials",
    "--shard",
    "--state",
    "--keep-weights",
    "--live",
    "--follow",
    "--dry-run",
    "--rate",
    "--smoke",
    "--local",
    "--table",
    "--workers",
}


def call(question: Sweep, store: Store, *words: str) -> int:
    return launch.main(question, ["--store", str(store.root), *words])


def test_the_flags_are_these(question: Sweep) -> None:
    options = {o for action in launch.parser(question)._actions for o in action.option_strings if o.startswith("--")}
    assert options == FLAGS, "a flag is a promise to every sweep's users: change DESIGN's contract first"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sizes=3"], "unknown axis 'sizes'"),
        (["3"], "not of the form axis=values"),
        (["seed=0", "seed=1"], "given twice"),
        (["mask=0111"], "write 2 characters"),
        (["task=nowhere"], "unknown task 'nowhere'"),
        (["task=./nowhere"], "no file or folder"),
        (["model=./nowhere"], "no folder"),
        (["--gpus", "1", "--local"], "this machine has"),
        (["--cpus", "4096", "--local"], "4096 CPUs"),
        (["--workers", "2", "--gpus", "0.5"], "two of them cannot share one"),
        (["--local", "--max-concurrent", "2"], "one trial at a time: leave it out for --max-concurrent 2"),
    ],
)
def test_a_wrong_command_ends_with_2_and_leaves_nothing(
    question: Sweep, store: Store, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert call(question, store, *words) == 2
    assert message in capsys.readouterr().err
    assert not store.root.exists()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, encoder: str) -> Callable[..., str]:
    """Saves a small model of a family, with the tokenizer of the tiny encoder."""
    import transformers

    def saved(name: str, **sizes: int) -> str:
        place = tmp_path_factory.mktemp("models") / name.lower()
        model = getattr(transformers, name)
        model(model.config_class(vocab_size=45, d_model=32, **sizes)).save_pretrained(place)
        for file in Path(encoder).glob("*token*"):
            (place / file.name).write_bytes(file.read_bytes())
        return str(place)

    return saved


@pytest.mark.parametrize("head", ["T5ForConditionalGeneration", "T5EncoderModel"])
@pytest.mark.parametrize("words", [["mask=none"], ["mask=01"], ["mask=01", "--dry-run"]])
def test_a_model_without_one_list_of_layers_is_refused(
    question: Sweep,
    folder: Callable[..., str],
    store: Store,
    capsys: pytest.CaptureFixture[str],
    head: str,
    words: list[str],
) -> None:
    t5 = folder(head, num_layers=2, num_heads=4, d_kv=8, d_ff=64)
    assert call(question, store, f"model={t5}", "--local", *words) == 2
    said = capsys.readouterr().err
    assert "a model of the family t5 cannot be fine-tuned here" in said
    assert "Those that can are encoders and decoders with one list of layers, such as BERT" in said
    assert not store.root.exists()


def test_a_family_that_transformers_does_not_know_is_refused(
    question: Sweep, encoder: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in Path(encoder).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(
        (tmp_path / "config.json").read_text().replace('"model_type": "bert"', '"model_type": "bird"')
    )
    assert call(question, store, f"model={tmp_path}", "--local") == 2
    assert "transformers knows no family 'bird'" in capsys.readouterr().err


def test_an_xlnet_is_priced_and_treated(
    question: Sweep, folder: Callable[..., str], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    xlnet = folder("XLNetModel", n_layer=2, n_head=4, d_inner=64)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert call(question, store, f"model={xlnet}", "seed=0", "--dry-run", "--rate", "1e12") == 0
    assert call(question, store, f"model={xlnet}", "seed=0", "--local") == 0
    assert "3 of 3 cells finished" in capsys.readouterr().out


def test_a_store_that_is_a_file_is_refused(question: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert launch.main(question, ["--store", str(tmp_path / "file" / "runs"), "--local"]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_an_unknown_flag_ends_with_2(question: Sweep) -> None:
    with pytest.raises(SystemExit) as ended:
        launch.main(question, ["--wrokers", "2"])
    assert ended.value.code == 2


def test_a_local_run_answers_and_the_second_call_runs_nothing(
    question: Sweep, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(question, store, "--local") == 0
    first = capsys.readouterr().out
    assert "6 to run" in first
    assert "6 of 6 cells finished" in first
    attempts = {p: p.stat().st_mtime_ns for p in store.root.glob("runs/*/attempts/*")}
    assert call(question, store, "--local") == 0
    assert "0 to run" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in store.root.glob("runs/*/attempts/*")} == attempts
    assert len(attempts) == 6


def test_a_failing_run_is_kept_and_the_rest_goes_on(
    question: Sweep, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(**values: object) -> RunSpec:
        spec = question.run(**values)
        assert spec is not None
        return replace(spec, optim=AdamW(lr=1e30, weight_decay=0.0, clip=1e30)) if values["mask"] == "11" else spec

    run.__signature__ = __import__("inspect").signature(question.run)  # type: ignore[attr-defined]
    failing = replace(question, run=run)
    assert call(failing, store, "--local") == 1
    assert "diverged" in capsys.readouterr().out
    assert call(failing, store, "--table") == 0
    assert "0/2" in capsys.readouterr().out
    before = len(list(store.root.glob("runs/*/attempts/*")))
    assert call(failing, store, "--local") == 1
    assert len(list(store.root.glob("runs/*/attempts/*"))) == before + 2  # only what failed was tried again


def test_the_dry_run_counts_and_estimates(
    question: Sweep, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.engine.cost.timings", lambda specs, *_: [(2.0, 1.0)] * len(specs))
    assert call(question, store, "--dry-run", "--local") == 0
    said = capsys.readouterr().out
    assert "6 cells, 6 runs: 0 finished, 6 to run" in said
    assert "smallest detectable difference with 2 paired seeds" in said
    assert "about 52 s" in said  # 6 runs of 3 steps of 2 s, 1 s of evaluation and .3 s besides, and one start
    assert not store.root.exists()


def test_the_dry_run_probes_children_of_a_parent_that_is_not_there(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "task=sentiment",
        "size=100",
        "mask=all",
        "seed=0",
        "scheme=bert",
        "--dry-run",
        "--local",
        "--store",
        str(store.root),
    ]
    assert launch.main(reinit_grid, words) == 0
    assert "2 to run (1 of them parents of others)" in capsys.readouterr().out
    assert not store.root.exists()


def test_a_text_is_tokenised_once_for_a_timing_and_not_at_all_where_it_is_there(
    pretrain: Callable[..., RunSpec], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, written = pretrain(), []
    write = corpus._write
    monkeypatch.setattr(corpus, "_write", lambda *given: (written.append(given[1]), write(*given)))
    monkeypatch.setattr(cost, "ProcessPoolExecutor", lambda processes, mp_context: ThreadPoolExecutor(1))
    cost.timings([spec], Resources(), 2, store)
    assert sorted(written) == ["train", "validation"]
    assert not store.root.exists()
    train(spec, store=store)
    written.clear()
    cost.timings([spec], Resources(), 1, store)
    assert written == []


def test_a_smoke_run_leaves_the_answers_alone(question: Sweep, store: Store) -> None:
    assert call(question, store, "--local") == 0
    answers = {p: p.read_bytes() for p in (store.root / "sweeps" / question.name).rglob("*") if p.is_file()}
    assert call(question, store, "--local", "--smoke") == 0
    assert (store.root / "sweeps" / f"{question.name}-smoke" / "table.md").is_file()
    assert {p: p.read_bytes() for p in answers} == answers


def test_an_error_with_brackets_is_printed_as_it_is(
    question: Sweep, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("[enforce fail] at [/alloc.cpp:118]")

    monkeypatch.setattr(importlib.import_module("plm.train"), "_loop", fail)
    assert call(question, store, "--local") == 1
    assert "[enforce fail] at [/alloc.cpp:118]" in capsys.readouterr().out


def test_trouble_after_the_start_is_not_a_wrong_command(
    question: Sweep, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sweeps.engine.figures.save", full)
    assert call(question, store, "--local") == 1
    assert "No space left" in capsys.readouterr().err
    monkeypatch.undo()
    assert call(question, store, "--local") == 0


def test_a_cluster_that_is_not_there_is_refused(
    question: Sweep, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(question, store, "--address", "127.0.0.1:1") == 2
    assert "no Ray cluster answers there" in capsys.readouterr().err
    assert call(question, store, "--address", "ray://127.0.0.1:10001") == 2
    assert not store.root.exists()


def test_a_call_that_is_ended_while_ray_starts_says_so(
    question: Sweep, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> None:
        raise SystemExit(signal.SIGTERM)  # as Ray's handler does

    monkeypatch.setattr("sweeps.engine.tune._connect", ended)
    assert call(question, store) == 128 + signal.SIGTERM
    assert not store.root.exists()


@pytest.mark.parametrize("words", [["--help"], ["sizes=3"], ["mask=progresive"]])
def test_help_and_a_wrong_word_answer_within_a_second(words: list[str]) -> None:
    def seconds() -> float:
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "sweeps.reinit_grid", *words], capture_output=True, timeout=30, check=False
        )
        return time.monotonic() - began

    assert min(seconds() for _ in range(3)) < 1.0


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['x', '--help']\ntry:\n import runpy; runpy.run_module('sweeps.reinit_grid', run_name='__main__')\n"
        "except SystemExit: pass\nprint(sorted({'torch', 'ray', 'mlflow', 'transformers', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_local_sweep_is_resumable(
    encoder: str, toy: str, tmp_path: Path, number: int, status: int
) -> None:
    words = [
        f"model={encoder}",
        f"task={toy}",
        "size=24",
        "mask=none",
        "seed=0:40",
        "duration=steps:20",
        "--local",
        "--store",
        str(tmp_path / "s"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeps.reinit_grid", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
    )
    while not list((tmp_path / "s").glob("runs/*/DONE")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said.decode()
    assert b"the same command goes on" in said
    done = len(list((tmp_path / "s").glob("runs/*/DONE")))
    assert 1 <= done < 40
    words[words.index("seed=0:40")] = f"seed=0:{done}"
    assert (
        subprocess.run(
            [sys.executable, "-m", "sweeps.reinit_grid", *words], capture_output=True, check=False
        ).returncode
        == 0
    )


def test_what_another_process_has_is_run_last(question: Sweep, store: Store) -> None:
    first, *others = plan(question, store).runs.values()

    def hold() -> None:
        """Until all others are done, or long after they should be."""
        with store.run(first).claim(first):
            end = time.monotonic() + 60
            while not all(store.run(spec).done for spec in others) and time.monotonic() < end:
                time.sleep(0.05)

    with ThreadPoolExecutor() as pool:
        held = pool.submit(hold)
        while store.run(first).last_attempt() is None:
            time.sleep(0.01)
        assert call(question, store, "--local") == 0
        held.result()
    began = {spec.run_id: store.run(spec).attempts()[-1]["started"] for spec in (first, *others)}
    assert max(began, key=began.__getitem__) == first.run_id
