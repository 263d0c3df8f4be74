"""Orders of a model's layers: the seed of a permutation, the layers by number, or what a permuted model is compared with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from search_spaces.axis import Axis

if TYPE_CHECKING:
    from plm.inits import Init

OWN, REDRAWN = "none", "redrawn:"
"""The model as it is; every layer drawn afresh, by a scheme."""
FORM = "seeds of permutations such as 1:11, orders such as 2-0-1-3, none, or redrawn:SCHEME (all layers drawn afresh)"


def orders(*values: str) -> Axis:
    """An axis of orders of the layers."""
    return Axis(tuple(v for value in values for v in _parse(value)), _parse, FORM)


def is_permutation(order: str) -> bool:
    """Whether an order moves layers, rather than being a baseline."""
    return order != OWN and not order.startswith(REDRAWN)


def rearranged(model: str, order: str, seed: int) -> Init:
    """A model with its layers in an order; `seed` is that of redrawn weights.

    Raises:
        ValueError: not every layer of the model once.
    """
    import plm

    source = plm.model(model)
    if order.startswith(REDRAWN):
        return plm.reinit(source, range(_depth(model)), scheme=order.removeprefix(REDRAWN), seed=seed)
    if order == OWN:
        return plm.permute(source, range(_depth(model)))
    layers = map(int, order.split("-")) if "-" in order else plm.permutation(int(order), _depth(model))
    return plm.permute(source, layers)


def _depth(model: str) -> int:
    import plm

    return plm.shape(plm.model(model)).num_hidden_layers


def _parse(text: str) -> tuple[str, ...]:
    from plm.inits.reinit import SCHEMES
    from plm.registry import unknown

    if text == OWN or re.fullmatch(r"\d+(-\d+)*", text):
        return (text,)
    if text.startswith(REDRAWN):
        if text.removeprefix(REDRAWN) not in SCHEMES:
            raise unknown("scheme", text.removeprefix(REDRAWN), SCHEMES)
        return (text,)
    start, _, end = text.partition(":")
    if not (start.isdecimal() and end.isdecimal() and int(start) < int(end)):
        raise ValueError(f"{text!r} is not an order of layers: write {FORM}.")
    return tuple(map(str, range(int(start), int(end))))
