"""What a run keeps: steps that are asked for later, states to cool down from, evidence of what went wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tiny import stop_after
from transformers import AutoModelForMaskedLM, AutoTokenizer

import plm
from plm import journal, optim
from plm.inits.resume import Resume
from plm.store import RunFolder, Store, step_name
from plm.train import Diverged, Execution, Stopped, train


@pytest.fixture
def trunk(pretrain):
    """Ten steps at a constant rate."""
    spec = pretrain(duration=plm.steps(10))
    return replace(spec, optim=replace(spec.optim, schedule="constant"))


def kept(spec, store):
    """Step -> names of the files that its checkpoint holds."""
    folder = Store.at(store).run(spec).path / "checkpoints"
    return {int(p.name.removeprefix("step_")): {f.name for f in p.iterdir()} for p in sorted(folder.iterdir())}


def weights(spec, store, step):
    return load_file(Store.at(store).checkpoint(spec.at(step)) / "model.safetensors")


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Schedules


def test_every_step_that_is_asked_for_is_kept_and_loads(trunk, tmp_path):
    steps = (0, 1, 2, 4, 8)
    train(trunk, store=tmp_path, execution=Execution(keep=steps))
    assert sorted(kept(trunk, tmp_path)) == [*steps, 10]
    before = None
    for step in (*steps, 10):
        folder = Store.at(tmp_path).checkpoint(trunk.at(step))
        model = AutoModelForMaskedLM.from_pretrained(folder)
        assert len(AutoTokenizer.from_pretrained(folder)) == 65
        now = model.get_input_embeddings().weight.detach()
        assert before is None or not torch.equal(now, before)
        before = now.clone()


def test_only_weights_are_kept_unless_a_state_is_asked_for(trunk, tmp_path):
    train(trunk, store=tmp_path, execution=Execution(keep=(2, 4), keep_state=(4,)))
    files = kept(trunk, tmp_path)
    assert "optimizer.safetensors" not in files[2] | files[10]
    assert {"optimizer.safetensors", "progress.json"} <= files[4]


def test_a_checkpoint_is_of_its_own_step_although_it_is_written_later(trunk, tmp_path, monkeypatch):
    """The copy is taken between two steps: what training does meanwhile must not reach it."""
    write = journal.Journal.publish

    def late(self, step=0, files=None):
        if files and step == 3:
            import time

            time.sleep(0.5)  # three more steps are trained in this time
        write(self, step, files)

    monkeypatch.setattr(journal.Journal, "publish", late)
    train(trunk, store=tmp_path / "late", execution=Execution(keep=(3,)))
    monkeypatch.undo()
    train(trunk, store=tmp_path / "plain", execution=Execution(keep=(3,)))
    assert equal(weights(trunk, tmp_path / "late", 3), weights(trunk, tmp_path / "plain", 3))


def test_a_checkpoint_that_cannot_be_written_fails_the_run(trunk, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("plm.store.RunFolder.put_checkpoint", full)
    with pytest.raises(OSError, match="no space left"):
        train(trunk, store=tmp_path, execution=Execution(keep=(2,)))
    assert Store.at(tmp_path).run(trunk).status() == "failed"


# Steps that are asked for after the run was finished


def test_a_finished_run_is_repeated_for_steps_it_lacks(trunk, tmp_path):
    train(trunk, store=tmp_path / "late", execution=Execution(keep=(2, 8)))
    folder = Store.at(tmp_path / "late").run(trunk)
    done = {name: folder.get(name) for name in ("DONE", "result.json", "metrics.jsonl", "environment.json")}
    train(trunk, store=tmp_path / "late", execution=Execution(keep=(0, 5)))
    train(trunk, store=tmp_path / "at once", execution=Execution(keep=(0, 2, 5, 8)))
    assert kept(trunk, tmp_path / "late") == kept(trunk, tmp_path / "at once")
    for step in (0, 2, 5, 8, 10):
        assert equal(weights(trunk, tmp_path / "late", step), weights(trunk, tmp_path / "at once", step))
    assert {name: folder.get(name) for name in done} == done
    outcomes = [(a["outcome"], a["step"]) for a in folder.attempts()]
    assert outcomes == [("done", 10), ("repeated", 8)]  # no further than where it can be compared


def test_a_repetition_is_resumed_and_nothing_is_repeated_twice(trunk, tmp_path):
    train(trunk, store=tmp_path)
    with pytest.raises(Stopped):
        train(trunk, store=tmp_path, execution=Execution(keep=(2, 6)), should_stop=stop_after(4))
    train(trunk, store=tmp_path, execution=Execution(keep=(2, 6)))
    train(trunk, store=tmp_path, execution=Execution(keep=(2, 6)))
    attempts = Store.at(tmp_path).run(trunk).attempts()
    assert [(a["outcome"], a["from"]) for a in attempts] == [("done", 0), ("stopped", 0), ("repeated", 4)]
    assert sorted(kept(trunk, tmp_path)) == [2, 6, 10]


def test_a_repetition_that_leaves_the_path_is_refused(trunk, tmp_path, monkeypatch):
    train(trunk, store=tmp_path)
    monkeypatch.setattr(optim, "learning_rate", lambda spec, step, last: spec.lr * 0.9)
    with pytest.raises(ValueError, match="came by other weights at step 10 than the first time"):
        train(trunk, store=tmp_path, execution=Execution(keep=(4,)))
    assert sorted(kept(trunk, tmp_path)) == [10]
    assert Store.at(tmp_path).run(trunk).done


# Cooling down


def test_cooling_down_goes_on_where_the_trunk_stood(trunk, tmp_path):
    """With a schedule that does not fall, the continuation is the trunk itself: weights, moments, data and noise."""
    train(trunk, store=tmp_path, execution=Execution(keep=(4,), keep_state=(4,)))
    continued = replace(trunk, init=Resume(trunk.at(4)), duration=plm.steps(6))
    train(continued, store=tmp_path)
    assert equal(weights(continued, tmp_path, 6), weights(trunk, tmp_path, 10))
    tokens = [Store.at(tmp_path).run(spec).metrics()[-1]["train/tokens"] for spec in (continued, trunk)]
    assert tokens[0] == tokens[1]


def result(spec, store):
    return Store.at(store).run(spec).result()


def test_a_cool_down_s_cost_is_its_own(trunk, tmp_path):
    """Where it is in the data counts the trunk's tokens; what it cost does not, be it tokens, FLOPs or seconds."""
    train(trunk, store=tmp_path, execution=Execution(keep_state=(4, 10)))
    first, again = trunk.annealed(4, over=3), trunk.annealed(10, over=2)
    with pytest.raises(Stopped):
        train(first, store=tmp_path, should_stop=stop_after(2))
    for spec in (first, again):
        train(spec, store=tmp_path)
    whole, early, late = (result(spec, tmp_path) for spec in (trunk, first, again))
    assert (whole["tokens"], whole["tokens_seen"]) == (10 * 64, 10 * 64)
    assert (early["tokens"], early["tokens_seen"]) == (3 * 64, 7 * 64)
    assert (late["tokens"], late["tokens_seen"]) == (2 * 64, 12 * 64)
    for one in (early, late):
        assert one["flops"] / one["tokens"] == pytest.approx(whole["flops"] / whole["tokens"])
    assert Store.at(tmp_path).run(first).metrics()[-1]["train/tokens"] == 7 * 64


