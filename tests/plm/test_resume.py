"""A run that was stopped at six points is the run that never was, to the bit: weights, optimizer state, metrics."""

from __future__ import annotations

import pytest
from families import albert
from test_parallel import NEVER, numbers, together
from tiny import SIZES, stop_after

import plm
from plm.models.gpt2 import GPT2
from plm.objectives.clm import CausalLM
from plm.objectives.combined import Sum
from plm.objectives.mlm import MaskedLM
from plm.objectives.sop import SentenceOrder
from plm.store import Store
from plm.train import Execution, Stopped, train

STEPS = 7
KEPT = {"keep_state": (STEPS,)}
OBJECTIVES = {
    "mlm": {"objective": MaskedLM(selection="ngram")},
    "clm": {"architecture": GPT2(**SIZES, dropout=0.1), "objective": CausalLM()},
    "sum": {"architecture": albert("all"), "objective": Sum((MaskedLM(), SentenceOrder())), "seq_len": 24},
}


@pytest.fixture
def runs(pretrain, toy_documents):
    """Runs with dropout that are evaluated at every step."""
    return {
        name: pretrain(text=toy_documents, duration=plm.steps(STEPS), **changes) for name, changes in OBJECTIVES.items()
    }


def everything(spec, store):
    """All that a run leaves of its training: every bit of it."""
    folder = Store.at(store).checkpoint(spec.final)
    files = {name: (folder / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")}
    result = Store.at(store).run(spec).result()
    work = {name: result[name] for name in ("tokens", "tokens_seen", "flops")}
    return numbers(spec, store), files, work, (folder.parents[1] / "predictions.parquet").read_bytes()


def assert_resumed(spec, parts, whole):
    """Equal, and by way of six stops."""
    stopped, straight = everything(spec, parts), everything(spec, whole)
    for one, other in zip(stopped, straight, strict=True):
        assert one == other
    assert len(straight[1]["optimizer.safetensors"]) > 1.9 * len(straight[1]["model.safetensors"])  # two moments
    attempts = Store.at(parts).run(spec).attempts()
    assert [a["outcome"] for a in attempts] == ["stopped"] * 6 + ["done"]
    assert [a["from"] for a in attempts] == list(range(STEPS))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_process_resumes_exactly(runs, name, tmp_path):
    spec, execution = runs[name], Execution(**KEPT)
    train(spec, store=tmp_path / "whole", execution=execution)
    for _ in range(STEPS - 1):
        with pytest.raises(Stopped):
            train(spec, store=tmp_path / "parts", execution=execution, should_stop=stop_after(1))
    train(spec, store=tmp_path / "parts", execution=execution)
    assert_resumed(spec, tmp_path / "parts", tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_resume_exactly(runs, tmp_path):
    straight = [(spec, tmp_path / "whole", NEVER, KEPT) for spec in runs.values()]
    stopped = [(spec, tmp_path / "parts", stop, KEPT) for spec in runs.values() for stop in [1] * 6 + [NEVER]]
    together([*straight, *stopped], tmp_path)
    for spec in runs.values():
        assert_resumed(spec, tmp_path / "parts", tmp_path / "whole")
