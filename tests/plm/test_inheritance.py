"""The loss, the schedules and the savings of knowledge inheritance, beside exact values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plm.duration import epochs, steps, tokens
from plm.inheritance import Constant, Heaviside, Linear, divergence, inheritance_loss, savings
from plm.objectives import IGNORED
from plm.objectives.inherit import lesson

STUDENT, TEACHER = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[1.0, 1.0, 0.0]])
TARGET = torch.tensor([0])
SIZES = {"batch_size": 2048, "seq_len": 512}


def softened(logits, temperature):
    """The distribution by its definition, in float64."""
    each = np.exp(logits.double().numpy() / temperature)
    return each / each.sum(-1, keepdims=True)


# The loss


@pytest.mark.parametrize(("rate", "nats"), [(0.0, 0.169846), (1.0, 0.490788), (0.5, 0.330317), (0.25, 0.250081)])
def test_the_loss_is_the_papers(rate, nats):
    """To six digits: KL(student || teacher) would be .488732, and a loss without temperature^2 a quarter."""
    assert float(inheritance_loss(STUDENT, TEACHER, TARGET, temperature=2.0, rate=rate)) == pytest.approx(
        nats, abs=1e-6
    )


def test_only_scored_positions_count_and_they_are_averaged():
    student, teacher = (torch.stack([logits.expand(2, 3), torch.rand(2, 3)]) for logits in (STUDENT, TEACHER))
    labels = torch.tensor([[0, 0], [IGNORED, IGNORED]])
    assert float(inheritance_loss(student, teacher, labels, temperature=2.0, rate=0.5)) == pytest.approx(
        0.330317, abs=1e-6
    )


def test_where_nothing_is_scored_the_loss_is_zero():
    assert float(inheritance_loss(STUDENT, TEACHER, torch.tensor([IGNORED]), temperature=1.0, rate=0.5)) == 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("kept", [2, 5, None])
def test_the_divergence_is_its_definition(temperature, kept):
    """The teacher renormalised over what is kept, the student over the whole vocabulary."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(4, 9, generator=draw) for _ in range(2))
    order = teacher.argsort(dim=-1, descending=True)[:, : kept or 9]
    p = softened(teacher.gather(1, order), temperature)
    q = np.take_along_axis(softened(student, temperature), order.numpy(), 1)
    said = lesson(teacher, kept or 0)
    found = divergence(student, said["teacher_logits"], temperature, said.get("teacher_tokens"))
    assert found.numpy() == pytest.approx(temperature**2 * (p * np.log(p / q)).sum(1), rel=1e-4)


def test_the_largest_logits_are_renormalised():
    said = lesson(torch.tensor([[1.0, 3.0, 0.0, 2.0]]), 2)
    assert said["teacher_tokens"].tolist() == [[1, 3]]
    assert softened(said["teacher_logits"], 2.0)[0] == pytest.approx([0.62246, 0.37754], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": 1.5}, "an inheritance rate of 1.5"),
        ({"rate": -0.1}, "an inheritance rate of -0.1"),
        ({"rate": float("nan")}, "an inheritance rate of nan"),
        ({"temperature": 0.0}, "a temperature of 0.0"),
        ({"temperature": float("inf")}, "a temperature of inf"),
    ],
)
def test_what_is_no_share_and_no_temperature_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        inheritance_loss(STUDENT, TEACHER, TARGET, **{"temperature": 1.0, "rate": 0.5, **options})


# Schedules


@pytest.mark.parametrize(
    ("guided", "slope", "rates"),
    [
        (35_000, 3.5714, {0: 1.0, 10_000: 0.7143, 35_000: 0.0, 125_000: 0.0}),
        (40_000, 3.125, {20_000: 0.5, 40_000: 0.0}),
        (55_000, 2.2727, {27_500: 0.5}),
    ],
)
def test_the_linear_rate_is_the_papers(guided, slope, rates):
    """max(1 - slope x step / all steps, 0) of 125,000 steps."""
    schedule = Linear(steps(guided))
    assert {step: schedule.at(step, **SIZES) for step in rates} == pytest.approx(rates, abs=5e-5)
    for step in range(0, 125_001, 2_500):
        assert schedule.at(step, **SIZES) == pytest.approx(max(1 - slope * step / 125_000, 0), abs=5e-5)


def test_the_heaviside_rate_is_a_step():
    schedule = Heaviside(steps(35_000))
    assert [schedule.at(step, **SIZES) for step in (0, 34_999, 35_000, 125_000)] == [1, 1, 0, 0]


def test_the_constant_rate_never_ends():
    assert [Constant().at(step, **SIZES) for step in (0, 125_000)] == [0.5, 0.5]


@pytest.mark.parametrize("schedule", [Linear, Heaviside])
def test_guidance_lasts_a_duration(schedule):
    """In tokens as many steps as they are full batches; an epoch's steps cannot be known."""
    sizes = {"batch_size": 4, "seq_len": 16}
    same = [schedule(guided) for guided in (tokens(640), steps(10))]
    assert [same[0].at(step, **sizes) for step in range(12)] == [same[1].at(step, **sizes) for step in range(12)]
    with pytest.raises(ValueError, match=r"guided for epochs:1: .* Give steps or tokens"):
        schedule(epochs(1))


@pytest.mark.parametrize("rate", [-0.5, 1.5])
def test_a_constant_rate_is_a_share(rate):
    with pytest.raises(ValueError, match=f"an inheritance rate of {rate}"):
        Constant(rate)


# Savings


@pytest.mark.parametrize(
    ("taught", "alone", "share"), [(40, 55, 0.2727), (40, 70, 0.4286), (70, 125, 0.44), (5, 4, -0.25)]
)
def test_savings_are_a_share_of_the_cost_without_a_teacher(taught, alone, share):
    assert savings(taught, alone) == pytest.approx(share, abs=5e-5)


@pytest.mark.parametrize(("taught", "alone"), [(0, 5), (5, 0), (float("nan"), 5)])
def test_what_never_cost_anything_saves_nothing(taught, alone):
    with pytest.raises(ValueError, match="what is compared must be positive"):
        savings(taught, alone)
