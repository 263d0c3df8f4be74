"""How many of a model's layers are kept, from the input side."""

from __future__ import annotations

from search_spaces.axis import Axis, Point

EACH = "each"


def depths(*values: int | str) -> Axis:
    """An axis of numbers of layers; `each` is every one from none to all there are."""
    return Axis(values, _parse, "whole numbers, or each", _expand)


def _parse(text: str) -> tuple[int | str, ...]:
    if text != EACH and not text.isdecimal():
        raise ValueError(f"{text!r} is not a number of layers: write a whole number, or {EACH}.")
    return (text if text == EACH else int(text),)


def _expand(value: int | str, point: Point) -> tuple[int, ...]:
    from plm.models import shape
    from plm.recipes import model

    there = shape(model(point["model"])).num_hidden_layers
    if isinstance(value, int) and value > there:
        raise ValueError(f"{value} layers: {point['model']} has {there}.")
    return (value,) if isinstance(value, int) else tuple(range(there + 1))
