"""What a trained model is worth on its evaluation split: the metrics, and every example's prediction.

The predictions are kept so that every score can be recomputed and every comparison paired.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from plm.data.collate import Stream
from plm.metrics import METRICS
from plm.predictions import predicted
from plm.spec import RunSpec


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name, and a record for each evaluated sequence, by ascending id."""

    metrics: dict[str, float]
    predictions: list[dict[str, Any]]
    notes: tuple[str, ...] = ()


@torch.no_grad()
def evaluate(model: PreTrainedModel, spec: RunSpec, stream: Stream) -> Evaluation:
    """Score a model on the run's evaluation split. It is left in training mode as it was found.

    Where the loss is not a number nothing is scored.
    """
    was_training, objective = model.training, spec.objective
    model.eval()
    device = next(model.parameters()).device
    losses, counts, right = Counter[str](), Counter[str](), Counter[str]()
    records = []
    for batch in stream.evaluation():
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=spec.dtype == "bfloat16"):
            scored = objective.losses(model, batch)
        counts.update(objective.counts(batch))
        for name, part in scored.items():
            losses[name] += float(part.loss.sum())  # type: ignore[assignment]  # a Counter adds up floats too
            if part.right is not None:
                right[name] += int(part.right.sum())
        records += objective.predictions(batch, scored)
    model.train(was_training)
    records.sort(key=lambda record: record["id"])
    parts = {name: losses[name] / max(1, counts[name]) for name in objective.components}
    loss = sum(parts[name] * weight for name, weight in objective.weights.items())
    metrics = {"val/loss": loss}
    if len(parts) > 1:
        metrics |= {f"val/{name}": value for name, value in parts.items()}
    metrics |= {f"val/{name}_accuracy": right[name] / max(1, counts[name]) for name in right}
    task = getattr(spec.data, "task", None)
    if task is None or not math.isfinite(loss):
        return Evaluation(metrics, records)
    predictions, labels = predicted(records), np.array([r["label"] for r in records])
    scores = {f"val/{name}": METRICS[name].score(predictions, labels) for name in task.metrics}
    notes = [
        f"{name} is undefined for a constant prediction; 0 by declaration"
        for name in task.metrics
        if METRICS[name].undefined(predictions)
    ]
    return Evaluation(metrics | {"val/score": scores[f"val/{task.metrics[0]}"]} | scores, records, tuple(notes))
