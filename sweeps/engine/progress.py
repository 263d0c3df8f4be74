"""What a person sees while a sweep runs: running, done, failed, the best so far, the time left.

Bars on a terminal, a plain line now and then elsewhere. The time left is the remaining runs' estimated cost at the speed
seen so far.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import mean
from typing import TYPE_CHECKING, Any

from plm.metrics import REPORTED
from plm.store import RunFolder, Store
from sweeps.engine.schedule import BLOCKED, Schedule

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from plm.reading import Spec
    from sweeps.engine.worker import Outcome

LINE_SECONDS, REFRESH_SECONDS, READ_SECONDS = 15.0, 1.0, 5.0


class Progress:
    """A live view of a schedule."""

    def __init__(
        self,
        schedule: Schedule,
        store: Store,
        cost: Callable[[Spec], float],
        concurrency: int,
        console: Console,
    ) -> None:
        """`cost` gives a run's work in any unit; `concurrency` is how many run at a time."""
        self._schedule, self._store, self._concurrency = schedule, store, concurrency
        self._cost_of, self._costs = cost, dict[str, float]()
        self._console, self._metric = console, schedule.plan.sweep.metric
        self._running: dict[str, tuple[float, Any]] = {}  # since when, and which attempt was the last before
        self._read: dict[str, tuple[float, dict[str, Any]]] = {}  # when, and the last attempt
        self._worked = self._seconds = 0.0
        self._best: tuple[float, str] | None = None
        self._labels: dict[str, str] = {}
        self._labelled = 0
        self._last = 0.0
        self._live: Live | None = None
        self.failures: list[Outcome] = []

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(self._view(), console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def _cost(self, run_id: str) -> float:
        if run_id not in self._costs:
            self._costs[run_id] = self._cost_of(self._schedule.plan.runs[run_id])
        return self._costs[run_id]

    def _label(self, run_id: str) -> str:
        """What tells a run from the others of the plan; empty: it is a parent."""
        cells = self._schedule.plan.cells
        if self._labelled != len(cells):  # a search's plan grows
            self._labelled = len(cells)
            varied = [
                a
                for a in dict.fromkeys(a for c in cells for a in c.labels)
                if len({c.labels.get(a) for c in cells}) > 1
            ]
            self._labels = {
                c.spec.run_id: " ".join(f"{a}={short(c.labels[a])}" for a in varied if a in c.labels) for c in cells
            }
        return self._labels.get(run_id, "")

    def started(self, run_id: str) -> None:
        """A run has begun."""
        self._running.setdefault(run_id, (time.monotonic(), self._attempt(run_id).get("started")))
        self.tick()

    def ended(self, outcome: Outcome) -> None:
        """A run has ended."""
        if outcome.status == "done":
            self._read.pop(outcome.run_id, None)
            if share := self._gained(outcome.run_id, done=True):  # else another process has done it
                self._worked += share * self._cost(outcome.run_id)
                self._seconds += outcome.seconds
        self._running.pop(outcome.run_id, None)
        self._read.pop(outcome.run_id, None)
        if outcome.status == "done":
            self._note_best(outcome)
        elif outcome.status in ("failed", "diverged"):
            self.failures.append(outcome)
            self._console.print(
                f"{outcome.status} {outcome.run_id}  {self._label(outcome.run_id)}: {outcome.error}",
                style="red",
                highlight=False,
                soft_wrap=True,
            )
        self.tick(now=self._schedule.exhausted)

    def _note_best(self, outcome: Outcome) -> None:
        value = outcome.metrics.get(self._metric)
        sign = -1 if REPORTED[self._metric][1] == "min" else 1
        if (
            value is not None
            and (label := self._label(outcome.run_id))
            and (self._best is None or sign * value > sign * self._best[0])
        ):
            self._best = (value, label)

    def tick(self, now: bool = False) -> None:
        """Refresh the view if it is time to."""
        if now or time.monotonic() - self._last > (REFRESH_SECONDS if self._live else LINE_SECONDS):
            self._last = time.monotonic()
            if self._live:
                self._live.update(self._view())
            else:
                self._console.print(self.line(), highlight=False, soft_wrap=True)

    def line(self) -> str:
        """The state in one line."""
        s = self._schedule
        counts = f"{s.count('done')}/{len(s.state)} done, {len(self._running)} running"
        if pruned := s.count("pruned"):
            counts += f", {pruned} given up"
        failed, blocked = s.count("failed", "diverged"), s.count(BLOCKED)
        counts += (f", {failed} failed" if failed else "") + (f", {blocked} blocked" if blocked else "")
        best = f" | best {self._metric} {self._best[0]:.3f} ({self._best[1]})" if self._best else ""
        return f"{counts}{best} | {self._left()}"

    def _left(self) -> str:
        left = self.seconds_left()
        return "time left: not known yet" if left is None else f"about {duration(left)} left"

    def seconds_left(self) -> float | None:
        """Remaining work at the speed seen so far; None before anything was seen."""
        waiting = sum(self._cost(r) for r, state in self._schedule.state.items() if state == "waiting")
        if self._schedule.source and self._costs:
            waiting += self._schedule.source.unasked * mean(self._costs.values())
        parts = {r: self._fraction(r) for r in self._running}
        new = {r: self._gained(r) for r in self._running}
        if self._worked:
            rate = self._seconds / self._worked
        elif any(f > 0.02 for f in new.values()):  # the first runs: by the share of their steps
            done = sum(f * self._cost(r) for r, f in new.items())
            rate = sum(time.monotonic() - since for since, _ in self._running.values()) / max(done, 1e-12)
        else:
            return None
        running = sum((1 - f) * self._cost(r) for r, f in parts.items())
        return rate * (waiting + running) / max(1, self._concurrency)

    def _attempt(self, run_id: str) -> dict[str, Any]:
        """What the last attempt at a run said of itself lately; nothing where the store does not say."""
        read, last = self._read.get(run_id, (-math.inf, {}))
        if time.monotonic() - read > READ_SECONDS:
            try:
                last = RunFolder(self._store, run_id).last_attempt() or {}
            except (OSError, ValueError):  # the store is away for a moment, or damaged: training finds out by itself
                last = {}
            self._read[run_id] = time.monotonic(), last
        return last

    def _fraction(self, run_id: str) -> float:
        """The share of a running run's steps that is done, as its claim last said."""
        last = self._attempt(run_id)
        return min(1.0, last.get("step", 0) / last["total"]) if last.get("total") else 0.0

    def _gained(self, run_id: str, *, done: bool = False) -> float:
        """The share of a run's steps that was taken here, by an attempt that began since it was started."""
        last = self._attempt(run_id)
        if last.get("started") == self._running.get(run_id, (0.0, None))[1]:
            return 0.0
        total = last.get("total")
        if not total:  # a reading has no steps
            return float(done)
        return max(0.0, (total if done else last.get("step", 0)) - last.get("from", 0)) / total

    def _view(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table.grid(padding=(0, 1))
        table.add_row(ProgressBar(len(self._schedule.state), self._schedule.count("done"), width=40), self.line())
        for run_id, (since, _) in list(self._running.items())[:8]:
            table.add_row(
                ProgressBar(1.0, self._fraction(run_id), width=40),
                f"{duration(time.monotonic() - since)}  {run_id}  {self._label(run_id) or '(parent)'}",
            )
        return table


def short(value: Any) -> str:
    """A value for the eye: three digits of a number that was drawn."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """`8 s`, `4 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
