"""What a trained model is worth on its evaluation split: the metrics, and every example's prediction.

The predictions are kept so that every score can be recomputed and every comparison paired.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from plm.data.collate import Stream
from plm.metrics import METRICS
from plm.spec import RunSpec


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name, and a record for each evaluated sequence, by ascending id."""

    metrics: dict[str, float]
    predictions: list[dict[str, Any]]
    notes: tuple[str, ...] = ()


@torch.no_grad()
def evaluate(model: PreTrainedModel, spec: RunSpec, stream: Stream) -> Evaluation:
    """Score a model on the run's evaluation split. It is left in training mode as it was found."""
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
    if task is None:
        return Evaluation(metrics, records)
    predictions, labels = predicted(records), np.array([r["label"] for r in records])
    scores = {f"val/{name}": METRICS[name].score(predictions, labels) for name in task.metrics}
    notes = [f"{name} is undefined for a constant prediction; 0 by declaration"
             for name in task.metrics if METRICS[name].undefined(predictions)]
    return Evaluation(metrics | {"val/score": scores[f"val/{task.metrics[0]}"]} | scores, records, tuple(notes))


def predicted(records: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Predicted class (the first of the largest logits), or the value where there is one output."""
    logits = np.array([r["logits"] for r in records], dtype=float)
    return logits[:, 0] if logits.shape[1] == 1 else logits.argmax(1).astype(float)


def to_parquet(records: list[dict[str, Any]]) -> bytes:
    """`predictions.parquet`: id, label, logits."""
    sink = io.BytesIO()
    schema = pa.schema([("id", pa.int64()), ("label", pa.float64()), ("logits", pa.list_(pa.float32()))])
    pa.parquet.write_table(pa.Table.from_pylist(records, schema), sink, compression="zstd")
    return sink.getvalue()


def from_parquet(data: bytes) -> list[dict[str, Any]]:
    """Read `predictions.parquet`."""
    return pa.parquet.read_table(io.BytesIO(data)).to_pylist()