def test_a_chain_of_continuations_counts_all_tokens_before_it(trunk, tmp_path):
    train(trunk, store=tmp_path, execution=Execution(keep_state=(4,)))
    second = replace(trunk, init=Resume(trunk.at(4)), duration=plm.steps(3))
    train(second, store=tmp_path, execution=Execution(keep_state=(2,)))
    third = replace(trunk, init=Resume(second.at(2)), duration=plm.steps(1))
    train(third, store=tmp_path)
    assert (result(third, tmp_path)["tokens"], result(third, tmp_path)["tokens_seen"]) == (64, 7 * 64)


def test_a_cool_down_ends_at_rate_zero(trunk, tmp_path):
    annealed = trunk.annealed(4, over=3)
    train(trunk, store=tmp_path, execution=Execution(keep_state=(4,)))
    train(annealed, store=tmp_path)
    rates = [line["train/lr"] for line in Store.at(tmp_path).run(annealed).metrics() if "train/lr" in line]
    assert rates == pytest.approx([1e-3, 2e-3 / 3, 1e-3 / 3])
    assert annealed.parents() == (trunk.at(4),)
    assert trunk.annealed(10).total_steps == 2
    assert len({annealed.run_id, trunk.annealed(5, over=3).run_id, trunk.annealed(4, over=2).run_id, trunk.run_id}) == 4


def test_a_cool_down_without_its_state_says_so(trunk, tmp_path):
    train(trunk, store=tmp_path, execution=Execution(keep=(4,)))
    with pytest.raises((ValueError, FileNotFoundError), match="optimizer"):
        train(trunk.annealed(4), store=tmp_path)


def test_a_falling_schedule_is_not_cooled_down(pretrain):
    with pytest.raises(ValueError, match="has a linear schedule: only a run at a constant rate"):
        pretrain().annealed(2)


# Evidence


def test_what_made_the_loss_infinite_is_kept(trunk, tmp_path):
    spec = replace(trunk, optim=replace(trunk.optim, lr=1e30), duration=plm.steps(40))  # evaluated at every fifth
    with pytest.raises(Diverged):
        train(spec, store=tmp_path)
    folder = Store.at(tmp_path).run(spec)
    step = folder.last_attempt()["step"]
    batch = load_file(folder.path / "evidence/batch.safetensors")
    assert batch["input_ids"].shape == (4, 16)
    assert "bert.embeddings.word_embeddings.weight" in load_file(folder.path / "evidence/model.safetensors")
    assert step_name(step) not in folder.checkpoints()
    assert json.loads((folder.path / "spec.json").read_text())["run_id"] == spec.run_id


