"""What a trained model is worth on its evaluation split: the metrics, and every example's prediction.

The predictions are kept so that every score can be recomputed and every comparison paired.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from plm.build import seeded
from plm.data.collate import Stream
from plm.metrics import METRICS, roc_area
from plm.objectives import Objective, Scored
from plm.parallel import group, rounds
from plm.predictions import predicted
from plm.spec import RunSpec

EVALUATIONS = 8
"""How often a pretraining run is evaluated, about."""
EVALUATION_NOISE = 0
"""Seed of what an objective draws while it is evaluated: the same for all runs, so that their losses compare."""


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name, and a record for each evaluated sequence, by ascending id."""

    metrics: dict[str, float]
    predictions: list[dict[str, Any]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Sums:
    """What an evaluated batch adds to the evaluation, by component."""

    losses: dict[str, float]
    counts: dict[str, int]
    right: dict[str, int]
    of: dict[str, int]
    """How many predictions the `right` ones are out of; and under `bytes`, how much text was predicted, if known."""
    judged: dict[str, NDArray[np.float64]]
    """(K, 2) score and label of each prediction, where positive labels are rare."""
    records: list[dict[str, Any]]


def _summed(objective: Objective, batch: dict[str, Tensor], scored: dict[str, Scored]) -> _Sums:
    on_cpu = {name: part.cpu() for name, part in scored.items()}
    shares = {key: share for name, part in on_cpu.items() for key, share in part.shares(name).items()}
    return _Sums(
        {name: float(part.loss.sum()) for name, part in on_cpu.items()},
        objective.counts(batch),
        {key: right for key, (right, _) in shares.items()},
        {key: of for key, (_, of) in shares.items()}
        | ({"bytes": int(batch["bytes"].sum())} if "bytes" in batch else {}),
        {
            name: torch.stack([part.outputs[:, 0].double(), part.positive.double()], 1).numpy()
            for name, part in on_cpu.items()
            if part.outputs is not None and part.positive is not None
        },
        objective.predictions(batch, on_cpu),
    )


def _by_text(stream: Stream, records: list[dict[str, Any]]) -> dict[str, float]:
    """Perplexity on each text of a mixture: a mean over all of them hides what is forgotten."""
    texts, ids = stream.texts(), np.array([record["id"] for record in records])
    found = {}
    for (name, first), (_, last) in pairwise([*texts, ("", math.inf)]):
        own = [records[i] for i in np.flatnonzero((ids >= first) & (ids < last))]
        if count := sum(record["label"] for record in own):  # of a short text nothing may be masked
            found[f"val/perplexity/{name}"] = _perplexity(sum(record["logits"][0] for record in own) / count)
    return found


def _of_others(component: str, read: dict[str, list[_Sums]]) -> dict[str, float]:
    """Perplexity on each text that is evaluated beside the run's own."""
    found = {}
    for name, parts in read.items():
        if count := sum(part.counts[component] for part in parts):
            found[f"val/perplexity/{name}"] = _perplexity(sum(part.losses[component] for part in parts) / count)
    return found


def _perplexity(nats: float) -> float:
    return math.exp(min(nats, 700.0))  # beyond is not a float


def _read(scorer: nn.Module, spec: RunSpec, batches: Iterator[dict[str, Tensor]]) -> list[_Sums]:
    """What the batches of an evaluation add up to, each process of a group having read its share."""
    device, among, found = next(scorer.parameters()).device, group(), []
    for batch, counted in rounds(list(batches), among):
        with seeded(EVALUATION_NOISE), torch.autocast(device.type, torch.bfloat16, enabled=spec.dtype == "bfloat16"):
            scored = scorer({name: tensor.to(device) for name, tensor in batch.items()})
        if counted:
            found.append(_summed(spec.objective, batch, scored))
    return among.gathered(found)


@torch.no_grad()
def evaluate(scorer: nn.Module, spec: RunSpec, stream: Stream) -> Evaluation:
    """Score a model on the run's evaluation split, each process of a group its share of the batches.

    The model is left in training mode as it was found. Where the loss is not a number nothing is scored.

    Args:
        scorer: What `plm.parallel.spread` gave.
    """
    was_training, objective = scorer.training, spec.objective
    scorer.eval()
    among_all = _read(scorer, spec, stream.evaluation())
    beside = {name: _read(scorer, spec, batches) for name, batches in stream.beside()}
    scorer.train(was_training)
    losses, counts, right, of = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    records = []
    for part in among_all:
        losses.update(part.losses)  # a Counter adds up floats too
        counts.update(part.counts)
        right.update(part.right)
        of.update(part.of)
        records += part.records
    records.sort(key=lambda record: record["id"])
    parts = {name: losses[name] / max(1, counts[name]) for name in objective.components}
    loss = sum(parts[name] * weight for name, weight in objective.weights.items())
    metrics = {"val/loss": loss}
    if len(parts) > 1:
        metrics |= {f"val/{name}": value for name, value in parts.items()}
    if objective.language is not None:
        metrics["val/perplexity"] = _perplexity(parts[objective.language])
        if objective.language == objective.components[0]:  # what the records hold
            metrics |= _by_text(stream, records)
        metrics |= _of_others(objective.language, beside)
        if of["bytes"]:
            metrics["val/bits_per_byte"] = losses[objective.language] / math.log(2) / of["bytes"]
    metrics |= {f"val/{key}": right[key] / of[key] for key in right if of[key]}
    for name in among_all[0].judged:
        scores, positive = np.concatenate([part.judged[name] for part in among_all]).T
        if math.isfinite(loss) and 0 < positive.sum() < len(positive):
            metrics[f"val/{name}_auc"] = roc_area(scores, positive)
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
