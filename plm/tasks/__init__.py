"""Downstream tasks of one or two sentences: what is read, what is predicted, how it is scored.

A `Task` is data *with a meaning*, and its identity is the content of its rows, wherever they lie. A `Definition` is
the meaning alone (columns, kind, metric); the files of this folder hold the definitions that have names, and for other
data it is inferred from the columns and labels or read from a `task.json` beside them.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from plm import registry, stand_ins
from plm.metrics import METRICS
from plm.spec import location, neutral

if TYPE_CHECKING:
    import pyarrow as pa

PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
)
SINGLES = ("sentence", "text", "question", "review", "content")
KINDS = ("classification", "regression")
SLICE_SHARE, SLICE_MOST = 5, 2000
"""To select by: one of five training rows, two thousand at most."""


@dataclass(frozen=True)
class Definition:
    """How to read a table as a task."""

    columns: tuple[str, ...]
    """The one or two columns of text, in the order the model reads them."""
    num_labels: int | None
    """Number of classes; 1 for regression (as in transformers); None: as many as the data has."""
    metrics: tuple[str, ...]
    """Names in `plm.metrics`; the first one is the score."""
    label: str = "label"
    hub: tuple[str, str] | None = None
    """Dataset id and configuration on the hub."""
    evaluation: str = "validation"
    """The hub's split to evaluate on."""
    counts: tuple[int, int] | None = None
    """Rows to train on and to evaluate on, where that is known without the data."""
    tokens: float | None = None
    """Of a training example, in BERT's word pieces, special ones included; at most 128 are read."""


@dataclass(frozen=True)
class Task:
    """A downstream dataset with its label space and its metrics. Make one with `plm.tasks.resolve`."""

    kind: ClassVar[str] = "tasks"
    rows: str
    """SHA-256 of the texts and labels of both splits, in order."""
    num_labels: int
    """Number of classes; 1 for regression."""
    metrics: tuple[str, ...]
    """The first one is the score."""
    counts: tuple[int, int] = location()
    """Rows to train on and to evaluate on."""
    name: str = location()
    path: str = location()
    """What `resolve` was given: a registered name, a hub id or an absolute path."""
    slice: int = neutral(0)
    """Training rows that are evaluated on, and not trained on, instead of the evaluation split."""

    def held_back(self) -> Task:
        """The task to select by: what is reported later comes from rows that no choice has seen.

        Raises:
            ValueError: fewer than two training rows.
        """
        size = min(self.counts[0] // SLICE_SHARE or 1, SLICE_MOST)
        if self.slice or self.counts[0] <= size:
            raise ValueError(f"task {self.name}: of {self.counts[0]} training rows no slice can be cut to select by.")
        return replace(self, slice=size, counts=(self.counts[0] - size, size))


@dataclass(frozen=True)
class Split:
    """Rows of one split: `texts` has one tuple of one or two strings a row."""

    texts: tuple[tuple[str, ...], ...]
    labels: tuple[float, ...]
    """Class indices, or real numbers."""


def definitions() -> dict[str, Definition]:
    """The registered tasks, as `suite/name`."""
    suites = {suite: importlib.import_module(f"plm.tasks.{suite}").TASKS for suite in registry.names("tasks")}
    return {f"{suite}/{name}": task for suite, tasks in suites.items() for name, task in tasks.items()}


def resolve(name: str | Task) -> Task:
    """Find a task by registered name (`sst2`, `glue/sst2`), local folder or file, or hub id, and check its rows.

    Raises:
        ValueError: no such task; or its columns, labels or text cannot be used. The message says which and where.
    """
    if isinstance(name, Task):
        return name
    path = _absolute(name)
    return stand_ins.task(path) or _found(path)[0]


def load(task: Task) -> tuple[Split, Split]:
    """The training and the evaluation rows.

    Raises:
        ValueError: the rows at `task.path` are not (any more) the ones that the task's identity names.
    """
    if stand_ins.is_stand_in(task):
        raise ValueError(f"task {task.name} has not been fetched: only the number of its rows is known here.")
    found, train, held_out = _found(task.path)
    if found != replace(task, slice=0, counts=found.counts):
        raise ValueError(
            f"task {task.name}: the rows at {task.path} have changed since the plan was made "
            f"({task.rows[:12]} was asked for, {found.rows[:12]} is there). Restore them, or plan anew."
        )
    return _cut(train, task.slice) if task.slice else (train, held_out)


def _cut(train: Split, size: int) -> tuple[Split, Split]:
    """The training rows without some, and those: always the same ones, whatever a run's seed."""
    from plm.rng import numpy_stream

    chosen = set(numpy_stream(0, "slice").permutation(len(train.labels))[:size].tolist())
    parts = [[i for i in range(len(train.labels)) if (i in chosen) is inside] for inside in (False, True)]
    rest, held = (Split(tuple(train.texts[i] for i in rows), tuple(train.labels[i] for i in rows)) for rows in parts)
    return rest, held


def _absolute(name: str) -> str:
    return str(Path(name).expanduser().resolve()) if Path(name).expanduser().exists() else name


def _found(path: str) -> tuple[Task, Split, Split]:
    here = Path(path)
    files = [here, *sorted(here.rglob("*"))] if here.is_absolute() and here.exists() else []
    return _resolved(path, tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files))


