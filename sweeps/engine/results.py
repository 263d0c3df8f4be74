"""Answers: a row a run in `results.parquet`, and from the rows and the kept predictions the table.

Everything is recomputed from the store each time; nothing is read back from logs. A table shows the cells of one call and
averages over `seed` only; the parquet file is the union of all that any call of the sweep asked for.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from plm.metrics import METRICS
from plm.predictions import from_parquet, predicted
from plm.spec import RunSpec
from plm.store import RunFolder, Store
from sweeps.engine.plan import Cell, Plan
from sweeps.engine.stats import Estimate, Interval, PairedDifference, estimate, holm, paired_difference
from sweeps.engine.sweep import Point

Row = dict[str, Any]


def folder(name: str) -> str:
    """Where a sweep's answers lie in the store."""
    return f"sweeps/{name}"


def note_cells(plan: Plan, store: Store) -> None:
    """Write `sweep.json`: which cells any call of the sweep has asked for, in the order they were first asked for."""
    key = f"{folder(plan.sweep.name)}/sweep.json"
    before = noted(plan.sweep.name, store)
    cells = {
        json.dumps(c, sort_keys=True): c
        for c in (*before, *({"run_id": c.spec.run_id, "point": c.labels} for c in plan.cells))
    }
    store.put(
        key,
        json.dumps(
            {
                "name": plan.sweep.name,
                "metric": plan.sweep.metric,
                "axes": list(plan.sweep.axes),
                "cells": list(cells.values()),
            },
            indent=1,
        ).encode(),
    )


def noted(name: str, store: Store) -> list[dict[str, Any]]:
    """The cells that calls of a sweep have asked for: `run_id`, and `point` with the axes' labels.

    Raises:
        ValueError: the record is damaged.
    """
    key = f"{folder(name)}/sweep.json"
    document = store.json(key) if store.get(key) is not None else {"cells": []}
    if not isinstance(document, dict) or "cells" not in document:
        raise ValueError(
            f"{store.root / key} is damaged (it has no cells). Remove it: only the union of past calls is lost."
        )
    return list(document["cells"])


def collect(name: str, store: Store) -> list[Row]:
    """A row for each cell that was ever asked for: `run_id`, `status`, every axis, every final metric, `seconds`."""
    return [_row(RunFolder(store, cell["run_id"]), cell["point"]) for cell in noted(name, store)]


def _row(run: RunFolder, labels: Point) -> Row:
    status = run.status()
    row: Row = {"run_id": run.run_id, "status": status, **labels}
    if status == "done":
        result = run.result()
        row |= {
            **result["metrics"],
            "steps": result["steps"],
            "tokens": result["tokens"],
            "flops": result["flops"],
            "seconds": result["seconds"],
            "environment": environment(run),
            "notes": "; ".join(result["notes"]),
        }
    return row


def environment(run: RunFolder) -> str:
    """Where a run was computed, in a few words; several places are joined by ` + `."""
    return " + ".join(
        f"{e['device']}, {e['threads']} thread{'s' * (e['threads'] != 1)}, torch {e['versions'].get('torch')}"
        for e in json.loads(run.get("environment.json") or b"[]")
    )


def save(plan: Plan, store: Store) -> None:
    """Write `results.parquet`, anew from the run folders, for all cells that calls of the sweep have asked for."""
    rows = collect(plan.sweep.name, store)
    rows.sort(key=lambda row: [_sortable(row.get(axis)) for axis in plan.sweep.axes])
    names = dict.fromkeys(("run_id", "status", *plan.sweep.axes, *(name for row in rows for name in row)))
    sink = io.BytesIO()
    pa.parquet.write_table(pa.table({n: [row.get(n) for row in rows] for n in names}), sink, compression="zstd")
    store.put(f"{folder(plan.sweep.name)}/results.parquet", sink.getvalue())


def _sortable(value: Any) -> tuple[str, float, str]:
    """Numbers by size, all else by text."""
    return (
        (type(value).__name__, value, "") if isinstance(value, int | float) else (type(value).__name__, 0.0, str(value))
    )


# ---------------------------------------------------------------------------------------------------------------------
# The table


