"""What a sweep looks like in MLflow, and the pass that makes a server look so.

What is to be shown is computed in `shown`, from the folders alone; what the server holds is only ever compared with it. A
run of the server whose history is not the beginning of the folder's is replaced, never patched; all else is sent as it
grows, with the times that the folder recorded, so that sending anything twice changes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from plm.reading import Spec
from plm.spec import from_json
from plm.store import RunFolder, Store
from sweeps.engine.shown import (
    STATUS,
    TAG,
    TRIAL,
    Asked,
    Child,
    Value,
    arrivals,
    curve_child,
    files_below,
    fingerprint,
    legal_key,
    read_child,
    redact,
    shortened,
    trial_child,
)

if TYPE_CHECKING:  # imported when a server is spoken to: it takes a second and a half
    from mlflow.entities import Run
    from mlflow.tracking.client import MlflowClient

VIEW = 1
"""Version of what is shown; raising it makes the next pass show every run anew."""
VALUES_A_BATCH, PARAMS_A_BATCH = 1000, 100
"""MLflow's limits of one request."""
RUNS_A_PAGE = 200
"""A second's work for a busy server."""


@dataclass(frozen=True)
class PushReport:
    """What one push did."""

    runs: int = 0
    """Runs that the view shows now."""
    changed: int = 0
    """Runs of which something was sent."""
    values: int = 0
    """Metric values sent."""
    problems: tuple[str, ...] = ()
    """Runs that cannot be shown, and why."""

    def __add__(self, other: PushReport) -> PushReport:
        return PushReport(
            self.runs + other.runs,
            self.changed + other.changed,
            self.values + other.values,
            self.problems + other.problems,
        )

    def __str__(self) -> str:
        return f"{self.runs} runs shown, {self.changed} of them sent, {self.values} metric values"


@dataclass
class _Known:
    """A run of the server."""

    id: str
    status: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    sent: dict[int, int] | None = None
    """Step -> milliseconds of what has arrived; None: not asked yet."""

    @staticmethod
    def of(run: Run) -> _Known:
        return _Known(run.info.run_id, run.info.status, run.info.run_name, dict(run.data.params), dict(run.data.tags))

    @property
    def state(self) -> str:
        """Fingerprint of all that was shown when a pass last completed this run; empty: none ever did."""
        return self.tags.get("plm.state", "")


