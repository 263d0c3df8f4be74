"""A space: a function of a trial that asks for one value after the other, so that a choice may depend on those before it.

A grid lists its cells, a space answers a sampler. What a space may ask is `Trial`, the part of Optuna's trial that every
sampler has; here are the trials that need no sampler: one that answers by rule (to enumerate, to check a known answer, to
describe), and one that narrows another's questions to what the command line says.
"""

from __future__ import annotations

import inspect
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol, cast

LARGEST = 4096
"""A finite space with more configurations than this is treated as endless: it is not listed."""
NEAR = 1e-8
"""How far from a step, in steps, a number may lie that a sampler has computed and stands for it; Optuna's tolerance."""


class Trial(Protocol):
    """What a space may ask; both ends of a range belong to it."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


Space = Callable[[Trial], dict[str, Any]]
"""From a trial to the values of axes; an axis it leaves out keeps `run`'s default."""
TiedSpace = Callable[[Trial, Mapping[str, Any]], dict[str, Any]]
"""A space that is also told a point, what the search holds fixed: the layers to choose from are those of its model."""
Answers = dict[str, Any]
"""Name of a question -> the value that was given."""


@dataclass(frozen=True)
class Question:
    """One of some choices, or a number in a range."""

    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        if self.choices:
            return ", ".join(map(str, self.choices))
        return f"{self.low:g}:{self.high:g}" + (", logarithmic" if self.log else "")

    @property
    def values(self) -> tuple[Any, ...] | None:
        """All values; None: a continuum, or too many to list."""
        if self.choices:
            return self.choices
        if not self._count:
            return (self.low,) if self.low == self.high else None
        return tuple(map(self._at, range(self._count))) if self._count <= LARGEST else None

    @property
    def _count(self) -> int:
        """How many values a range with steps has; 0: it has none. In decimals, as Optuna counts."""
        step = self.step or (1 if self.whole else None)
        return int((_decimal(self.high) - _decimal(self.low)) // _decimal(step)) + 1 if step else 0

    def _at(self, i: int) -> Any:
        """The i-th value of a range with steps: what is written so, 0.3 and not 0.1 + 0.2."""
        value = _decimal(self.low) + i * _decimal(self.step or 1)
        return int(value) if self.whole else float(value)

    def _place(self, value: Any) -> float:
        return float((value - self.low) / (self.step or 1))

    def holds(self, value: Any) -> bool:
        """Whether a value is an answer; beside a step by rounding is on it."""
        if self.choices:
            return any(type(v) is type(value) and v == value for v in self.choices)
        if type(value) is not (int if self.whole else float):
            return False
        if not self._count:
            return bool(self.low <= value <= self.high)
        place = self._place(value)
        return abs(place - round(place)) < NEAR and 0 <= round(place) < self._count

    def exact(self, value: Any) -> Any:
        """The answer that a value which is one stands for: each has one spelling."""
        return self._at(round(self._place(value))) if self._count and not self.choices else value

    def draw(self, dice: random.Random) -> Any:
        """A value at random."""
        if (values := self.values) is not None:
            return dice.choice(values)
        if self._count and not self.log:
            return self._at(dice.randrange(self._count))
        if self.log:
            value = math.exp(dice.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = dice.uniform(self.low, self.high)
        return round(value) if self.whole else min(max(value, self.low), self.high)

    def ask(self, trial: Trial, name: str) -> Any:
        """Put the question to a trial."""
        if self.choices:
            return trial.suggest_categorical(name, self.choices)
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def narrowed(self, text: str) -> Question:
        """The question with the values of a text (`0.1`, `8,16` or `1e-4:1e-2`) instead of its own.

        Raises:
            ValueError: not of that form, not among the choices, or an empty range.
        """
        if self.choices:
            return Question(choices=tuple(dict.fromkeys(self._choice(item.strip()) for item in text.split(","))))
        low, colon, high = text.partition(":")
        if not colon:
            return Question(choices=tuple(dict.fromkeys(self._number(item) for item in text.split(","))))
        ends = self._number(low), self._number(high)
        if not ends[0] <= ends[1]:
            raise ValueError(f"{text!r} is an empty range: write the smaller end first.")
        return replace(self, low=ends[0], high=ends[1])

    def _choice(self, text: str) -> Any:
        from plm.registry import unknown

        found = {str(choice): choice for choice in self.choices}
        if text not in found:
            raise unknown("value", text, found)
        return found[text]

    def _number(self, text: str) -> Any:
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (self.log and value <= 0):
            kind = ("a positive " if self.log else "a ") + ("whole number" if self.whole else "number")
            raise ValueError(f"{text!r} is not {kind}, or a range from:to, both ends included.")
        return value


def _decimal(value: float) -> Decimal:
    return Decimal(str(value))


class _Asked(ABC):
    """A trial to which every kind of question is a `Question`."""

    @abstractmethod
    def answer(self, name: str, question: Question) -> Any:
        """The value."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self.answer(name, Question(low=float(low), high=float(high), step=step, log=log))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self.answer(name, Question(low=low, high=high, step=step, log=log, whole=True))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.answer(name, Question(choices=tuple(choices)))


class Ruled(_Asked):
    """A trial that answers by a rule and remembers what it was asked."""

    def __init__(self, rule: Callable[[str, Question], Any]) -> None:
        self._rule = rule
        self.questions: dict[str, Question] = {}
        self.answers: Answers = {}

    def answer(self, name: str, question: Question) -> Any:
        if self.questions.setdefault(name, question) != question:
            raise ValueError(f"the space asks for {name} twice, as {self.questions[name]} and as {question}.")
        if name not in self.answers:
            self.answers[name] = self._rule(name, question)
        return self.answers[name]


class _Narrowed(_Asked):
    """A trial whose questions are narrowed before another answers them."""

    def __init__(self, trial: Trial, given: Mapping[str, str]) -> None:
        self._trial, self._given = trial, given

    def answer(self, name: str, question: Question) -> Any:
        if name in self._given:
            try:
                question = question.narrowed(self._given[name])
            except ValueError as error:
                raise ValueError(f"axis {name}: {error}") from error
        return question.ask(self._trial, name)


def tied(space: Space | TiedSpace, point: Callable[[], Mapping[str, Any]]) -> Space:
    """The space at a point, which is made only if the space asks for one."""
    if len(inspect.signature(space).parameters) == 1:
        return cast(Space, space)
    there = point()
    return lambda trial: cast(TiedSpace, space)(trial, there)


def narrowed(space: Space, given: Mapping[str, str]) -> Space:
    """The space with some of its questions narrowed to what a text says of them."""
    return (lambda trial: space(_Narrowed(trial, given))) if given else space


def drawn(space: Space, count: int, seed: int = 0) -> Iterator[Ruled]:
    """Random walks through a space: their questions and answers."""
    for i in range(count):
        dice = random.Random(f"{seed} {i}")
        trial = Ruled(lambda name, question, dice=dice: question.draw(dice))  # type: ignore[misc]
        space(trial)
        yield trial


def questions(space: Space, walks: int = 64) -> dict[str, Question]:
    """What a space asks, found by random walks: a branch that is taken once in thousands may be missed."""
    return {name: question for trial in drawn(space, walks) for name, question in trial.questions.items()}


def replayed(space: Space, answers: Answers) -> tuple[Answers, dict[str, Any]] | None:
    """The answers that a space asks for, and the axes' values they give; None: they do not lie in the space."""

    def rule(name: str, question: Question) -> Any:
        if name not in answers or not question.holds(answers[name]):
            raise LookupError(name)
        return question.exact(answers[name])

    trial = Ruled(rule)
    try:
        values = space(trial)
    except LookupError:
        return None
    return trial.answers, values


def leaves(space: Space, limit: int = LARGEST) -> list[Answers] | None:
    """All configurations of a finite space; None: it is endless, or has more than `limit`."""
    found: list[Answers] = []
    pending: list[Answers] = [{}]
    while pending:
        given = pending.pop()
        endless: list[str] = []

        def rule(name: str, question: Question, given: Answers = given, endless: list[str] = endless) -> Any:
            if name in given:
                return given[name]
            if question.values is None:
                endless.append(name)
                return question.low
            return question.values[0]

        trial = Ruled(rule)
        space(trial)
        if endless:
            return None
        found.append(trial.answers)
        so_far: Answers = {}
        for name, answer in trial.answers.items():
            if name not in given:
                pending += [{**so_far, name: other} for other in (trial.questions[name].values or ())[1:]]
            so_far[name] = answer
        if len(found) + len(pending) > limit:
            return None
    return found
