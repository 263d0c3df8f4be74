"""What a trained model is worth on its evaluation split: the metrics, and every example's prediction.

The predictions are kept so that every score can be recomputed and every comparison paired.
"""

from __future__ import annotations

import math
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
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    loss, count, records = 0.0, 0, []
    for batch in stream.evaluation():
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=spec.dtype == "bfloat16"):
            summed, outputs = spec.objective.loss(model, batch)
        loss, count = loss + float(summed), count + spec.objective.count(batch)
        records += spec.objective.predictions(batch, outputs.float())
    model.train(was_training)
    records.sort(key=lambda record: record["id"])
    metrics = {"val/loss": loss / max(1, count)}
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
