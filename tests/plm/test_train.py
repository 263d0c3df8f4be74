"""The loop: repeatable to the bit, exact when resumed, unmoved by what the process did before, honest when it fails."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from test_store import spoil
from tiny import SIZES, stop_after, write_rows

import plm
from plm.build import Cache
from plm.checkpoint import weights_sha256
from plm.data.collate import EVALUATION_BATCH
from plm.data.corpus import Corpus
from plm.data.world import World
from plm.journal import Journal
from plm.predictions import from_parquet
from plm.rng import seed_of
from plm.spec import AdamW
from plm.store import Store
from plm.train import Diverged, Execution, Stopped, train

loop = importlib.import_module("plm.train")


def result_of(spec, store, **options):
    """`result.json` of the trained run."""
    return json.loads((train(spec, store=store, **options).path / "result.json").read_text())


def numbers_of(spec, store, **options):
    """All that must be equal where two executions are said to be equal."""
    result = result_of(spec, store, **options)
    lines = [
        {k: v for k, v in line.items() if k != "time" and not k.startswith("speed/")}
        for line in Store.at(store).run(spec).metrics()
    ]
    predictions = (Store.at(store).run(spec).path / "predictions.parquet").read_bytes()
    return result["weights_sha256"], result["metrics"], lines, predictions


# Repeatability


def test_the_same_spec_twice_gives_the_same_bits(finetune, tmp_path):
    assert numbers_of(finetune(), tmp_path / "a") == numbers_of(finetune(), tmp_path / "b")


@pytest.mark.parametrize("seeds", [{"fresh": 1}, {"order": 1}, {"noise": 1}])
def test_each_seed_matters(finetune, tmp_path, seeds):
    spec = finetune()
    other = plm.RunSpec(**{**vars_of(spec), "seeds": plm.Seeds(**{"fresh": 0, "order": 0, "noise": 0, **seeds})})
    assert result_of(spec, tmp_path)["weights_sha256"] != result_of(other, tmp_path)["weights_sha256"]


def vars_of(spec):
    return {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}


def test_another_seed_draws_other_examples(finetune, tmp_path):
    first, second = (finetune(size=10, seed=seed) for seed in (0, 1))
    assert result_of(first, tmp_path)["weights_sha256"] != result_of(second, tmp_path)["weights_sha256"]
    assert result_of(first, tmp_path)["examples"] == 10


def test_a_b_a_with_one_cache_equals_fresh_processes(finetune, toy_regression, tmp_path):
    cache = Cache()
    a, b = finetune(), finetune(toy_regression, init=plm.reinit(finetune().init.origin, "11"), seed=5)
    first = numbers_of(a, tmp_path / "1", cache=cache)
    second = numbers_of(b, tmp_path / "1", cache=cache)
    assert numbers_of(a, tmp_path / "2", cache=cache) == first == numbers_of(a, tmp_path / "3")
    assert numbers_of(b, tmp_path / "2", cache=cache) == second == numbers_of(b, tmp_path / "3")


def test_the_cache_tells_tokenizers_apart(toy_task, tmp_path):
    """Two parents of one architecture that read different languages."""
    bert = plm.Bert(**{**SIZES, "vocab_size": 2000}, dropout=0.0)
    keys = set()
    for seed in (0, 1):
        parent = plm.RunSpec(
            **{
                **vars_of(plm.pretrain(bert, "world", duration=plm.steps(1), seq_len=16)),
                "data": Corpus(World(seed=seed), None),
            }
        )
        cache = Cache()
        loop.open_stream(plm.finetune(toy_task, init=parent.final), Store.at(tmp_path), cache)
        keys |= set(cache.data)
    assert len(keys) == 2


def test_micro_batches_change_nothing_without_dropout(finetune, still_bert, tmp_path):
    spec = finetune(init=still_bert)
    whole = train(spec, store=tmp_path / "a").metrics
    parts = train(spec, store=tmp_path / "b", execution=Execution(micro_batch=3)).metrics
    assert parts == pytest.approx(whole, abs=1e-6)


def test_micro_batches_change_nothing_in_pretraining(pretrain, tmp_path):
    """The masked tokens of the parts differ in number, so the loss is normalised by the whole batch's."""
    spec = pretrain(dropout=0.0)
    whole, parts = (numbers_of(spec, tmp_path / str(size), execution=Execution(micro_batch=size)) for size in (None, 1))
    assert parts[1] == pytest.approx(whole[1], abs=1e-5)
    assert parts[2][0]["train/grad_norm"] == pytest.approx(whole[2][0]["train/grad_norm"], rel=1e-5)


