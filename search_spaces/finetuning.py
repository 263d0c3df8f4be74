"""Choices of fine-tuning: which model, which task, how fast, how long."""

from __future__ import annotations

from typing import Any

from search_spaces.axis import Axis, choices, names, numbers, suited


def models(*values: Any) -> Axis:
    """An axis of pretrained models, by recipe name, local folder or hub id."""
    return names(*values, form="a recipe's name, a hub id, or a local folder")


def tasks(*values: Any) -> Axis:
    """An axis of tasks, by registered name, hub id, or local path."""
    return names(*values, form="a registered name, a hub id, or a local file or folder")


def schemes(*values: Any) -> Axis:
    """An axis of how redrawn weights are drawn."""
    from plm.inits.reinit import SCHEMES

    return choices(*values, known=SCHEMES)


def learning_rates(*values: Any) -> Axis:
    """An axis of peak learning rates."""
    return numbers(*values, form="a positive learning rate")


def layer_norms(*values: str) -> Axis:
    """An axis of what becomes of the norms of redrawn layers."""
    from plm.inits.reinit import LAYER_NORMS

    return choices(*values, known=LAYER_NORMS)


def multiples(*values: float) -> Axis:
    """An axis of rates for redrawn layers, in multiples of the others' rate."""
    return numbers(*values, form="a positive multiple of the learning rate")


def durations(*values: Any) -> Axis:
    """An axis of training lengths."""
    return Axis(values, _parse, "epochs:3, steps:450 or tokens:1e6", suited)


def _parse(text: str) -> tuple[str, ...]:
    from plm.duration import parse

    return (str(parse(text)),)
