"""Spaces: what they ask, which configurations they hold, and how the command line narrows them."""

from __future__ import annotations

import random
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.pretraining import optimisation
from search_spaces.space import Question, Ruled, Space, Trial, drawn, leaves, narrowed, questions, replayed


def conditional(trial: Trial) -> dict[str, Any]:
    """Three plus four configurations."""
    if trial.suggest_categorical("kind", ("whole", "bits")) == "whole":
        return {"n": trial.suggest_int("n", 1, 3)}
    return {"mask": "".join(trial.suggest_categorical(f"bit_{i}", ("0", "1")) for i in range(2))}


def test_a_finite_space_lists_each_configuration_once() -> None:
    found = leaves(conditional)
    assert found is not None
    assert len(found) == 7
    assert len({str(sorted(a.items())) for a in found}) == 7
    assert {str(replayed(conditional, a)[1]) for a in found} == {  # type: ignore[index]
        *(str({"n": n}) for n in (1, 2, 3)),
        *(str({"mask": mask}) for mask in ("00", "01", "10", "11")),
    }


def test_a_space_with_a_continuum_is_endless() -> None:
    assert leaves(optimisation) is None
    assert leaves(lambda trial: {"n": trial.suggest_int("n", 0, 10_000)}, limit=100) is None
    assert leaves(lambda trial: {"x": trial.suggest_float("x", 0.0, 1.0, step=0.25)}) == [
        {"x": x} for x in (0.0, 1.0, 0.75, 0.5, 0.25)
    ]


@pytest.mark.parametrize(
    "answers",
    [{"kind": "whole"}, {"kind": "whole", "n": 4}, {"kind": "whole", "n": 1.0}, {"kind": "neither"}, {}, {"n": 1}],
)
def test_answers_that_do_not_lie_in_a_space(answers: dict[str, Any]) -> None:
    assert replayed(conditional, answers) is None


def test_answers_that_are_not_asked_for_are_left_out() -> None:
    assert replayed(conditional, {"kind": "whole", "n": 2, "bit_0": "1"}) == ({"kind": "whole", "n": 2}, {"n": 2})


def test_questions_of_all_branches_are_found() -> None:
    assert set(questions(conditional)) == {"kind", "n", "bit_0", "bit_1"}


@given(st.integers(0, 2**32))
def test_what_is_drawn_lies_in_the_space(seed: int) -> None:
    for space in (conditional, optimisation):
        (trial,) = drawn(space, 1, seed)
        again = Ruled(lambda name, question, known=trial.answers: known[name])  # type: ignore[misc]
        assert replayed(space, trial.answers) == (trial.answers, space(again))


def test_a_logarithmic_range_is_drawn_evenly_in_its_logarithm() -> None:
    question, dice = Question(low=1e-4, high=1.0, log=True), random.Random(0)
    values = [question.draw(dice) for _ in range(4000)]
    shares = [sum(a <= v < b for v in values) / 4000 for a, b in pairwise((1e-4, 1e-3, 1e-2, 1e-1, 1.01))]
    assert all(abs(share - 0.25) < 0.035 for share in shares)  # 5 standard deviations


@pytest.mark.parametrize("space", [conditional, optimisation])
def test_optuna_answers_what_a_space_asks(space: Space) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        values = space(trial)
        assert replayed(space, trial.params) == (trial.params, values)


@given(
    st.integers(-30, 30),
    st.sampled_from([0.1, 0.3, 0.05, 0.7, 1 / 3, 1e-7, 2.5]),
    st.integers(0, 40),
    st.floats(0, 0.9),
)
def test_no_value_of_a_range_with_steps_is_lost(first: int, step: float, last: int, over: float) -> None:
    low, high = first * step, (first + last) * step + over * step

    def space(trial: Trial) -> dict[str, Any]:
        return {"x": trial.suggest_float("x", low, high, step=step)}

    values = questions(space)["x"].values
    assert values is not None
    with warnings.catch_warnings():  # Optuna remarks that the steps do not end at `high`
        warnings.simplefilter("ignore", UserWarning)
        theirs = optuna.distributions.FloatDistribution(low, high, step=step)
    assert len(values) == round((theirs.high - theirs.low) / step) + 1
    for i, value in enumerate(values):
        assert theirs._contains(value)
        computed = float(np.clip(theirs.low + i * step, theirs.low, theirs.high))  # as samplers do, with its rounding
        found = replayed(space, {"x": computed})
        assert found == ({"x": value}, {"x": value})
    assert replayed(space, {"x": low + 0.4 * step}) is None
    assert replayed(space, {"x": low - step}) is None
    assert replayed(space, {"x": values[-1] + step}) is None


def test_a_long_range_with_steps_is_drawn_on_its_steps() -> None:
    question = Question(low=0.0, high=10_000.0, step=0.1)
    assert question.values is None
    dice = random.Random(0)
    drawn_there = [question.draw(dice) for _ in range(50)]
    assert all(question.holds(value) and value == float(f"{value:.1f}") for value in drawn_there)
    assert not question.holds(0.25)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=0.001", {"lr": (1e-3,)}),
        ("lr=1e-3,2e-3", {"lr": (1e-3, 2e-3)}),
        ("batch_size=16,32", {"batch_size": (16, 32)}),
    ],
)
def test_a_question_is_narrowed_to_values(text: str, expected: dict[str, tuple[Any, ...]]) -> None:
    name, _, values = text.partition("=")
    asked = questions(narrowed(optimisation, {name: values}))
    assert {name: asked[name].choices} == expected
    assert asked.keys() == questions(optimisation).keys()


def test_a_question_is_narrowed_to_a_range() -> None:
    asked = questions(narrowed(optimisation, {"lr": "1e-3:2e-3"}))["lr"]
    assert (asked.low, asked.high, asked.log) == (1e-3, 2e-3, True)
    assert questions(narrowed(conditional, {"n": "2:3"}))["n"].values == (2, 3)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("lr", "fast", "axis lr: 'fast' is not a positive number"),
        ("lr", "0", "not a positive number"),
        ("lr", "2e-3:1e-3", "empty range"),
        ("warmup", "nan", "not a number"),
        ("batch_size", "12", "unknown value '12'"),
        ("n", "1.5", "not a whole number"),
    ],
)
def test_what_narrows_nothing_is_refused(name: str, text: str, message: str) -> None:
    space = conditional if name == "n" else optimisation
    with pytest.raises(ValueError, match=message):
        questions(narrowed(space, {name: text}))


def test_one_name_asks_one_question() -> None:
    def twice(trial: Trial) -> dict[str, Any]:
        return {"a": trial.suggest_int("a", 0, 1) + trial.suggest_int("a", 0, 2)}

    with pytest.raises(ValueError, match="asks for a twice"):
        leaves(twice)