def test_bfloat16_trains(finetune, tmp_path):
    runs = [train(finetune(dtype=dtype), store=tmp_path) for dtype in ("float32", "bfloat16")]
    exact, rounded = (run.metrics["val/loss"] for run in runs)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.05)


# Resuming


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_resuming_a_fine_tuning_is_exact(finetune, tmp_path, stop):
    spec = finetune()
    with pytest.raises(Stopped, match=f"stopped at step {stop} of 4"):
        train(spec, store=tmp_path / "parts", should_stop=stop_after(stop))
    assert numbers_of(spec, tmp_path / "parts") == numbers_of(spec, tmp_path / "whole")
    assert Store.at(tmp_path / "parts").run(spec).last_attempt()["from"] == stop


def test_resuming_a_pretraining_is_exact(pretrain, tmp_path):
    """Twice stopped, at steps that are evaluated."""
    spec = pretrain()
    for _ in range(2):
        with pytest.raises(Stopped):
            train(spec, store=tmp_path / "parts", should_stop=stop_after(1 if _ else 2))
    assert numbers_of(spec, tmp_path / "parts") == numbers_of(spec, tmp_path / "whole")


def test_counters_go_on(finetune, tmp_path):
    spec = finetune()
    with pytest.raises(Stopped):
        train(spec, store=tmp_path / "parts", should_stop=stop_after(2))
    parts, whole = result_of(spec, tmp_path / "parts"), result_of(spec, tmp_path / "whole")
    assert (parts["tokens"], parts["flops"]) == (whole["tokens"], whole["flops"])


def test_a_saved_state_survives_a_killed_process(finetune, tmp_path, monkeypatch):
    """No stop was asked for: the last periodic save is gone on from."""
    spec = finetune()
    step = loop.train_step

    def dies(model, optimizer, spec, batch, number, lr, execution):
        if number == 3:
            raise KeyboardInterrupt
        return step(model, optimizer, spec, batch, number, lr, execution)

    monkeypatch.setattr(loop, "train_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(spec, store=tmp_path / "parts", execution=Execution(save_seconds=0))
    monkeypatch.undo()
    assert Store.at(tmp_path / "parts").run(spec).status() == "interrupted"
    assert numbers_of(spec, tmp_path / "parts") == numbers_of(spec, tmp_path / "whole")


@pytest.mark.parametrize("how", ["missing", "truncated", "flipped"])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "manifest.json"])
def test_a_spoilt_checkpoint_is_passed_over(finetune, tmp_path, monkeypatch, name, how):
    monkeypatch.setattr(Journal, "_prune", lambda *_, **__: None)
    spec, store = finetune(), Store.at(tmp_path / "parts")
    for passes in (1, 1):
        with pytest.raises(Stopped):
            train(spec, store=store, should_stop=stop_after(passes))
    spoil(store.run(spec).path / "checkpoints/step_00000002" / name, how)
    assert numbers_of(spec, store) == numbers_of(spec, tmp_path / "whole")
    assert store.run(spec).last_attempt()["from"] == 1


def test_a_finished_run_is_answered_from_the_store(finetune, tmp_path):
    first = train(finetune(), store=tmp_path)
    before = {p: p.stat().st_mtime_ns for p in first.path.rglob("*")}
    assert train(finetune(), store=tmp_path) == first
    assert {p: p.stat().st_mtime_ns for p in first.path.rglob("*")} == before
    assert len(os.listdir(first.path / "attempts")) == 1


# What a run leaves


def test_the_folder_of_a_run(finetune, tmp_path):
    path = train(finetune(), store=tmp_path).path
    assert sorted(p.name for p in path.iterdir() if p.name != "checkpoints") == [
        "DONE",
        "attempts",
        "environment.json",
        "metrics.jsonl",
        "predictions.parquet",
        "result.json",
        "spec.json",
    ]
    assert plm.RunSpec.from_json((path / "spec.json").read_text()) == finetune()
    assert not list((path / "checkpoints").glob("*"))


def test_metric_names_are_declared(finetune, pretrain, tmp_path):
    from plm.metrics import REPORTED

    for spec in (finetune(), pretrain()):
        train(spec, store=tmp_path)
        seen = {name for line in Store.at(tmp_path).run(spec).metrics() for name in line} - {"step", "time"}
        assert seen <= set(REPORTED)


