"""Scores of predictions against labels, and the names, units and directions of every number a run reports.

Reported scores come from scikit-learn and scipy. Beside each stands its weighted form, which scores a thousand
resamples of the examples at once; the tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A score. Higher is better for all of them."""

    low: float
    """Its smallest value; the largest is 1."""
    score: Callable[[Array, Array], float]
    """(predictions (B,), labels (B,)) -> score."""
    weighted: Callable[[Array, Array, Array], Array]
    """(predictions (B,), labels (B,), weights (R, B)) -> scores (R,), each example counted as often as its weight."""
    undefined: Callable[[Array], bool] = lambda predictions: False
    """Whether a set of predictions has no such score, so that 0 stands by declaration."""


def _accuracy(predictions: Array, labels: Array) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def _f1(predictions: Array, labels: Array) -> float:
    from sklearn.metrics import f1_score

    if _average(labels) == "binary":  # a third class that is only ever predicted is not class 1
        return float(f1_score(labels == 1, predictions == 1, zero_division=0))
    return float(f1_score(labels, predictions, average="macro", zero_division=0))


def _average(labels: Array) -> str:
    """F1 of class 1 where there are two classes (as in GLUE), otherwise the mean over classes."""
    return "binary" if set(np.unique(labels)) <= {0.0, 1.0} else "macro"


def _matthews(predictions: Array, labels: Array) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def _pearson(predictions: Array, labels: Array) -> float:
    from scipy.stats import pearsonr

    return 0.0 if _constant(predictions) or _constant(labels) else float(pearsonr(predictions, labels).statistic)


def _spearman(predictions: Array, labels: Array) -> float:
    from scipy.stats import spearmanr

    return 0.0 if _constant(predictions) or _constant(labels) else float(spearmanr(predictions, labels).statistic)


def roc_area(scores: Array, positive: Array) -> float:
    """How often a positive example scores higher than another (ties count half): chance is 0.5, however rare they are."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, scores))


def _constant(values: Array) -> bool:
    return bool(np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())))


# Weighted forms: all resamples in one pass, as products of the weights with per-example quantities.


def weighted_accuracy(predictions: Array, labels: Array, weights: Array) -> Array:
    """Share of the weight on right predictions."""
    return weights @ (predictions == labels).astype(float) / weights.sum(1)


def _counts(predictions: Array, labels: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Per resample and class: predicted, labelled, and both (R, C)."""
    classes = np.union1d(predictions, labels)
    is_predicted, is_label = (v[:, None] == classes for v in (predictions, labels))
    return weights @ is_predicted, weights @ is_label, weights @ (is_predicted & is_label)


def weighted_f1(predictions: Array, labels: Array, weights: Array) -> Array:
    """F1 of class 1 where there are two classes, otherwise the mean over the classes that occur; 0 for 0/0."""
    if _average(labels) == "binary":
        predictions, labels = (np.where(v == 1, 1.0, 0.0) for v in (predictions, labels))
        hits = weights @ ((predictions == 1) & (labels == 1))
        return _ratio(2 * hits, weights @ (predictions == 1) + weights @ (labels == 1))
    predicted, labelled, both = _counts(predictions, labels, weights)
    occurs = (predicted + labelled) > 0
    return (_ratio(2 * both, predicted + labelled) * occurs).sum(1) / occurs.sum(1)


def weighted_matthews(predictions: Array, labels: Array, weights: Array) -> Array:
    """Matthews correlation of any number of classes (Gorodkin 2004); 0 where a side is constant."""
    predicted, labelled, both = _counts(predictions, labels, weights)
    n = weights.sum(1)
    covariance = both.sum(1) * n - (predicted * labelled).sum(1)
    spread = (n**2 - (predicted**2).sum(1)) * (n**2 - (labelled**2).sum(1))
    return _ratio(covariance, np.sqrt(spread))


