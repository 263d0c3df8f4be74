"""Budgets of time: turned into steps once, before the spec is made."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import plm
from plm import probe
from plm.probe import Timing
from plm.train import Execution


def test_a_budget_becomes_the_steps_that_fit(pretrain, monkeypatch):
    monkeypatch.setattr(probe, "probe", lambda *_, **__: Timing(step=0.5, evaluation=3.0))
    spec = pretrain()
    found = plm.within(spec, minutes=2)
    assert found == replace(spec, duration=plm.steps((120 - 8 * 3) * 2))
    with pytest.raises(ValueError, match=r"a step takes 0.50 s here and an evaluation 3 s, so nothing fits"):
        plm.within(spec, minutes=0.05)


def test_a_fine_tuning_is_evaluated_once(finetune, monkeypatch):
    monkeypatch.setattr(probe, "probe", lambda *_, **__: Timing(step=0.5, evaluation=3.0))
    assert plm.within(finetune(), minutes=2).total_steps == (120 - 3) * 2


@pytest.mark.parametrize("last", [1, 5, 8, 9, 15, 16, 17])
def test_as_many_evaluations_are_planned_for_as_are_made(pretrain, tmp_path, last):
    spec = pretrain(duration=plm.steps(last))
    plm.train(spec, store=tmp_path)
    made = [line for line in plm.Store.at(tmp_path).run(spec).metrics() if "val/loss" in line]
    assert probe.evaluations(spec, last) == len(made)


@given(st.floats(0.01, 2), st.floats(0.0, 5), st.floats(0.1, 3))
def test_the_budget_is_kept_and_used(pretrain, step, evaluation, minutes):
    """One step more would not fit, whatever an evaluation takes."""
    spec = pretrain()

    def cost(steps):
        return steps * step + probe.evaluations(spec, steps) * evaluation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "probe", lambda *_, **__: Timing(step, evaluation))
        try:
            fitting = plm.within(spec, minutes=minutes).total_steps
        except ValueError:
            assert step + evaluation > 60 * minutes
            return
    assert cost(fitting) <= 60 * minutes < cost(fitting + 1) * (1 + 1e-12)  # 60 * 1.1 is a little more than 66


def test_the_clock_waits_for_the_device(monkeypatch):
    """Of work that was only begun, none would be timed."""
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    for device in (torch.device("cuda"), torch.device("cpu")):
        probe._clock(device)
    assert waited == [torch.device("cuda")]


def test_both_times_are_read_off_that_clock(pretrain, tmp_path, monkeypatch):
    """A clock that says a minute more each time that it is asked."""
    asked = itertools.count(0, 60)
    monkeypatch.setattr(probe, "_clock", lambda _: next(asked))
    monkeypatch.setattr(probe, "PROBE_SECONDS", math.inf)
    spec = pretrain(duration=plm.steps(1))
    found = probe.probe(spec, Execution(), store=plm.Store.at(tmp_path))
    assert (found.step, found.evaluation) == (60, 60)


def test_the_probe_trains_what_the_run_would(pretrain, monkeypatch):
    seen = []
    step = probe.train_step

    def spy(scorer, optimizer, spec, batch, number, lr, execution):
        seen.append((number, batch["input_ids"].shape))
        return step(scorer, optimizer, spec, batch, number, lr, execution)

    monkeypatch.setattr(probe, "train_step", spy)
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.3)
    spec = pretrain(duration=plm.steps(1000))
    assert plm.within(spec, minutes=0.5).total_steps >= 1
    assert [number for number, _ in seen] == list(range(len(seen)))
    assert {shape for _, shape in seen} == {(4, 16)}
    assert len(seen) > 3
