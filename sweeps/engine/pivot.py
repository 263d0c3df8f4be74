"""Pretrained models side by side: a row each, with what is known of them, their score on every task, and the mean.

The other tables ask of one task whether the arms differ; this one, in the shape that papers print, asks what one gets for
which model. A mean over tasks is taken seed by seed, so that its spread is that of whole replications.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from plm.data.examples import Examples
from plm.spec import RunSpec
from plm.store import RunFolder, Store
from sweeps.engine.markdown import section
from sweeps.engine.plan import Cell, Plan
from sweeps.engine.sweep import Pivot, Point


@dataclass(frozen=True)
class Spread:
    """One number over seeds."""

    values: dict[Any, float]
    """By seed; the finished ones."""

    @property
    def mean(self) -> float:
        """Over the seeds; there is one at least."""
        return float(np.mean(list(self.values.values())))

    def __str__(self) -> str:
        if not self.values:
            return ""
        if len(self.values) == 1:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ± {np.std(list(self.values.values()), ddof=1):.3f}"


@dataclass(frozen=True)
class Row:
    """One pretrained model over its seeds."""

    labels: tuple[Any, ...]
    """The values of the axes that tell the models apart."""
    facts: dict[str, int | float]
    metrics: dict[str, Spread]
    """What its pretraining reported of itself."""
    asked: dict[str, Spread]
    """What it answered without fine-tuning, by question."""
    scores: dict[str, Spread]
    """By task."""
    seeds: tuple[Any, ...]
    """That were asked for."""

    @cached_property
    def mean(self) -> Spread:
        """Over the tasks, of the seeds that have finished them all."""
        each = [spread.values for spread in self.scores.values()]
        done = [seed for seed in self.seeds if each and all(seed in values for values in each)]
        return Spread({seed: float(np.mean([values[seed] for values in each])) for seed in done})


@dataclass(frozen=True)
class Panel:
    """The models that differ in nothing but the axes of the rows."""

    point: Point
    """Axis name -> value, for the axes that they share."""
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """What the panel is of."""
        return str(self.point.get("model", "all"))


def panels(plan: Plan, pivot: Pivot, store: Store) -> list[Panel]:
    """The cells of a plan by model; what is not finished is left empty."""
    apart = (*pivot.rows, "task", "seed")
    groups: dict[tuple[Any, ...], dict[tuple[Any, ...], list[Cell]]] = {}
    for cell in plan.cells:
        shared = tuple((name, value) for name, value in cell.labels.items() if name not in apart)
        labels = tuple(cell.labels[name] for name in pivot.rows)
        groups.setdefault(shared, {}).setdefault(labels, []).append(cell)
    return [
        Panel(dict(shared), tuple(_row(labels, cells, pivot, store) for labels, cells in models.items()))
        for shared, models in groups.items()
    ]


def _row(labels: tuple[Any, ...], cells: Sequence[Cell], pivot: Pivot, store: Store) -> Row:
    first = pretraining(cells[0].run)
    parents = {cell.point["seed"]: pretraining(cell.run) for cell in cells}
    asked, scores = dict[str, dict[Any, float]](), dict[str, dict[Any, float]]()
    for cell in cells:
        task, tuned = str(cell.labels["task"]), isinstance(cell.run.data, Examples)
        values = (scores if tuned else asked).setdefault(task, {})
        value = _metric(cell.run, "val/score" if tuned else f"val/{task}_accuracy", store)
        if value is not None:
            values[cell.point["seed"]] = value
    return Row(
        labels=labels,
        facts={name: fact(first) for name, fact in pivot.facts.items()},
        metrics={
            name: Spread({s: v for s, p in parents.items() if (v := _metric(p, metric, store)) is not None})
            for name, metric in pivot.metrics.items()
        },
        asked={task: Spread(values) for task, values in asked.items()},
        scores={task: Spread(values) for task, values in scores.items()},
        seeds=tuple(parents),
    )


def pretraining(spec: RunSpec) -> RunSpec:
    """The run that a run's weights were drawn in; itself if it started from none."""
    while parents := spec.parents():
        spec = parents[0].run
    return spec


def _metric(spec: RunSpec, name: str, store: Store) -> float | None:
    run = RunFolder(store, spec.run_id)
    return run.result()["metrics"].get(name) if run.status() == "done" else None


# ---------------------------------------------------------------------------------------------------------------------
# Showing it


def table(panel: Panel, pivot: Pivot) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of one panel; a column of which nothing is known is left out."""
    metrics = _reported(panel, pivot)
    asked, tasks = (columns(panel, kind) for kind in ("asked", "scores"))
    several, empty = len(tasks) > 1, Spread({})
    rows = [
        [
            *map(str, row.labels),
            *(f"{row.facts[name]:,}" if isinstance(row.facts[name], int) else f"{row.facts[name]:.3g}" for name in pivot.facts),
            *(str(row.metrics[name]) for name in metrics),
            *(str(row.asked.get(name, empty)) for name in asked),
            *(str(row.scores.get(name, empty)) for name in tasks),
            *([str(row.mean)] if several else []),
            _count(row),
        ]
        for row in panel.rows
    ]  # fmt: skip
    mean = ["mean of the tasks"] if several else []
    return [*pivot.rows, *pivot.facts, *metrics, *asked, *tasks, *mean, "n"], rows


def _count(row: Row) -> str:
    done, asked = len(row.mean.values), len(row.seeds)
    return str(done) if done == asked else f"{done}/{asked}"


def columns(panel: Panel, kind: str) -> list[str]:
    """The tasks (`scores`), or the questions that were put without fine-tuning (`asked`), of all rows."""
    return list(dict.fromkeys(name for row in panel.rows for name in getattr(row, kind)))


def _reported(panel: Panel, pivot: Pivot) -> list[str]:
    return [name for name in pivot.metrics if any(row.metrics[name].values for row in panel.rows)]


def caption(panel: Panel, pivot: Pivot) -> list[str]:
    """What must be known to read a panel."""
    lines = [", ".join(f"{name} {value}" for name, value in panel.point.items() if name != "model")]
    several = "; the mean of the tasks is taken at each seed that has them all" * (len(columns(panel, "scores")) > 1)
    lines.append(f"mean ± standard deviation over n seeds{several}")
    if reported := _reported(panel, pivot):
        said = ", ".join(f"{name} ({pivot.metrics[name]})" for name in reported)
        lines.append(f"{said}: of the pretraining, on its own validation text")
    if asked := columns(panel, "asked"):
        lines.append(f"{', '.join(asked)}: accuracy of the pretrained model as it is; chance is 0.5")
    return lines


def markdown(found: Sequence[Panel], pivot: Pivot) -> str:
    """All panels as Markdown."""
    return "".join(section(panel.title, *table(panel, pivot), caption(panel, pivot)) for panel in found)