@functools.lru_cache(maxsize=16)
def _resolved(path: str, version: tuple[tuple[str, int, int], ...]) -> tuple[Task, Split, Split]:
    """Read a task; `version` makes an edited file another call."""
    known = definitions()
    short = {name.partition("/")[2]: name for name in known}
    if Path(path).is_absolute():
        name, tables = Path(path).stem if Path(path).is_file() else Path(path).name, None
    elif path in known or path in short:
        name, path = path.partition("/")[2] or path, short.get(path, path)
        tables = _registered(path, known[path])
    elif "/" in path and not path.startswith((".", "~", "/")) and path.partition("/")[0] not in registry.names("tasks"):
        name, tables = path, _hub(path, None, "validation")
    else:
        raise (
            registry.unknown("task", path, [*known, *short])
            if not path.startswith((".", "~", "/"))
            else ValueError(
                f"there is no file or folder {path!r}. A task is a registered name "
                f"({', '.join(sorted(short))}), a hub id or a local path."
            )
        )
    return _read(path, name, tables, known.get(short.get(name, path)))


def _read(
    path: str, name: str, tables: tuple[pa.Table, pa.Table] | None, registered: Definition | None
) -> tuple[Task, Split, Split]:
    from plm.data.tables import splits

    own = _task_json(Path(path) / "task.json")
    train, held_out = tables or splits(Path(path), own.get("splits"))
    definition = (
        registered
        if registered and not own.keys() - {"splits"} and _fits(registered, train)
        else _infer(train, path, own)
    )
    texts = [_texts(t, definition.columns, f"{path} ({s})") for t, s in ((train, "train"), (held_out, "evaluation"))]
    labels, num_labels = _labels(train, held_out, definition, path)
    content = json.dumps([texts, labels], ensure_ascii=False, allow_nan=False).encode()
    metrics = definition.metrics or (("pearson", "spearman") if num_labels == 1 else ("accuracy",))
    for metric in metrics if num_labels == 1 else ():
        if metric not in ("pearson", "spearman"):
            raise ValueError(
                f"{path}: metric {metric!r} is of classes, and the labels are real numbers: choose pearson "
                'or spearman, or set "kind" to "classification" in task.json.'
            )
    task = Task(
        rows=hashlib.sha256(content).hexdigest(),
        num_labels=num_labels,
        metrics=metrics,
        counts=(len(labels[0]), len(labels[1])),
        name=name,
        path=path,
    )
    return task, Split(tuple(texts[0]), tuple(labels[0])), Split(tuple(texts[1]), tuple(labels[1]))


def _task_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        own = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    allowed = {"columns": (list,), "kind": (str,), "label": (str,), "metric": (str, list), "splits": (dict,)}
    if not isinstance(own, dict):
        raise ValueError(f"{path} is not a JSON object with keys among {', '.join(allowed)}.")
    for key, value in own.items():
        if key not in allowed:
            raise registry.unknown(f"key in {path}:", key, allowed)
        inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        if not isinstance(value, allowed[key]) or not all(isinstance(v, str) for v in inner):
            types = " or ".join(t.__name__ for t in allowed[key])
            raise ValueError(f"{path}: {key!r} is {value!r}; it must be a {types}, made of strings.")
    if own.get("kind", KINDS[0]) not in KINDS:
        raise registry.unknown(f"kind in {path}:", own["kind"], KINDS)
    metrics = own.get("metric")
    if metrics is not None:
        own["metric"] = [metrics] if isinstance(metrics, str) else metrics
    for metric in own.get("metric", ()):
        if metric not in METRICS:
            raise registry.unknown(f"metric in {path}:", metric, METRICS)
    return own


def _fits(definition: Definition, table: pa.Table) -> bool:
    return {*definition.columns, definition.label} <= set(table.column_names)


