"""Choices of pretraining: which recipe, and how it is optimised."""

from __future__ import annotations

from typing import Any

from search_spaces.axis import Axis, choices
from search_spaces.space import Trial


def recipes(*values: str) -> Axis:
    """An axis of pretraining recipes of ours, by name."""
    from plm.recipes import NAMED

    return choices(*values, known=tuple(NAMED))


def optimisation(trial: Trial) -> dict[str, Any]:
    """Learning rate, warm-up, batch size and weight decay, over what BERT-like models of all sizes were trained with.

    The warm-up is a share of the steps, because at equal tokens their number depends on the batch size.
    """
    return {
        "lr": trial.suggest_float("lr", 1e-4, 1e-2, log=True),
        "warmup": trial.suggest_float("warmup", 0.0, 0.3),
        "batch_size": trial.suggest_categorical("batch_size", (8, 16, 32)),
        "weight_decay": trial.suggest_float("weight_decay", 1e-3, 0.3, log=True),
    }