def test_a_state_is_asked_for_at_a_step_whose_weights_are_there(trunk, tmp_path):
    train(trunk, store=tmp_path, execution=Execution(keep=(4, 8)))
    before = weights(trunk, tmp_path, 4)
    train(trunk, store=tmp_path, execution=Execution(keep=(4,), keep_state=(4,)))
    assert "optimizer.safetensors" in kept(trunk, tmp_path)[4]
    assert equal(weights(trunk, tmp_path, 4), before)
    assert sorted(kept(trunk, tmp_path)) == [4, 8, 10]


def test_weights_that_are_there_are_not_written_over_by_others(trunk, tmp_path, monkeypatch):
    train(trunk, store=tmp_path, execution=Execution(keep=(4,)))
    before = weights(trunk, tmp_path, 4)
    monkeypatch.setattr(optim, "learning_rate", lambda spec, step, last: spec.lr * 0.9)
    with pytest.raises(ValueError, match="came by other weights at step 4 than the first time"):
        train(trunk, store=tmp_path, execution=Execution(keep_state=(4,)))
    assert equal(weights(trunk, tmp_path, 4), before)


def test_an_interrupted_run_that_is_asked_for_other_steps_has_them_all_in_the_end(trunk, tmp_path):
    with pytest.raises(Stopped):
        train(trunk, store=tmp_path, execution=Execution(keep=(2,)), should_stop=stop_after(6))
    train(trunk, store=tmp_path, execution=Execution(keep=(3,)))
    assert sorted(kept(trunk, tmp_path)) == [2, 3, 10]


def test_a_repetition_keeps_the_state_it_was_stopped_at(trunk, tmp_path):
    train(trunk, store=tmp_path, execution=Execution(keep=(7, 8)))
    with pytest.raises(Stopped):
        train(trunk, store=tmp_path, execution=Execution(keep=(5,)), should_stop=stop_after(3))
    train(trunk, store=tmp_path, execution=Execution(keep=(5,)))
    assert [a["from"] for a in Store.at(tmp_path).run(trunk).attempts()] == [0, 0, 3]
    assert sorted(kept(trunk, tmp_path)) == [5, 7, 8, 10]


# A process that is killed while it tidies up


class Killed(BaseException):
    """As if the process were gone: nothing that follows is run."""


@pytest.mark.parametrize("moment", ["before DONE", "after DONE"])
@pytest.mark.parametrize("keep", [{"keep": (2,)}, {"keep": (2, 4), "keep_state": (4,)}])
def test_what_a_killed_process_left_is_removed_when_the_run_is_next_opened(trunk, tmp_path, monkeypatch, moment, keep):
    execution = Execution(save_seconds=0, **keep)
    train(trunk, store=tmp_path / "whole", execution=execution)
    store = Store.at(tmp_path / "killed")
    with monkeypatch.context() as patch:
        if moment == "after DONE":
            prune = journal.Journal._prune
            patch.setattr(journal.Journal, "_prune", lambda self, *, upto=None: killed(prune, self, upto))
        else:
            put = RunFolder.put
            patch.setattr(RunFolder, "put", lambda self, name, data: killed(put, self, name, data))
        with pytest.raises(Killed):
            train(trunk, store=store, execution=execution)
    dead(store, trunk)
    assert kept(trunk, store) != kept(trunk, tmp_path / "whole")
    train(trunk, store=store)
    assert kept(trunk, store) == kept(trunk, tmp_path / "whole")
    assert store.run(trunk).done


def killed(do, self, *given):
    """Do it, unless it is the moment to die."""
    if given[0] in (None, "DONE"):
        raise Killed
    return do(self, upto=given[0]) if len(given) == 1 else do(self, *given)


def dead(store, spec):
    """Make the last attempt that of a process that is no more; whoever lived would still write `DONE` himself."""
    attempt = store.run(spec).last_attempt()
    number = len(store.run(spec).attempts())
    attempt["holder"]["ticks"] = "1"
    store.put(f"runs/{spec.run_id}/attempts/{number:04d}.json", json.dumps(attempt).encode())


def test_a_repetition_that_was_stopped_is_not_tidied_away(trunk, tmp_path):
    train(trunk, store=tmp_path)
    with pytest.raises(Stopped):
        train(trunk, store=tmp_path, execution=Execution(keep=(6,)), should_stop=stop_after(4))
    train(trunk, store=tmp_path)
    assert "optimizer.safetensors" in kept(trunk, tmp_path)[4]


def test_a_state_that_was_asked_for_outlives_an_interruption(trunk, tmp_path):
    """By whoever asked for it, although the execution that ended the run did not."""
    with pytest.raises(Stopped):
        train(trunk, store=tmp_path, execution=Execution(keep_state=(2,)), should_stop=stop_after(6))
    train(trunk, store=tmp_path)
    assert "optimizer.safetensors" in kept(trunk, tmp_path)[2]
    train(trunk.annealed(2), store=tmp_path)