def _infer(table: pa.Table, path: str, own: dict[str, Any]) -> Definition:
    import pyarrow.types

    there = table.column_names
    label = own.get("label", "label")
    known: tuple[tuple[str, ...], ...] = (*PAIRS, *((name,) for name in SINGLES))
    strings = tuple(
        f.name
        for f in table.schema
        if f.name != label and (pyarrow.types.is_string(f.type) or pyarrow.types.is_large_string(f.type))
    )
    columns = tuple(own.get("columns", ())) or next((c for c in known if set(c) <= set(there)), strings)
    missing = [c for c in (*columns, label) if c not in there]
    if missing or not 1 <= len(columns) <= 2:
        raise ValueError(
            f"{path}: cannot tell the one or two columns of text and the label; "
            f"{f'missing: {missing}; ' if missing else ''}there are {there}. Name them in a task.json, "
            'such as {"columns": ["sentence"], "label": "label"}.'
        )
    kind = own.get("kind")
    return Definition(
        columns=columns,
        num_labels=1 if kind == "regression" else 0 if kind == "classification" else None,
        metrics=tuple(own.get("metric", ())),
        label=label,
    )


def _texts(table: pa.Table, columns: tuple[str, ...], where: str) -> list[tuple[str, ...]]:
    from plm.data.tables import column

    for name in columns:
        if name not in table.column_names:
            raise ValueError(f"{where}: column {name!r} is missing; there are {table.column_names}.")
    values = [column(table, name, where) for name in columns]
    for name, texts in zip(columns, values, strict=True):
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(f"{where}: column {name!r} holds {text!r} in row {row}, which is not text.")
    return [tuple(map(str, row)) for row in zip(*values, strict=True)]


def _labels(train: pa.Table, held_out: pa.Table, definition: Definition, path: str) -> tuple[list[list[float]], int]:
    """Labels of both splits as numbers, and how many classes there are (1 for regression)."""
    from plm.data.tables import column

    if definition.label not in held_out.column_names:
        raise ValueError(
            f"{path} (evaluation): column {definition.label!r} is missing; there are {held_out.column_names}."
        )
    both = [column(t, definition.label, path) for t in (train, held_out)]
    types = {bool if isinstance(v, bool) else type(v) for values in both for v in values}
    if types - {bool, int, float, str}:
        raise ValueError(
            f"{path}: column {definition.label!r} holds {next(iter(types)).__name__} values; a label is a "
            "whole number, a string or a real number."
        )
    if len(types) > 1 and types != {int, float}:
        raise ValueError(f"{path}: column {definition.label!r} mixes {', '.join(sorted(t.__name__ for t in types))}.")
    if definition.num_labels == 1 or (definition.num_labels is None and float in types):
        return [[_finite(v, path, definition.label) for v in values] for values in both], 1
    if str in types:
        numeric = {v for values in both for v in values if str(v).lstrip("-").replace(".", "", 1).isdigit()}
        classes = sorted({str(v) for v in both[0]})
        if numeric and len(numeric) < len({*both[0], *both[1]}):
            raise ValueError(f"{path}: column {definition.label!r} mixes numbers and words: {classes[:8]}.")
        both = [[classes.index(str(v)) if v in classes else str(v) for v in values] for values in both]
    present = sorted({v for v in both[0]}, key=str)  # noqa: C416
    num_labels = definition.num_labels or len(present)
    for split, values in zip(("train", "evaluation"), both, strict=True):
        for row, value in enumerate(values):
            if not isinstance(value, int | float) or not 0 <= value < num_labels or value != int(value):
                raise ValueError(
                    f"{path} ({split}): label {value!r} in row {row} is out of range: the classes are "
                    f"0 to {num_labels - 1}, and those in the training rows are {present[:8]}."
                )
    if num_labels < 2:
        raise ValueError(f"{path}: every training row has label {present[0]}; a classification needs two classes.")
    return [[int(v) for v in values if isinstance(v, int | float)] for values in both], num_labels


def _finite(value: object, path: str, label: str) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{path}: column {label!r} holds {value!r}, which is not a finite number.")
    return float(value)


def _registered(name: str, definition: Definition) -> tuple[pa.Table, pa.Table]:
    suite = importlib.import_module(f"plm.tasks.{name.partition('/')[0]}")
    if definition.hub is None:
        return suite.tables(name.partition("/")[2])
    return _hub(*definition.hub, definition.evaluation)


def _hub(dataset: str, config: str | None, evaluation: str) -> tuple[pa.Table, pa.Table]:
    import datasets

    try:
        found = datasets.load_dataset(dataset, config)
        return found["train"].data.table, found[evaluation].data.table
    except Exception as error:  # the hub's client raises a different type for each way of not being there
        raise ValueError(
            f"the data set {dataset}{f' ({config})' if config else ''} could not be had from the hub "
            f"({type(error).__name__}: {str(error).splitlines()[0]}). Without a network, give a local "
            "folder with its train and validation files instead: task=path/to/folder."
        ) from error
