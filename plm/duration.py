"""How long a run trains, with its unit.

A `Duration` is what the experimenter meant (three epochs, a billion tokens); optimizer steps are what the loop counts.
The conversion needs the data size, so it happens once the data is known, never in the experiment file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

UNITS = ("steps", "epochs", "tokens")


@dataclass(frozen=True)
class Duration:
    """An amount of training. Write `steps(450)`, `epochs(3)` or `tokens(1e9)`."""

    kind: ClassVar[str] = "duration"
    amount: float
    """Positive; whole for steps and tokens, any fraction for epochs."""
    unit: str
    """One of `UNITS`."""

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"a duration in {self.unit!r}: the units are {', '.join(UNITS)}.")
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise ValueError(f"a duration of {self.amount} {self.unit}: it must be a positive number.")
        if self.unit != "epochs" and self.amount != int(self.amount):
            raise ValueError(f"a duration of {self.amount} {self.unit}: {self.unit} come in whole numbers.")
        object.__setattr__(self, "amount", float(self.amount))

    def __str__(self) -> str:
        return f"{self.unit}:{int(self.amount) if self.amount.is_integer() else self.amount}"

    def in_steps(self, *, num_examples: int, batch_size: int, seq_len: int) -> int:
        """Optimizer steps, at least one.

        An epoch is `ceil(num_examples / batch_size)` steps (its last batch may be smaller); a step of tokens is a full
        batch of `batch_size` sequences of `seq_len` tokens, rounded up.
        """
        if self.unit == "steps":
            return int(self.amount)
        if self.unit == "epochs":
            return max(1, round(self.amount * math.ceil(num_examples / batch_size)))
        return math.ceil(self.amount / (batch_size * seq_len))


def steps(amount: float) -> Duration:
    """Optimizer steps."""
    return Duration(amount, "steps")


def epochs(amount: float) -> Duration:
    """Passes over the training data."""
    return Duration(amount, "epochs")


def tokens(amount: float) -> Duration:
    """Input tokens of full sequences."""
    return Duration(amount, "tokens")


def parse(text: str) -> Duration:
    """Read `epochs:3`, `steps:450` or `tokens:1e9`.

    Raises:
        ValueError: not of that form, or not a positive amount.
    """
    unit, colon, amount = text.partition(":")
    try:
        return Duration(float(amount), unit)
    except ValueError as error:
        if colon and unit in UNITS and amount.replace(".", "").replace("e", "").replace("-", "").isdigit():
            raise
        raise ValueError(
            f"{text!r} is not a duration: write a unit and an amount, such as epochs:3 or steps:450."
        ) from error
