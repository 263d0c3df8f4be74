"""The plan as a graph that is run by readiness: a run may start when its parents are done, or, where they are followed,
when they have come to the step that it starts from.

One object answers "what next?" for every way of executing, so that parents come first, children of a failed parent are
blocked, and nothing is handed out twice. The plan of a grid is complete from the start; that of a search grows.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from plm.reading import Spec
from plm.spec import Checkpoint
from plm.store import Store
from sweeps.engine.plan import INCOMPLETE, Plan

if TYPE_CHECKING:
    from sweeps.engine.follow import Follow
    from sweeps.engine.rungs import Rungs

BLOCKED = "blocked"
TAKEN = ("busy", "lost")
"""How a trial ends whose run another process has."""
LOOKING_SECONDS, LOOK_SECONDS = 1.0, 10.0
"""For how long one that nobody has is looked for among the runs; and when one that somebody had is looked at again."""


class Source(Protocol):
    """Where a growing plan's runs come from."""

    at_a_time: int
    """Runs that are executed at a time: it need not add more than these."""

    @property
    def finished(self) -> bool:
        """Whether no more runs will come."""
        ...

    @property
    def unasked(self) -> int:
        """How many more runs may come, at most."""
        ...

    def extend(self, schedule: Schedule) -> bool:
        """Add runs if it is time to; whether it did."""
        ...

    def ended(self, schedule: Schedule, run_id: str) -> None:
        """Hear that a run has ended."""
        ...

    def rungs(self, run_id: str) -> Rungs | None:
        """Where a run is compared with others while it trains."""
        ...

    def record(self, schedule: Schedule) -> None:
        """Write down what was asked for so far."""
        ...


@dataclass
class Schedule:
    """State of each run of a plan: `done`, `waiting`, `running`, an unsuccessful outcome, or `blocked`."""

    plan: Plan
    source: Source | None = None
    store: Store | None = None
    """Where other processes may be at the same runs; what they have is left for last."""
    follow: Follow | None = None
    """Where checkpoints of unfinished runs are looked for; what another process trains is then left to it."""
    state: dict[str, str] = field(default_factory=dict)
    _begun: dict[str, object] = field(default_factory=dict)
    """What each running run was told to keep."""
    _taken: dict[str, float] = field(default_factory=dict)
    """When another process was seen at a run."""

    def __post_init__(self) -> None:
        self.state = {run_id: "done" if self.plan.status[run_id] == "done" else "waiting" for run_id in self.plan.runs}

    def next(self) -> Spec | None:
        """A run that may start now, marked as running; None: nothing can start before something else has happened."""
        while True:
            if run_id := self._choose():
                self.state[run_id], self._begun[run_id] = "running", self._kept(run_id)
                return self.plan.runs[run_id]
            if self.source is None or not self.source.extend(self):
                return None

    def add(self, more: Plan) -> None:
        """Let the plan grow."""
        self.plan += more
        for run_id in more.runs:
            state = self.state.setdefault(run_id, "done" if more.status[run_id] == "done" else "waiting")
            if state == "done" and more.status[run_id] == INCOMPLETE:  # nobody had asked for this step before
                self.state[run_id] = "waiting"
        self._block()

    def ended(self, run_id: str, outcome: str) -> None:
        """Note how a run ended; what descends from an unsuccessful one is blocked.

        A run of which more steps are wanted than when it began is executed again; where they are there, that is nothing.
        One that another process has waits for its turn again, and may be finished by then.
        """
        if outcome in TAKEN:
            self.state[run_id] = "waiting"
            return
        more = outcome == "done" and self._begun.get(run_id, self._kept(run_id)) != self._kept(run_id)
        self.state[run_id] = "waiting" if more else outcome
        if outcome != "done":  # at 100,000 runs a pass over them takes seconds
            self._block()
        if self.source:
            self.source.ended(self, run_id)

    def _choose(self) -> str | None:
        """The first run that may start and that no other process has; if others have all that were looked at, the first."""
        first, free, held, now = None, None, list[str](), time.monotonic()
        for run_id, state in self.state.items():
            if state != "waiting" or not self._ready(self.plan.runs[run_id]):
                continue
            first = first or run_id
            if now - self._taken.get(run_id, -math.inf) < LOOK_SECONDS:
                continue
            if not self._held(self.plan.runs[run_id]):
                free = run_id
                break
            self._taken[run_id] = now
            held.append(run_id)
            if time.monotonic() - now > LOOKING_SECONDS:
                break
        for run_id in held:  # to the end of the queue
            self.state[run_id] = self.state.pop(run_id)
        return free or first

    def _held(self, spec: Spec) -> bool:
        # The store may be away for a moment; of a damaged record the run will say so.
        with contextlib.suppress(OSError, ValueError):
            return self.store is not None and self.store.run(spec).held
        return False

    def _ready(self, spec: Spec) -> bool:
        if self.follow and spec.run_id in self.plan.keep and self.follow.elsewhere(spec):
            return False
        return all(self._there(checkpoint) for checkpoint in spec.parents())

    def _there(self, checkpoint: Checkpoint, *, at_once: bool = False) -> bool:
        state = self.state[checkpoint.run.run_id]
        return state == "done" or (self.follow is not None and self.follow.has(checkpoint, at_once=at_once))

    def _kept(self, run_id: str) -> object:
        return self.plan.keep.get(run_id), self.plan.keep_state.get(run_id)

    def _block(self) -> None:
        for child, spec in self.plan.runs.items():  # parents come before children, so one pass reaches them all
            if self.state[child] == "waiting" and any(
                self.state[c.run.run_id] not in ("done", "waiting", "running") and not self._there(c, at_once=True)
                for c in spec.parents()
            ):
                self.state[child] = BLOCKED

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left that could start, now or later."""
        open_ended = self.source is not None and not self.source.finished
        return not open_ended and not set(self.state.values()) & {"waiting", "running"}

    @property
    def succeeded(self) -> bool:
        """Whether every run ended as it should: done, or given up because others were better."""
        return self.count("done", "pruned") == len(self.state)

    def count(self, *states: str) -> int:
        """Runs in any of these states."""
        return sum(state in states for state in self.state.values())