def test_every_evaluated_example_has_a_prediction(finetune, tmp_path):
    result = train(finetune(), store=tmp_path)
    records = from_parquet((result.path / "predictions.parquet").read_bytes())
    assert len(records) == 70 > EVALUATION_BATCH
    assert [r["id"] for r in records] == list(range(70))
    assert [r["label"] for r in records] == [i % 2 for i in range(70)]
    logits = torch.tensor([r["logits"] for r in records])
    labels = torch.tensor([int(r["label"]) for r in records])
    assert result.metrics["val/accuracy"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    assert result.metrics["val/score"] == result.metrics["val/accuracy"]
    loss = float(torch.nn.functional.cross_entropy(logits, labels))
    assert result.metrics["val/loss"] == pytest.approx(loss, rel=1e-5)


def test_kept_checkpoints_load_in_transformers(finetune, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    path = train(finetune(), store=tmp_path, execution=Execution(keep=(0, 2), keep_weights=True)).path / "checkpoints"
    assert sorted(p.name for p in path.iterdir()) == ["step_00000000", "step_00000002", "step_00000004"]
    assert not list(path.glob("*/optimizer.safetensors"))
    model, info = AutoModelForSequenceClassification.from_pretrained(path / "step_00000004", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert weights_sha256(model) == json.loads((path.parent / "result.json").read_text())["weights_sha256"]
    assert AutoTokenizer.from_pretrained(path / "step_00000004")("w00 w01")["input_ids"] == [2, 5, 6, 3]


def test_a_child_starts_from_the_parent_step_it_names(finetune, pretrain, tmp_path):
    parent = pretrain()
    train(parent, store=tmp_path, execution=Execution(keep=(2,)))
    scores = {step: result_of(finetune(init=parent.at(step)), tmp_path)["weights_sha256"] for step in (2, 4)}
    assert scores[2] != scores[4]
    with pytest.raises(ValueError, match=r"no complete checkpoint at step 1; it keeps: 2, 4"):
        train(finetune(init=parent.at(1)), store=tmp_path)


def test_redrawn_layers_are_listed_and_change_the_outcome(finetune, tiny_bert, tmp_path):
    kept, redrawn = (result_of(finetune(init=plm.reinit(tiny_bert, mask)), tmp_path) for mask in ("00", "01"))
    assert kept["redrawn"] == []
    assert len(redrawn["redrawn"]) == 10  # six weights and two norms with scale and shift
    assert all(name.startswith("bert.encoder.layer.1.") for name in redrawn["redrawn"])
    assert kept["weights_sha256"] != redrawn["weights_sha256"]
    assert kept["fresh"] == redrawn["fresh"] == ["classifier.weight", "classifier.bias"]


def test_progress_is_reported(pretrain, tmp_path):
    heard = []

    class Listener:
        def report(self, step, metrics, checkpoint):
            heard.append((step, sorted(metrics), checkpoint and checkpoint.name))

    train(pretrain(), store=tmp_path, reporter=Listener(), execution=Execution(keep=(2,)))
    lines = [(step, metrics) for step, metrics, kept in heard if kept is None]
    assert [step for step, _ in lines] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert lines[0][1] == ["speed/tokens_per_second", "train/grad_norm", "train/loss", "train/lr", "train/tokens"]
    assert lines[-1][1] == ["train/tokens", "val/loss", "val/mlm_accuracy", "val/perplexity"]
    assert [(step, kept) for step, _, kept in heard if kept] == [(2, "step_00000002"), (4, "step_00000004")]


# Global state


def test_the_process_is_left_as_it_was(finetune, tmp_path):
    torch.manual_seed(11)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    np_before = np.random.get_state()[1].copy()
    train(finetune(), store=tmp_path, execution=Execution(threads=threads + 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert (np.random.get_state()[1] == np_before).all()


def test_the_numbers_do_not_depend_on_global_generators(finetune, tmp_path):
    torch.manual_seed(1)
    first = numbers_of(finetune(), tmp_path / "a")
    torch.manual_seed(2)
    assert numbers_of(finetune(), tmp_path / "b") == first


def test_the_environment_is_recorded(finetune, tmp_path):
    spec = finetune()
    with pytest.raises(Stopped):
        train(spec, store=tmp_path, should_stop=stop_after(2))
    path = train(spec, store=tmp_path, execution=Execution(micro_batch=4)).path
    first, second = json.loads((path / "environment.json").read_text())
    assert (first["micro_batch"], second["micro_batch"]) == (None, 4)
    assert first["versions"]["torch"] == second["versions"]["torch"]


# Failure


@pytest.mark.parametrize(
    ("lr", "duration", "said"),
    [(1e30, 4, "loss nan, gradient norm nan at step 1 of 4"), (1e38, 1, "evaluation loss nan at step 1 of 1")],
)
def test_a_diverged_run_says_where(finetune, tmp_path, lr, duration, said):
    spec = finetune(lr=lr, duration=plm.steps(duration))
    with pytest.raises(Diverged, match=said):
        train(spec, store=tmp_path)
    folder = Store.at(tmp_path).run(spec)
    assert folder.status() == "diverged"
    assert said in folder.last_attempt()["error"]
    assert said in (folder.path / "error.txt").read_text()
    assert "NaN" not in (folder.path / "metrics.jsonl").read_text()
    assert not folder.done


def test_a_failed_run_is_tried_again(finetune, tmp_path, monkeypatch):
    spec = finetune()
    monkeypatch.setattr(loop, "evaluate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(spec, store=tmp_path)
    folder = Store.at(tmp_path).run(spec)
    assert folder.status() == "failed"
    assert "ZeroDivisionError" in (folder.path / "error.txt").read_text()
    monkeypatch.undo()
    train(spec, store=tmp_path)
    assert [a["outcome"] for a in folder.attempts()] == ["failed", "done"]
    assert not (folder.path / "error.txt").exists()


def test_an_interrupt_lets_the_claim_go(finetune, tmp_path, monkeypatch):
    """In a notebook the process lives on: the run must not stay busy with it."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(finetune(), store=tmp_path)
    monkeypatch.undo()
    train(finetune(), store=tmp_path)


def test_nothing_is_finished_when_the_run_was_taken_over(finetune, tmp_path):
    spec, store = finetune(), Store.at(tmp_path)

    class Thief:
        def report(self, step, metrics, checkpoint):
            if step == 2:
                store.put(f"runs/{spec.run_id}/attempts/0002.json", b"{}")

    with pytest.raises(plm.claim.Lost, match="taken over"):
        train(spec, store=store, reporter=Thief())
    assert not store.run(spec).done


# One step, by hand


def test_a_step_is_clipped_and_decays_matrices_only():
    from plm import optim

    model = torch.nn.Linear(3, 2)
    groups = optim.build(model, AdamW(lr=1e-3, weight_decay=0.1)).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (1, 0.0)]
    assert groups[0]["params"][0] is model.weight


def test_the_gradient_is_clipped(finetune, tmp_path, monkeypatch):
    spec = finetune()
    clip = torch.nn.utils.clip_grad_norm_
    seen = []

    def spy(parameters, limit):
        parameters = list(parameters)
        before = clip(parameters, limit)
        after = math.hypot(*[float(p.grad.norm()) for p in parameters if p.grad is not None])
        seen.append((float(before), limit, after))
        return before

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    train(spec, store=tmp_path)
    lines = [line for line in Store.at(tmp_path).run(spec).metrics() if "train/grad_norm" in line]
    assert [line["train/grad_norm"] for line in lines] == [before for before, *_ in seen]
    assert all(limit == spec.optim.clip and after <= 1.0 + 1e-4 for _, limit, after in seen)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 1, 3, 10])
def test_the_learning_rate_rises_and_falls(schedule, warmup):
    from plm.optim import learning_rate

    spec = AdamW(lr=2.0, weight_decay=0, warmup_steps=warmup, schedule=schedule)
    rates = [learning_rate(spec, step, 10) for step in range(10)]
    assert all(0 < rate <= 2.0 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    if warmup:
        assert rates[warmup - 1] == 2.0
    if schedule != "constant" and warmup < 10:
        assert learning_rate(spec, 10, 10) == 0
    if schedule == "cosine":
        assert learning_rate(AdamW(lr=2.0, weight_decay=0, schedule=schedule), 3, 9) == pytest.approx(
            1.5
        )  # a third of the way


def test_seeds_of_purposes_differ():
    seen = {
        seed_of(0),
        seed_of(1),
        seed_of(0, "order"),
        seed_of(0, "order", 1),
        seed_of(0, "order", 11),
        seed_of(0, "order", 1, 1),
        seed_of(0, "order1"),
    }
    assert len(seen) == 7
    assert all(0 <= s < 2**63 for s in seen)


def test_a_changed_task_is_refused(finetune, tmp_path):
    folder = tmp_path / "task"
    folder.mkdir()
    rows = [{"sentence": f"w{i:02} w01", "label": i % 2} for i in range(10)]
    for split in ("train", "validation"):
        write_rows(folder / f"{split}.jsonl", rows)
    spec = finetune(str(folder))
    write_rows(folder / "train.jsonl", rows[::-1])
    plm.tasks._resolved.cache_clear()  # as a fresh process would find it
    with pytest.raises(ValueError, match="have changed since the plan was made"):
        train(spec, store=tmp_path / "store")
    assert Path(tmp_path / "store").is_dir()
