"""What a run looks like in MLflow, computed from its folder alone; no server is spoken to here.

`Asked` is which cells a sweep's calls asked for, `Child` is one run as the view shows it: names, labels, parameters and
values within MLflow's limits, with passwords, paths and hosts left out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from plm.reading import Reading, Spec
from plm.spec import Checkpoint, External, RunSpec, digest
from plm.store import RunFolder, Store

CLOCK = "train/tokens"
"""The metric that every line of `metrics.jsonl` has. It is sent last of a step: its history says what has arrived."""
STATUS = {
    "done": "FINISHED",
    "running": "RUNNING",
    "failed": "FAILED",
    "diverged": "FAILED",
    "interrupted": "KILLED",
    "pruned": "KILLED",
}
KEY, PARAM, TAG = 250, 6000, 5000
"""MLflow's limits, in characters. (A tag may have 8,000, 5,000 on older servers.)"""
CURVE, READ = "curve", "work/flops"
"""The role of a child that stands for the readings of a training at all steps, and its clock."""
TRIAL = "search trial"
"""The role of a child that stands for all seeds of a configuration."""
NEVER_SHOWN = ("sweep.json",)

Value = tuple[str, float, int, int]
"""Metric, value, milliseconds, step: what MLflow keeps once, however often it is sent."""


def redact(text: str) -> str:
    """Take user names and passwords out of the URLs in a text."""
    return re.sub(r"(\w://)\S*@", r"\1***@", text)  # to the last @, because a password may hold another


def legal_key(name: str) -> str:
    return re.sub(r"[^\w.\- /]", "_", name).strip("/. ")[:KEY] or "_"