@dataclass
class View:
    """One sweep of one store on one server."""

    store: Store
    uri: str
    sweep: str
    artifacts: str | None = None
    """Where the artifacts of a new experiment go; None: the server decides."""
    turn: int = 0
    """Number of this process's last push among all processes'."""
    _client: MlflowClient | None = None
    _experiment: str = ""
    _parent: _Known | None = None
    _children: dict[str, _Known] = field(default_factory=dict)
    _specs: dict[str, Spec] = field(default_factory=dict)
    _settled: dict[str, Child] = field(default_factory=dict)
    """Finished runs that this process has shown: they are not read again."""

    @property
    def is_open(self) -> bool:
        return self._client is not None

    @property
    def client(self) -> MlflowClient:
        """Made on first use; with a new SQLite file, so are its tables (7 s)."""
        if self._client is None:
            from mlflow.tracking.client import MlflowClient

            self._client = MlflowClient(tracking_uri=self.uri)
        return self._client

    def forget(self) -> None:
        """Ask the server anew what it holds: something went wrong, or another process has pushed."""
        self._experiment, self._parent = "", None
        self._children, self._settled = {}, {}

    def push(self, *, live: bool, tick: Callable[[], None] = lambda: None) -> PushReport:
        """One pass over the store. `live`: the sweep goes on; `tick` is called after every run."""
        asked = Asked.read(self.store, self.sweep)
        children, problems = self._read(asked)
        if not self._experiment:
            self._find(asked.metric, tick)
        if not children and self._parent is None:
            return PushReport(problems=problems)
        started = min((c.started for c in children), default=0)
        self._parent = parent = self._parent or self._create(self.sweep, started, {"role": "sweep"})
        report = PushReport(runs=len(children), problems=problems)
        above = dict.fromkeys((c.run_id for c in children), parent.id)
        trials, changed = self._show_trials(asked, children, parent.id, tick)
        curves, more = self._show_curves(asked, children, parent.id, live, tick)
        above, report = above | trials | curves, report + changed + more
        for child in children:
            if child.run_id not in self._settled:
                report += self._show(child, above[child.run_id])
                tick()
            if child.status == "done":
                self._settled[child.run_id] = child
        self._show_parent(parent, asked, children, live)
        return report

    def _show_trials(
        self, asked: Asked, children: list[Child], parent: str, tick: Callable[[], None]
    ) -> tuple[dict[str, str], PushReport]:
        """Show a search's trials; gives the server's run above each of their seeds' runs, and what was sent."""
        known, above, report = {child.run_id: child for child in children}, dict[str, str](), PushReport()
        for trial in asked.trials:
            runs = [known[run_id] for run_id in trial["runs"] if run_id in known]
            if not runs:
                continue
            child = trial_child(trial, asked.metric, runs)
            report += self._show(child, parent)
            tick()
            above |= {run.run_id: self._children[child.run_id].id for run in runs}
        there = {f"{trial['study']}/{trial['trial']}" for trial in asked.trials}
        for name, shown in list(self._children.items()):
            if shown.tags.get("role") == TRIAL and name not in there:  # its process died; another trial took its place
                self.client.delete_run(shown.id)
                del self._children[name]
        return above, report

    def _show_curves(
        self, asked: Asked, children: list[Child], parent: str, live: bool, tick: Callable[[], None]
    ) -> tuple[dict[str, str], PushReport]:
        """Show each training's readings as one run; gives the server's run above each of them, and what was sent."""
        known, above, report = {child.run_id: child for child in children}, dict[str, str](), PushReport()
        for curve in asked.curves:
            child = curve_child(curve, known, live)
            if child is not None:
                report += self._show(child, parent)
                tick()
                above |= {run_id: self._children[child.run_id].id for _, run_id in curve.runs if run_id in known}
        return above, report

    def _read(self, asked: Asked) -> tuple[list[Child], tuple[str, ...]]:
        """Every run that was started, parents first, and what is wrong with those that cannot be read."""
        children: dict[str, Child | None] = {}
        problems: list[str] = []

        @contextlib.contextmanager
        def told(run_id: str) -> Iterator[None]:
            try:
                yield
            except (ValueError, KeyError, TypeError) as error:
                problems.append(redact(f"{run_id}: {error}"))

        def read(run_id: str, spec: Spec) -> None:
            for checkpoint in spec.parents():
                if checkpoint.run.run_id not in children:
                    read(checkpoint.run.run_id, checkpoint.run)
            name, axes = asked.name(run_id), asked.cells.get(run_id, {})
            settled, children[run_id] = self._settled.pop(run_id, None), None
            if settled and (settled.name, settled.axes) == (name, axes):
                self._settled[run_id] = children[run_id] = settled
            else:
                with told(run_id):
                    children[run_id] = read_child(RunFolder(self.store, run_id), spec, name, axes)

        for run_id in asked.cells:
            written = None if run_id in self._specs else self.store.get(f"runs/{run_id}/spec.json")
            with told(run_id):
                if written is not None:
                    self._specs[run_id] = from_json(written.decode())
            if run_id in self._specs and run_id not in children:
                read(run_id, self._specs[run_id])
        found = [child for child in children.values() if child]
        return [_given_up(c) if c.run_id in asked.pruned else c for c in found], tuple(problems)

    def _find(self, metric: str, tick: Callable[[], None]) -> None:
        """Find what earlier passes made, by tag; of two runs that show one thing (an answer was lost), one goes."""
        self._experiment = self._experiment_id(metric)
        mine = f"tags.`plm.store` = '{self._store_id()}'"
        page = self.client.search_runs([self._experiment], mine, max_results=RUNS_A_PAGE)
        runs = list(page)
        while page.token:
            tick()
            page = self.client.search_runs([self._experiment], mine, max_results=RUNS_A_PAGE, page_token=page.token)
            runs += page
        for run in sorted(runs, key=lambda r: (r.info.start_time, r.info.run_id)):
            known = _Known.of(run)
            if known.tags.get("role") == "sweep" and self._parent is None:
                self._parent = known
            elif known.tags.get("role") != "sweep" and known.tags.get("run_id", "") not in self._children:
                self._children[known.tags.get("run_id", "")] = known
            else:
                self.client.delete_run(known.id)

    def _experiment_id(self, metric: str) -> str:
        found = self.client.get_experiment_by_name(self.sweep)
        if found is None:
            tags = {
                "mlflow.experimentKind": "custom_model_development",  # the UI would ask otherwise
                "mlflow.experiment.primaryMetric.name": metric,
            }
            return self.client.create_experiment(self.sweep, artifact_location=self.artifacts, tags=tags)
        if found.lifecycle_stage != "active":
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def _store_id(self) -> str:
        """What tells this store from others on the same server, wherever it is mounted."""
        self.store.create("tracking/id", uuid.uuid4().hex[:12].encode())
        return (self.store.get("tracking/id") or b"").decode()

    def _create(self, name: str, started: int, tags: dict[str, str]) -> _Known:
        tags = tags | {"plm.store": self._store_id()}
        return _Known.of(self.client.create_run(self._experiment, started, tags, name))

    def _show(self, child: Child, parent: str) -> PushReport:
        """Make the server's run what the child is."""
        tags = child.tags | {"mlflow.parentRunId": parent, "sweep": self.sweep}
        state = fingerprint([VIEW, dataclasses.asdict(child), tags])
        known = self._children.get(child.run_id)
        if known and known.state == state:
            return PushReport()
        if known and not self._continues(known, child):
            self.client.delete_run(known.id)
            known = None
        known = self._children[child.run_id] = known or self._create(child.name, child.started, tags)
        if not known.state and child.dataset:
            self._log_dataset(known, *child.dataset)
        self._set_status(known, child.name, STATUS[child.status], child.ended)
        arrived = max(known.sent or {}, default=-1)
        values = [value for value in child.values if value[3] > arrived] + child.totals
        self._send(known, values, child.params, tags | {"plm.state": state})
        known.sent = arrivals(child.values, child.clock)
        return PushReport(changed=1, values=len(values))

    def _continues(self, known: _Known, child: Child) -> bool:
        """Whether what has arrived is the beginning of what is to be shown: a resumed run repeats some steps."""
        if known.sent is None:
            known.sent = {m.step: m.timestamp for m in self.client.get_metric_history(known.id, child.clock)}
        arrived = max(known.sent, default=-1)
        beginning = {step: ms for step, ms in arrivals(child.values, child.clock).items() if step <= arrived}
        return beginning == known.sent and all(child.params.get(k) == v for k, v in known.params.items())

    def _log_dataset(self, known: _Known, name: str, digest: str, counts: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = Dataset(name, digest, "local", json.dumps({"uri": name}), profile=counts)
        self.client.log_inputs(known.id, [DatasetInput(data, [InputTag("mlflow.data.context", "train")])])

    def _set_status(self, known: _Known, name: str, status: str, ended: int | None) -> None:
        if ended is not None:
            self.client.set_terminated(known.id, status, ended)
        elif known.status != status:
            self.client.update_run(known.id, status=status)
        if known.name != name:
            self.client.update_run(known.id, name=name)
        known.status, known.name = status, name

    def _send(self, known: _Known, values: list[Value], params: dict[str, str], tags: dict[str, str]) -> None:
        """In as few requests as MLflow allows; the tags last, because they say that the rest has arrived."""
        from mlflow.entities import Metric, Param, RunTag

        new = [Param(k, v) for k, v in params.items() if k not in known.params]
        for first in range(PARAMS_A_BATCH, len(new), PARAMS_A_BATCH):
            self.client.log_batch(known.id, params=new[first : first + PARAMS_A_BATCH])
        starts = range(0, max(1, len(values)), VALUES_A_BATCH)
        for first in starts:
            self.client.log_batch(
                known.id,
                [Metric(*value) for value in values[first : first + VALUES_A_BATCH]],
                new[:PARAMS_A_BATCH] if first == 0 else [],
                [RunTag(k, v) for k, v in tags.items()] if first == starts[-1] else [],
            )
        known.params, known.tags = params, known.tags | tags

    def _show_parent(self, parent: _Known, asked: Asked, children: list[Child], live: bool) -> None:
        """Counts, table, figures and the sweep's own status."""
        status = dict.fromkeys(asked.cells, "missing") | {child.run_id: child.status for child in children}
        count = Counter(status.values())
        files = files_below(self.store, f"sweeps/{self.sweep}")
        tags = {legal_key(axis): shortened(labels, TAG) for axis, labels in asked.values.items()} | {
            "role": "sweep",
            "sweep": self.sweep,
            "metric": asked.metric,
            "runs": str(len(status)),
            "status": ", ".join(f"{n} {s}" for s, n in count.items()),
            "plm.files": fingerprint(files),
            "mlflow.note.content": shortened(files.get("table.md", b"").decode(errors="replace"), TAG),
        }
        if files and parent.tags.get("plm.files") != tags["plm.files"]:
            self._upload(parent, files)
        failed, ended = count["failed"] + count["diverged"], max((c.ended or 0 for c in children), default=0)
        word = (
            "RUNNING"
            if live or count["running"]
            else "FAILED"
            if failed
            else "KILLED"
            if count["missing"] or count["interrupted"]
            else "FINISHED"
        )
        turn = sum(child.attempts for child in children)
        values: list[Value] = [
            (f"work/runs_{name}", float(n), ended, turn)
            for name, n in (("done", count["done"]), ("failed", failed), ("asked", len(status)))
        ]
        state = fingerprint([VIEW, tags, word, values])
        if state != parent.state:
            self._set_status(parent, self.sweep, word, None if word == "RUNNING" else ended)
            self._send(parent, values if ended else [], {}, tags | {"plm.state": state})

    def _upload(self, parent: _Known, files: dict[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self.client.log_artifacts(parent.id, folder)


def _given_up(child: Child) -> Child:
    """A run that a search stopped: interrupted for good, unless someone else finishes it."""
    if child.status != "interrupted":
        return child
    return dataclasses.replace(child, status="pruned", tags=child.tags | {"status": "pruned"})
