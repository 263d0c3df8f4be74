"""Orders of a model's layers: the seed of a permutation, the layers by number, or what a permuted model is compared with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from search_spaces.axis import Axis
from search_spaces.seeds import MOST

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
    from plm.inits.permute import LARGEST
    from plm.inits.reinit import SCHEMES
    from plm.registry import unknown

    if text == OWN or re.fullmatch(r"\d+(-\d+)+", text):
        return (text,)
    if text.startswith(REDRAWN):
        if text.removeprefix(REDRAWN) not in SCHEMES:
            raise unknown("scheme", text.removeprefix(REDRAWN), SCHEMES)
        return (text,)
    first, colon, end = text.partition(":")
    if not re.fullmatch(r"\d+(:\d+)?", text) or (colon and int(first) >= int(end)):
        raise ValueError(f"{text!r} is not an order of layers: write {FORM}.")
    seeds = range(int(first), int(end) if colon else int(first) + 1)
    if seeds.stop - seeds.start > MOST:
        raise ValueError(f"{text!r} are {seeds.stop - seeds.start:,} orders: a sweep takes {MOST:,} at most.")
    if seeds[-1] > LARGEST:
        raise ValueError(f"{text!r}: the seeds of permutations are 0 to {LARGEST}.")
    return tuple(map(str, seeds))