@dataclass(frozen=True)
class Arm:
    """One cell of a sweep over its seeds."""

    point: dict[str, Any]
    """Axis name -> value as shown, without `seed`."""
    family: tuple[Any, ...]
    """What it shares with the arms it is compared among."""
    asked: int
    """Seeds that were asked for."""
    seeds: tuple[int, ...]
    """Seeds that are finished."""
    runs: tuple[str, ...]
    estimate: Estimate | None
    """None: no seed is finished."""
    difference: PairedDifference | None
    """From the baseline, over the seeds that both have; None: it is the baseline, or there is none."""
    is_baseline: bool
    p_holm: float | None
    """Corrected within the family; None: undefined."""
    comparisons: int
    """How many p-values the correction is over."""
    metric: str
    guess: float | None
    """What always guessing the commonest label scores; None for a regression."""
    environments: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float


def arms(plan: Plan, store: Store) -> list[Arm]:
    """Summarise the finished runs of a plan, in the order of its cells."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in plan.cells:
        groups.setdefault(_without_seed(cell.labels), []).append(cell)
    scores = {key: _Scores.read(cells, store) for key, cells in groups.items()}
    differences = {key: _difference(plan, cells[0], scores) for key, cells in groups.items()}
    families: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for key, cells in groups.items():
        families.setdefault(plan.family(cells[0]), []).append(key)
    corrected: dict[tuple[Any, ...], tuple[float | None, int]] = {}
    for keys in families.values():
        p_values = [d.p if (d := differences[key]) else None for key in keys]
        count = sum(p is not None for p in p_values)
        corrected |= {key: (p, count) for key, p in zip(keys, holm(p_values), strict=True)}
    return [_arm(plan, cells, scores[key], differences[key], *corrected[key]) for key, cells in groups.items()]


def _without_seed(labels: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((name, value) for name, value in labels.items() if name != "seed")


def _arm(
    plan: Plan,
    cells: list[Cell],
    scores: _Scores,
    difference: PairedDifference | None,
    p: float | None,
    comparisons: int,
) -> Arm:
    found = estimate(list(scores.predictions.values()), scores.labels, scores.weighted) if scores.predictions else None
    return Arm(
        point=dict(_without_seed(cells[0].labels)),
        family=plan.family(cells[0]),
        asked=len(cells),
        seeds=tuple(scores.predictions),
        runs=tuple(c.spec.run_id for c in cells),
        estimate=found,
        difference=difference,
        is_baseline=_without_seed(plan.sweep.baseline(cells[0].labels)) == _without_seed(cells[0].labels),
        p_holm=p,
        comparisons=comparisons,
        metric=scores.metric,
        guess=scores.guess(),
        environments=tuple(sorted(scores.environments)),
        notes=tuple(sorted(scores.notes)),
        seconds=scores.seconds,
    )


@dataclass(frozen=True)
class _Scores:
    """The predictions of one cell's finished seeds."""

    predictions: dict[int, np.ndarray]
    labels: np.ndarray
    metric: str
    environments: frozenset[str]
    notes: frozenset[str]
    seconds: float

    @property
    def weighted(self) -> Callable[..., Any]:
        return METRICS[self.metric].weighted

    @staticmethod
    def read(cells: list[Cell], store: Store) -> _Scores:
        predictions, labels, notes, environments, seconds = {}, np.empty(0), set(), set(), 0.0
        for cell in cells:
            run = RunFolder(store, cell.spec.run_id)
            if run.status() != "done":
                continue
            records = from_parquet(run.get("predictions.parquet") or b"")
            predictions[cell.point.get("seed", 0)] = predicted(records)
            labels = np.array([r["label"] for r in records])
            result = run.result()
            notes |= set(result["notes"])
            environments.add(environment(run))
            seconds += result["seconds"]
        return _Scores(predictions, labels, _metric(cells[0].spec), frozenset(environments), frozenset(notes), seconds)

    def guess(self) -> float | None:
        if not len(self.labels) or self.metric in ("pearson", "spearman"):
            return None
        values, counts = np.unique(self.labels, return_counts=True)
        return METRICS[self.metric].score(np.full(len(self.labels), values[counts.argmax()]), self.labels)


def _metric(spec: RunSpec) -> str:
    return str(spec.data.task.metrics[0])  # type: ignore[union-attr]