def shortened(value: object, limit: int) -> str:
    text = redact(str(value))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def fingerprint(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Curve:
    """One analysis of one training: readings that are shown as one run, whose steps are those of the training."""

    labels: dict[str, str]
    """Of all axes but the step's."""
    runs: tuple[tuple[int, str], ...]
    """(step, run id), by rising step."""


def _curves(cells: list[dict[str, Any]], axis: str | None) -> tuple[Curve, ...]:
    """The curves of some cells over an axis of steps."""
    groups: dict[tuple[tuple[str, str], ...], set[tuple[int, str]]] = {}
    for cell in cells if axis else ():
        if cell["point"][axis] is None:  # of no training: a model that trainings are held against
            continue
        labels = tuple((name, str(label)) for name, label in cell["point"].items() if name != axis)
        groups.setdefault(labels, set()).add((int(cell["point"][axis]), cell["run_id"]))
    return tuple(Curve(dict(labels), tuple(sorted(runs))) for labels, runs in groups.items())


@dataclass(frozen=True)
class Asked:
    """The cells that any call of a sweep asked for."""

    metric: str
    cells: dict[str, dict[str, str]]
    """Run id -> axis -> label. A run that answers several cells has all their labels."""
    values: dict[str, str]
    """Axis -> all its labels."""
    trials: tuple[dict[str, Any], ...] = ()
    """Of a search, as `sweep.json` has them."""
    curves: tuple[Curve, ...] = ()
    """Of readings of trainings."""

    @staticmethod
    def read(store: Store, sweep: str) -> Asked:
        """Read `sweep.json`.

        Raises:
            ValueError: there is none, or it cannot be read.
        """
        try:
            document = json.loads(store.get(f"sweeps/{sweep}/sweep.json") or b"")
            axes: list[str] = document["axes"]
            points: dict[str, list[dict[str, str]]] = {}
            for cell in document["cells"]:
                points.setdefault(cell["run_id"], []).append({a: str(cell["point"].get(a, "")) for a in axes})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{store.where(f'sweeps/{sweep}/sweep.json')} cannot be read: {error!r}") from error

        def joined(these: list[dict[str, str]], by: str) -> dict[str, str]:
            return {axis: by.join(dict.fromkeys(point[axis] for point in these)) for axis in axes}

        return Asked(
            str(document["metric"]),
            {run_id: joined(these, " or ") for run_id, these in points.items()},
            joined([point for these in points.values() for point in these], ", "),
            tuple(document.get("trials", ())),
            _curves(document["cells"], document.get("steps")),
        )

    @property
    def pruned(self) -> set[str]:
        """The runs that were given up because others were better."""
        return {run_id for trial in self.trials if trial["outcome"] == "pruned" for run_id in trial["runs"]}

    def name(self, run_id: str) -> str:
        """What tells a run from its siblings, in a line."""
        if run_id not in self.cells:
            return f"parent {run_id}"
        point = self.cells[run_id]
        varied = [axis for axis in point if "," in self.values[axis]] or list(point)
        return " ".join(f"seed={point[a]}" if a == "seed" else point[a] for a in varied)


@dataclass(frozen=True)
class Child:
    """A run as the view shows it."""

    run_id: str
    name: str
    axes: dict[str, str]
    """Empty: a run that cells come from."""
    status: str
    """The store's word for it."""
    started: int
    ended: int | None
    attempts: int
    """Executions that have ended."""
    params: dict[str, str]
    tags: dict[str, str]
    values: list[Value]
    totals: list[Value]
    """Of a finished run."""
    dataset: tuple[str, str, str] | None
    """Name, digest, and counts as JSON; None: it has none of its own."""
    clock: str = CLOCK
    """The metric that every step of `values` has, and ends with."""


def read_child(folder: RunFolder, spec: Spec, name: str, axes: dict[str, str]) -> Child | None:
    """Read a run's folder; None: it was never started.

    Raises:
        ValueError: a finished run's files were changed.
    """
    status, attempts = folder.status(), folder.attempts()
    if status not in STATUS:
        return None
    ended = int(1000 * attempts[-1].get("ended", attempts[-1]["renewed"]))
    labels = {legal_key(axis): shortened(label, PARAM) for axis, label in axes.items()}
    tags = (
        labels
        | {
            "run_id": folder.run_id,
            "role": "trial" if axes else "parent",
            "status": status,
            "environment": _environment(folder),
        }
        | _failure(folder, status, attempts)
    )
    values = _values(folder)
    totals: list[Value] = []
    if status == "done":
        result, there = folder.result(), {(key, step) for key, _, _, step in values}
        numbers = result["metrics"] | {"work/seconds": result["seconds"], "work/flops": result["flops"]}  # after val/
        totals = [
            (legal_key(k), float(v), ended, result["steps"])
            for k, v in numbers.items()
            if math.isfinite(v) and (legal_key(k), result["steps"]) not in there
        ]
    return Child(
        folder.run_id,
        name,
        axes,
        status,
        int(1000 * attempts[0]["started"]),
        None if status == "running" else ended,
        sum(a["outcome"] is not None for a in attempts),
        labels | dict(_params(spec, "spec")),
        tags,
        values,
        totals,
        _dataset(spec),
    )


def trial_child(trial: dict[str, Any], metric: str, runs: list[Child]) -> Child:
    """A trial of a search as the view shows it: its point, and the mean and spread of its seeds, which lie below it."""
    outcome = str(trial["outcome"])
    labels = {legal_key(axis): shortened(label, PARAM) for axis, label in trial["point"].items()}
    ends = [run.ended for run in runs if run.ended is not None]
    ended = max(ends, default=0) if outcome != "running" and ends else None
    found = [
        value
        for run in runs
        for name, value, _, step in (*run.values, *run.totals)
        if (name, step) == _last(run, metric)
    ]
    totals: list[Value] = []
    if outcome == "done" and ended is not None and len(found) == len(runs):
        totals = [(legal_key(metric), mean(found), ended, 0), ("seeds", float(len(found)), ended, 0)]
        totals += [("spread", stdev(found), ended, 0)] if len(found) > 1 else []
        totals += [(legal_key(name), value, ended, 0) for name, value in trial.get("second", {}).items()]
    name = f"trial {trial['trial']}"
    tags = labels | {
        "run_id": f"{trial['study']}/{trial['trial']}",
        "role": TRIAL,
        "status": outcome,
        "study": trial["study"],
    }
    return Child(
        run_id=f"{trial['study']}/{trial['trial']}",
        name=name,
        axes={axis: str(label) for axis, label in trial["point"].items()},
        status=outcome,
        started=min((run.started for run in runs), default=0),
        ended=ended,
        attempts=0,
        params=labels,
        tags=tags,
        values=[],
        totals=totals,
        dataset=None,
    )


def curve_child(curve: Curve, children: dict[str, Child], live: bool) -> Child | None:
    """A curve as the view shows it: what each finished run says, at the step that it began with; None: none was started."""
    there = [(step, children[run_id]) for step, run_id in curve.runs if run_id in children]
    if not there:
        return None
    done = [(step, child) for step, child in there if child.status == "done" and child.ended is not None]
    others = {child.status for _, child in there} - {"done"}
    others |= {"running"} if live else set()
    status = next((word for word in ("running", "failed") if word in others), "interrupted")
    status = "done" if len(done) == len(curve.runs) else status
    ends = [child.ended for _, child in done if child.ended is not None]
    labels = {legal_key(axis): shortened(label, PARAM) for axis, label in curve.labels.items()}
    name = "curve/" + fingerprint(sorted(curve.labels.items()))
    tags = labels | {"run_id": name, "role": CURVE, "status": status, "readings": f"{len(done)} of {len(curve.runs)}"}
    values = [
        (key, value, child.ended or 0, step)
        for step, child in done
        for key, value in sorted(_final(child).items(), key=lambda total: total[0] == READ)
    ]
    return Child(
        run_id=name,
        name=" ".join(curve.labels.values()),
        axes=curve.labels,
        status=status,
        started=min(child.started for _, child in there),
        ended=None if status == "running" else max(ends, default=0),
        attempts=0,
        params=labels,
        tags=tags,
        values=values,
        totals=[],
        dataset=done[0][1].dataset if done else None,
        clock=READ,
    )


def _final(child: Child) -> dict[str, float]:
    """What a finished reading says, or a fine-tuning at its end."""
    evaluated = {key: value for key, value, *_ in child.values if key.startswith("val/")}  # the later ones last
    return evaluated | {key: value for key, value, *_ in child.totals}


def _last(run: Child, metric: str) -> tuple[str, int]:
    """The name of a metric and the step of its last value."""
    key = legal_key(metric)
    return key, max((step for name, _, _, step in (*run.values, *run.totals) if name == key), default=-1)


def _values(folder: RunFolder) -> list[Value]:
    """The values of `metrics.jsonl`, each once a step although two lines may repeat some; the clock closes a step."""
    values: dict[tuple[str, int], Value] = {}
    for line in folder.metrics():
        for name, value in line.items():
            if name not in ("step", "time") and math.isfinite(value):
                at = (legal_key(name), int(line["step"]))
                values.setdefault(at, (at[0], float(value), int(1000 * line["time"]), at[1]))
    return sorted(values.values(), key=lambda value: (value[3], value[0] == CLOCK))


def arrivals(values: list[Value], clock: str = CLOCK) -> dict[int, int]:
    return {step: ms for key, _, ms, step in values if key == clock}


def _environment(folder: RunFolder) -> str:
    places = json.loads(folder.get("environment.json") or b"[]")
    words = (f"{e['device']}, {e['threads']} threads, torch {e['versions'].get('torch')}" for e in places)
    return shortened(" + ".join(words), TAG)


def _failure(folder: RunFolder, status: str, attempts: list[dict[str, Any]]) -> dict[str, str]:
    if status not in ("failed", "diverged"):
        return {"error": "", "mlflow.note.content": ""}  # empties an earlier attempt's
    trace = redact((folder.get("error.txt") or b"").decode(errors="replace"))[-TAG + 100 :]
    return {"error": shortened(attempts[-1].get("error", status), 500), "mlflow.note.content": f"```\n{trace}\n```"}


def _params(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """A spec's fields, flattened; another run is its id, and where something lies stays out."""
    if isinstance(value, Checkpoint):
        yield key, f"{value.run.run_id} step {value.step}"
    elif isinstance(value, External):
        yield key, shortened(f"{value.name} {digest(value)[:12]}", PARAM)
    elif dataclasses.is_dataclass(value):
        if not isinstance(value, RunSpec | Reading):
            yield f"{key}.kind", str(getattr(value, "kind", type(value).__name__))
        for f in dataclasses.fields(value):
            if f.name == "name" or not f.metadata.get("location"):
                yield from _params(getattr(value, f.name), f"{key}.{f.name}")
    else:
        yield key, shortened(", ".join(map(str, value)) if isinstance(value, tuple) else value, PARAM)


def _dataset(spec: Spec) -> tuple[str, str, str] | None:
    if isinstance(spec, Reading):
        data = getattr(spec.analysis, "data", ())  # a probe's label sets may come from several places
        parts = data if isinstance(data, tuple) else (data,)
        named = "+".join(getattr(part, "name", part.kind) for part in parts)
        return (shortened(named, 500), digest(data)[:12], "{}") if parts else None
    task = getattr(spec.data, "task", None)
    if task is not None:
        counts = {"train": task.counts[0], "used": spec.data.num_sequences, "evaluation": task.counts[1]}
        return shortened(task.name, 500), task.rows[:12], json.dumps(counts)
    text = getattr(spec.data, "text", spec.data)
    return shortened(getattr(text, "name", type(text).__name__.lower()), 500), digest(spec.data)[:12], "{}"


def files_below(store: Store, key: str) -> dict[str, bytes]:
    """Every object below a prefix."""
    found: dict[str, bytes] = {}
    for name in store.list(key):
        below = files_below(store, f"{key}/{name}")
        if below:
            found |= {f"{name}/{path}": data for path, data in below.items()}
        elif name not in NEVER_SHOWN and (data := store.get(f"{key}/{name}")) is not None:
            found[name] = data
    return found
