"""An axis: the values a sweep looks through, how one is written on the command line, and what a symbolic one expands to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plm.names import parted

Point = Mapping[str, Any]
"""Axis name -> value, for the axes before this one."""


@dataclass(frozen=True)
class Axis:
    """Values, in order."""

    values: tuple[Any, ...]
    parse: Callable[[str], tuple[Any, ...]]
    """One item of the command line to values; raises ValueError for what it is not."""
    form: str
    """How an item is written, for `--help` and messages."""
    expand: Callable[[Any, Point], tuple[Any, ...]] = lambda value, point: (value,)
    """A value, symbolic or not, to concrete ones, given the axes before."""
    choose: Callable[[tuple[Any, ...], Point], tuple[Any, ...]] = lambda values, point: values
    """Of all concrete values those that mean something, given the axes before."""

    def read(self, text: str) -> Axis:
        """The axis with the values of a comma-separated text instead of its own."""
        values = tuple(v for item in text.split(",") for v in self.parse(item.strip()))
        return replace(self, values=tuple(dict.fromkeys(values)))


@dataclass(frozen=True)
class Suited:
    """A symbolic value that depends on the model: one for the embedded default's, another for all others."""

    embedded: tuple[Any, ...]
    otherwise: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.embedded))} (other models: {', '.join(map(str, self.otherwise))})"


@dataclass(frozen=True)
class By:
    """A symbolic value that depends on the value of an axis before; what it stands for may be symbolic again."""

    axis: str
    values: Mapping[Any, tuple[Any, ...]]

    def __str__(self) -> str:
        return "; ".join(f"{', '.join(map(str, own))} ({self.axis} {given})" for given, own in self.values.items())


def suited(value: Any, point: Point) -> tuple[Any, ...]:
    """Expand `Suited` by the point's model or trajectory and `By` by its axis; leave other values alone."""
    from plm.recipes import NAMED

    if isinstance(value, Suited):
        chosen = value.embedded if point["model" if "model" in point else "trajectory"] in NAMED else value.otherwise
    elif isinstance(value, By):
        chosen = value.values[point[value.axis]]
    else:
        return (value,)
    return tuple(concrete for each in chosen for concrete in suited(each, point))


def numbers(*values: Any, form: str, smallest: float = 0.0) -> Axis:
    """An axis of positive real numbers."""

    def parse(text: str) -> tuple[float, ...]:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not smallest < value < float("inf"):
            raise ValueError(f"{text!r} is not {form}.")
        return (value,)

    return Axis(values, parse, form, suited)


def choices(*values: Any, known: tuple[str, ...]) -> Axis:
    """An axis of a few known names."""

    def parse(text: str) -> tuple[str, ...]:
        from plm.registry import unknown

        if text not in known:
            raise unknown("value", text, known)
        return (text,)

    return Axis(values, parse, ", ".join(known), suited)


def names(*values: Any, form: str) -> Axis:
    """An axis of names or local paths; a path is made absolute, so that one thing has one spelling."""

    def parse(text: str) -> tuple[str, ...]:
        if not text:
            raise ValueError(f"an empty value: write {form}.")
        try:
            path = Path(text).expanduser()
            return (str(path.resolve()) if path.exists() else text,)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{text!r} cannot be looked for: {error}") from error

    return Axis(values, parse, form, suited)


def label(value: Any) -> Any:
    """How a value stands in tables and results: a path by its last part, a table's file without its ending.

    A run's folder of checkpoints stands for the run, a copy of a hub's repository (`models--owner--model`) for that; of `name:path` the path is shortened, of `path+path` each.
    """
    name, colon, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
    if colon and Path(rest).is_absolute():
        return f"{name}:{label(rest)}"
    parts = parted(value, "+") if isinstance(value, str) and "+" in value else []
    if len(parts) > 1 and any(Path(part).is_absolute() for part in parts):
        return "+".join(str(label(part)) for part in parts)
    if not (isinstance(value, str) and Path(value).is_absolute()):
        return value
    if Path(value).name == "checkpoints":
        return Path(value).parent.name
    if Path(value).name.startswith("models--"):
        return Path(value).name.removeprefix("models--").replace("--", "/")
    return (
        Path(value).stem
        if Path(value).suffix in (".parquet", ".conllu", ".jsonl", ".json", ".csv", ".tsv")
        else Path(value).name
    )