def _difference(plan: Plan, cell: Cell, scores: dict[tuple[Any, ...], _Scores]) -> PairedDifference | None:
    here = _without_seed(cell.labels)
    baseline = _without_seed(plan.sweep.baseline(cell.labels))
    if baseline == here or baseline not in scores:
        return None
    ours, theirs = scores[here], scores[baseline]
    seeds = [s for s in ours.predictions if s in theirs.predictions]
    if not seeds:
        return None
    return paired_difference(
        [ours.predictions[s] for s in seeds], [theirs.predictions[s] for s in seeds], ours.labels, ours.weighted
    )


# ---------------------------------------------------------------------------------------------------------------------
# Showing it

HEADINGS = (
    "n",
    "mean",
    "95% seeds (t)",
    "95% examples",
    "95% both (Multi-Bootstrap)",
    "minus baseline",
    "95% both",
    "p (Holm)",
    "each seed",
)


def panels(found: Sequence[Arm]) -> Iterator[tuple[tuple[str, str], list[Arm]]]:
    """The arms of each (model, task)."""
    groups: dict[tuple[str, str], list[Arm]] = {}
    for arm in found:
        groups.setdefault((str(arm.point.get("model", "")), str(arm.point.get("task", ""))), []).append(arm)
    yield from groups.items()


def table(panel: Sequence[Arm]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of one (model, task); axes with one value are left to the caption."""
    shown = [a for a in panel[0].point if a not in ("model", "task") and len({arm.point[a] for arm in panel}) > 1]
    rows = []
    for arm in panel:
        e, d = arm.estimate, arm.difference
        rows.append(
            [
                *(str(arm.point[a]) for a in shown),
                f"{len(arm.seeds)}" if len(arm.seeds) == arm.asked else f"{len(arm.seeds)}/{arm.asked}",
                _number(e.mean if e else None),
                *(_interval(i) for i in ((e.over_seeds, e.over_examples, e.over_both) if e else (None,) * 3)),
                _number(d.mean if d else None, signed=True),
                _interval(d.over_both if d else None, signed=True),
                _p(arm.p_holm),
                " ".join(_number(v) for v in (e.values if e else ())),
            ]
        )
    return [*shown, *HEADINGS], rows


def caption(panel: Sequence[Arm]) -> list[str]:
    """What must be known to read a panel: metric, fixed axes, comparisons, how much of it is there, what to beware of."""
    first = panel[0]
    fixed = {a: v for a, v in first.point.items() if len({arm.point[a] for arm in panel}) == 1}
    done, asked = sum(len(a.seeds) for a in panel), sum(a.asked for a in panel)
    lines = [
        f"{first.metric}; " + ", ".join(f"{a} {v}" for a, v in fixed.items()),
        f"{done} of {asked} cells finished ({len({r for a in panel for r in a.runs})} runs, "
        f"{sum(a.seconds for a in panel) / 60:.0f} min of computing)",
        "p: paired t over seeds against the baseline, corrected for the comparisons within each group of arms: "
        + ", ".join(map(str, dict.fromkeys(a.comparisons for a in panel)))
        if any(a.is_baseline for a in panel)
        else "no baseline among these cells, so no differences: ask for it too",
    ]
    environments = {e for a in panel for e in a.environments}
    if len(environments) > 1:
        lines.append(f"mixed environments: {'; '.join(sorted(environments))}")
    lines += sorted({f"{note} (in {sum(note in a.notes for a in panel)} arms)" for a in panel for note in a.notes})
    return lines


def markdown(found: Sequence[Arm]) -> str:
    """All panels as Markdown."""
    parts = []
    for (model, task), panel in panels(found):
        head, rows = table(panel)
        cells = [head, ["---"] * len(head), *rows]
        parts.append(
            f"## {task}, {model}\n\n"
            + "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in cells)
            + "\n\n"
            + "\n".join(f"- {line}" for line in caption(panel))
        )
    return "\n\n".join(parts) + "\n"


def _number(value: float | None, signed: bool = False) -> str:
    return "" if value is None else f"{value:{'+' if signed else ''}.3f}"


def _interval(interval: Interval | None, signed: bool = False) -> str:
    return "" if interval is None else f"{_number(interval.low, signed)} to {_number(interval.high, signed)}"


def _p(p: float | None) -> str:
    return "" if p is None else "<.001" if p < 0.001 else f"{p:.3f}"
