"""Budgets of time: turned into steps once, before the spec is made."""

from __future__ import annotations

from dataclasses import replace

import pytest

import plm
from plm import probe
from plm.probe import Timing


def test_a_budget_becomes_the_steps_that_fit(pretrain, monkeypatch):
    monkeypatch.setattr(probe, "probe", lambda *_, **__: Timing(step=0.5, evaluation=3.0))
    spec = pretrain()
    found = plm.within(spec, minutes=2)
    assert found == replace(spec, duration=plm.steps((120 - 8 * 3) * 2))
    with pytest.raises(ValueError, match=r"a step takes 0.50 s here and the 8 evaluations 24 s, so nothing fits"):
        plm.within(spec, minutes=0.4)


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
