"""Durations: units convert as stated, and text and value are one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plm.duration import UNITS, Duration, epochs, parse, steps, tokens

whole = st.integers(1, 10**15).map(float)
durations = st.one_of(st.builds(Duration, whole, st.sampled_from(UNITS)), st.builds(epochs, st.floats(1e-6, 1e6)))


@given(durations)
def test_text_and_value_are_one(duration):
    assert parse(str(duration)) == duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("steps:450", steps(450)),
        ("epochs:3", epochs(3)),
        ("epochs:0.5", epochs(0.5)),
        ("tokens:1e9", tokens(10**9)),
        ("steps:1234567", steps(1_234_567)),
    ],
)
def test_durations_are_read(text, duration):
    assert parse(text) == duration


def test_durations_are_written_plainly():
    assert [str(d) for d in (epochs(3), epochs(0.5), steps(1_234_567))] == ["epochs:3", "epochs:0.5", "steps:1234567"]


@pytest.mark.parametrize("text", ["3", "epochs", "epochs:", "epochs:x", "hours:3", ":3", "epochs:nan", "epochs:inf"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is not a duration: write a unit and an amount"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps:0", "must be a positive number"),
        ("epochs:-1", "be a positive"),
        ("steps:1.5", "steps come in whole numbers"),
    ],
)
def test_amounts_that_cannot_be_are_refused(text, said):
    with pytest.raises(ValueError, match=said):
        parse(text)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (steps(7), 7),
        (epochs(1), 7),
        (epochs(3), 21),
        (epochs(0.5), 4),
        (epochs(0.01), 1),
        (tokens(1), 1),
        (tokens(128), 1),
        (tokens(129), 2),
        (tokens(1280), 10),
    ],
)
def test_conversion_to_steps(duration, expected):
    """100 examples in batches of 16 are seven steps, the last one smaller; a full batch is 16 x 8 tokens."""
    assert duration.in_steps(num_examples=100, batch_size=16, seq_len=8) == expected


@given(durations, st.integers(1, 10**6), st.integers(1, 512), st.integers(1, 512))
def test_a_run_has_at_least_one_step_and_enough_of_them(duration, examples, batch, length):
    found = duration.in_steps(num_examples=examples, batch_size=batch, seq_len=length)
    assert found >= 1
    if duration.unit == "tokens":
        assert (found - 1) * batch * length < duration.amount <= found * batch * length
    if duration.unit == "epochs":
        assert abs(found - duration.amount * math.ceil(examples / batch)) <= 1
