"""Which cells and trials a sweep was asked for, and `results.parquet`: a row a run.

Everything but the asking is read anew from the run folders each time. The record is the union of all calls of a sweep;
what a table shows is the business of `results` and `found`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from plm.objects import side_by_side
from plm.reading import Spec
from plm.spec import from_json
from plm.store import RunFolder, Store
from sweeps.engine.plan import Plan
from sweeps.engine.sweep import Point, Sweep

Row = dict[str, Any]
_PURPOSE = {"runs": "select", "confirmed": "confirm"}


def folder(name: str) -> str:
    """Where a sweep's answers lie in the store."""
    return f"sweeps/{name}"


def note_cells(plan: Plan, store: Store, trials: Sequence[dict[str, Any]] = ()) -> None:
    """Write `sweep.json`: which cells any call of the sweep has asked for, in the order they were first asked for.

    Of a search also its `trials`, in place of what was noted of the same study.
    """
    key = f"{folder(plan.sweep.name)}/sweep.json"
    before = noted(plan.sweep.name, store)
    studies = {trial["study"] for trial in trials}
    others = [trial for trial in noted_trials(plan.sweep.name, store) if trial["study"] not in studies]
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
            }
            | ({"steps": plan.sweep.by_step.step} if plan.sweep.by_step else {})
            | ({"trials": [*others, *trials]} if others or trials else {}),
            indent=1,
        ).encode(),
    )


def noted(name: str, store: Store) -> list[dict[str, Any]]:
    """The cells that calls of a sweep have asked for: `run_id`, and `point` with the axes' labels.

    Raises:
        ValueError: the record is damaged.
    """
    return list(_record(name, store)["cells"])


def written(run: RunFolder) -> Spec | None:
    """What a run is; None: it was not begun, or what it was made of is no longer there."""
    try:
        return from_json((run.get("spec.json") or b"").decode())
    except (ValueError, OSError):
        return None


def noted_trials(name: str, store: Store) -> list[dict[str, Any]]:
    """The trials of a sweep's searches, oldest study first, as `Explorer.record` writes them.

    Raises:
        ValueError: the record is damaged.
    """
    return list(_record(name, store).get("trials", ()))


def _record(name: str, store: Store) -> dict[str, Any]:
    key = f"{folder(name)}/sweep.json"
    document = store.json(key) if store.get(key) is not None else {"cells": []}
    if not isinstance(document, dict) or "cells" not in document:
        raise ValueError(
            f"{store.where(key)} is damaged (it has no cells). Remove it: only the union of past calls is lost."
        )
    return document


def collect(name: str, store: Store) -> list[Row]:
    """A row for each cell that was ever asked for: `run_id`, `status`, every axis, every final metric, `seconds`.

    Of a search also which `trial` of which `study` it belongs to, and whether it is there to `select` or to `confirm`.
    """
    belongs: dict[str, Row] = {}
    for trial in noted_trials(name, store):
        for role in _PURPOSE:
            purpose = {"study": trial["study"], "trial": trial["trial"], "purpose": _PURPOSE[role]}
            belongs |= dict.fromkeys(trial[role], purpose)
    cells = noted(name, store)
    rows = side_by_side(lambda cell: _row(RunFolder(store, cell["run_id"]), cell["point"]), cells)
    return [row | belongs.get(row["run_id"], {}) for row in rows]


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
    """Where a run was computed, in a few words; several places are joined by ` + `, each named once."""
    places = (
        f"{e['device']}, {e['threads']} thread{'s' * (e['threads'] != 1)}, torch {e['versions'].get('torch')}"
        for e in json.loads(run.get("environment.json") or b"[]")
    )
    return " + ".join(dict.fromkeys(places))


def save(sweep: Sweep, store: Store) -> None:
    """Write `results.parquet`, anew from the run folders, for all cells that calls of the sweep have asked for."""
    rows = collect(sweep.name, store)
    rows.sort(key=lambda row: [_sortable(row.get(axis)) for axis in sweep.axes])
    names = dict.fromkeys(("run_id", "status", *sweep.axes, *(name for row in rows for name in row)))
    sink = io.BytesIO()
    table = pa.table({name: _column([row.get(name) for row in rows]) for name in names})
    pa.parquet.write_table(table, sink, compression="zstd")
    store.put(f"{folder(sweep.name)}/results.parquet", sink.getvalue())


def _column(values: list[Any]) -> list[Any]:
    """Values of one type: beside words, as in a size of `none` or 1000, numbers are words too."""
    words = any(isinstance(value, str) for value in values)
    return [str(value) if words and value is not None else value for value in values]


def _sortable(value: Any) -> tuple[str, float, str]:
    """Numbers by size, all else by text."""
    return (
        (type(value).__name__, value, "") if isinstance(value, int | float) else (type(value).__name__, 0.0, str(value))
    )