def weighted_pearson(predictions: Array, labels: Array, weights: Array) -> Array:
    """Pearson correlation; 0 where a side is constant."""
    x, y = predictions - predictions.mean(), labels - labels.mean()
    if _constant(predictions) or _constant(labels):
        return np.zeros(len(weights))
    n = weights.sum(1)
    mean_x, mean_y = weights @ x / n, weights @ y / n
    covariance = weights @ (x * y) / n - mean_x * mean_y
    spread_x, spread_y = (_spread(weights @ v**2 / n, mean) for v, mean in ((x, mean_x), (y, mean_y)))
    return np.clip(_ratio(covariance, np.sqrt(spread_x * spread_y)), -1, 1)


def _spread(mean_square: Array, mean: Array) -> Array:
    """Variance; 0, not what rounding leaves of it, where all weight is on equal values."""
    variance = mean_square - mean**2
    return np.where(variance > 1e-12 * mean_square, variance, 0.0)


def weighted_spearman(predictions: Array, labels: Array, weights: Array) -> Array:
    """Pearson correlation of the ranks within each resample."""
    scores = np.empty(len(weights))
    for r, w in enumerate(weights):
        scores[r] = weighted_pearson(_ranks(predictions, w), _ranks(labels, w), w[None])[0]
    return scores


def _ranks(values: Array, weights: Array) -> Array:
    """Mid-ranks of values that occur `weights` times each."""
    _, group = np.unique(values, return_inverse=True)
    size = np.bincount(group, weights)
    return (np.cumsum(size) - size / 2)[group]


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros_like(above, dtype=float), where=below > 0)


METRICS = {
    "accuracy": Metric(0, _accuracy, weighted_accuracy),
    "f1": Metric(0, _f1, weighted_f1),
    "matthews": Metric(-1, _matthews, weighted_matthews, _constant),
    "pearson": Metric(-1, _pearson, weighted_pearson, _constant),
    "spearman": Metric(-1, _spearman, weighted_spearman, _constant),
}

REPORTED = {
    "train/loss": ("nats per predicted token, or squared error", "min"),
    "train/grad_norm": ("global norm before clipping", "none"),
    "train/lr": ("learning rate", "none"),
    "train/tokens": ("input tokens seen", "none"),
    "speed/tokens_per_second": ("input tokens a second, evaluation and waiting aside", "max"),
    "speed/mfu": ("share of the device's FLOP/s that the model's own products use", "max"),
    "speed/peak_memory": ("bytes", "min"),
    "val/loss": ("nats per predicted token or example, or squared error", "min"),
    "val/score": ("the task's first metric", "max"),
    "val/perplexity": ("exponential of the language model's nats per predicted token", "min"),
    "val/bits_per_byte": ("bits per byte of text, where the tokenizer keeps all of it", "min"),
    "val/mlm": ("nats per masked token", "min"),
    "val/mlm_accuracy": ("share of the masked tokens that are predicted right", "max"),
    "val/clm_accuracy": ("share of the next tokens that are predicted right", "max"),
    "val/nsp": ("nats per pair of segments: does the second follow?", "min"),
    "val/nsp_accuracy": ("share of the pairs that are judged right; chance is 0.5", "max"),
    "val/sop": ("nats per pair of segments: are they in order?", "min"),
    "val/sop_accuracy": ("share of the pairs that are judged right; chance is 0.5", "max"),
    "val/generator": ("nats per masked token of the generator", "min"),
    "val/generator_accuracy": ("share of the masked tokens that the generator predicts right", "max"),
    "val/rtd": ("nats per judged token: was it replaced?", "min"),
    "val/rtd_accuracy": ("share of the tokens that are judged right; saying no always is right for most", "max"),
    "val/rtd_auc": ("area under the ROC curve of judging tokens replaced; chance is 0.5", "max"),
    "val/rtd_recall": ("share of the replaced tokens that are found", "max"),
    "val/rtd_specificity": ("share of the other tokens that are left alone", "max"),
} | {f"val/{name}": (f"{name}, from {metric.low:g} to 1", "max") for name, metric in METRICS.items()}
"""Metric name -> (unit, direction)."""
