"""What is left of the differences between classes of words when frequency, predictability and class size are taken off.

Two comparisons, one after the other. Within classes: how much likelier a word is to be right that is more frequent, or
less surprising, than others of its class. Between classes: whether classes of more words do better or worse, each class
counting as one; that is a comparison of a dozen things, and no more certain than such. Both are straight lines: a share
brought to another frequency may leave 0 to 1, and of a bent relation a part is not taken off.

Shape letters: R resamples, N rows, C clusters, G groups, K covariates within classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

WITHIN = ("frequency", "before", "after")
"""Columns of rows: see `plm.word_statistics.Statistics`."""
BETWEEN = "log_types"
CLUSTER = "sentence"
COLUMNS = ("right", CLUSTER, "tag", "form", *WITHIN, BETWEEN)
ADJUSTED, EFFECT = "adjusted", "effect"
"""Families of a summary: a class's share of right words, covariates taken off; and what a standard deviation of a
covariate is worth."""

Draws = dict[str, Float[np.ndarray, " R"]]


class _Rows(NamedTuple):
    """What the regression reads."""

    cluster: Int[np.ndarray, " N"]
    group: Int[np.ndarray, "2 N"]
    """Tag and form; -1: none."""
    names: list[str]
    """Of groups; tags come first."""
    tags: int
    x: Float[np.ndarray, "N K"]
    """Covariates within classes, then the one between them; of mean 0 and standard deviation 1."""
    covariates: list[str]
    y: Float[np.ndarray, " N"]


def adjusted(
    columns: Mapping[str, Sequence[Any]],
    clusters: Mapping[Any, int] | None = None,
    weights: Float[np.ndarray, "R C"] | None = None,
) -> Draws:
    """By name of a summary (`adjusted/DET`, `effect/frequency`): its value in each resample.

    A least-squares regression of being right. A class's number is its mean, brought by the slopes to the mean of all words.

    Args:
        columns: `COLUMNS` of rows; those of no answer or no statistics do not count. Empty result: none counts.
        clusters: Sentence -> its column in `weights`.
        weights: How often each cluster is drawn; None: once.
    """
    rows = _read(columns, clusters)
    if rows is None:
        return {}
    if weights is None:
        weights = np.ones((1, int(rows.cluster.max()) + 1))
    count, k = len(rows.names), rows.x.shape[1]
    each = np.column_stack([np.ones(len(rows.y)), rows.x, rows.y])  # what is summed by group
    products = np.einsum("ni,nj->nij", rows.x, np.column_stack([rows.x, rows.y])).reshape(len(rows.y), -1)
    of_group = np.zeros((weights.shape[1], count, k + 2))
    for group in rows.group:
        there = group >= 0
        np.add.at(of_group, (rows.cluster[there], group[there]), each[there])
    of_all = np.zeros((weights.shape[1], products.shape[1]))
    np.add.at(of_all, rows.cluster, products)
    sums = np.einsum("rc,cgf->rgf", weights, of_group)
    return _solved(rows, sums, (weights @ of_all).reshape(-1, k, k + 1))


def _solved(rows: _Rows, sums: Float[np.ndarray, "R G _"], products: Float[np.ndarray, "R K _"]) -> Draws:
    """The regression from sums of (1, x, y) by group, and of products of x with (x, y) over all rows."""
    n, inner = sums[..., 0], rows.x.shape[1] - 1  # the last covariate is the one between classes
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / n[..., None]
    x, y, tags = means[..., 1:-1], means[..., -1], slice(0, rows.tags)
    drawn = np.nan_to_num(means[:, tags, 1:])  # a class that is not drawn has no mean, and takes nothing off
    inside = np.einsum("rg,rgi,rgj->rij", n[:, tags], drawn[..., :-1], drawn)
    left = (products - inside)[:, :inner]  # products of deviations from the means of classes
    slopes = np.einsum("rij,rj->ri", np.linalg.pinv(left[..., :inner], rcond=1e-9), left[..., -1])
    total = sums[:, tags].sum(1)
    centre = total[:, 1:-1] / total[:, :1]
    level = y - np.einsum("rgi,ri->rg", x[..., :inner] - centre[:, None, :inner], slopes)
    between = _slope(x[:, tags, -1], level[:, tags])
    level = level - (x[..., -1] - centre[:, None, -1]) * between[:, None]
    found = {f"{ADJUSTED}/{name}": level[:, g] for g, name in enumerate(rows.names)}
    return found | {
        f"{EFFECT}/{name}": value
        for name, value in zip(rows.covariates, [*slopes.T, between], strict=True)
        if np.isfinite(value).all()
    }


def _slope(x: Float[np.ndarray, "R G"], y: Float[np.ndarray, "R G"]) -> Float[np.ndarray, " R"]:
    """Of a line through points; those that are not there do not count, and where all have one x it is level."""
    there = np.isfinite(x) & np.isfinite(y)
    count = np.maximum(there.sum(1, keepdims=True), 1)
    dx, dy = (np.where(there, part - np.where(there, part, 0).sum(1, keepdims=True) / count, 0) for part in (x, y))
    above, below = (dx * dy).sum(1), (dx * dx).sum(1)
    return np.divide(above, below, out=np.zeros_like(above), where=(below > 1e-9) & (count[:, 0] > 2))


def _read(columns: Mapping[str, Sequence[Any]], clusters: Mapping[Any, int] | None) -> _Rows | None:
    right, frequency = columns["right"], columns["frequency"]
    own = [i for i, (y, x) in enumerate(zip(right, frequency, strict=True)) if y is not None and x is not None]
    if not own:
        return None

    def column(name: str) -> list[Any]:
        return [columns[name][i] for i in own]

    covariates = [name for name in WITHIN if all(value is not None for value in column(name))]
    x = np.column_stack([np.array(column(name), float) for name in (*covariates, BETWEEN)])
    spread = x.std(0)
    x = (x - x.mean(0)) / np.where(spread > 1e-9, spread, 1.0)
    tag, form = column("tag"), column("form")
    tags = list(dict.fromkeys(tag))
    names = [*tags, *sorted({one for one in form if one} - {*tags})]
    number = {name: g for g, name in enumerate(names)} | {"": -1}
    sentence = column(CLUSTER)
    clusters = clusters or {one: c for c, one in enumerate(dict.fromkeys(sentence))}
    return _Rows(
        np.array([clusters[one] for one in sentence], np.int64),
        np.array([[number[one] for one in tag], [number["" if one in tags else one] for one in form]], np.int64),
        names,
        len(tags),
        x,
        [*covariates, "types"],
        np.array(column("right"), float),
    )
