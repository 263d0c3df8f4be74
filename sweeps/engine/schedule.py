"""The plan as a graph that is run by readiness: a run may start when its parents are done.

One object answers "what next?" for every way of executing, so that parents come first, children of a failed parent are
blocked, and nothing is handed out twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from plm.spec import RunSpec
from sweeps.engine.plan import Plan

BLOCKED = "blocked"


@dataclass
class Schedule:
    """State of each run of a plan: `done`, `waiting`, `running`, an unsuccessful outcome, or `blocked`."""

    plan: Plan
    state: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = {run_id: "done" if self.plan.status[run_id] == "done" else "waiting" for run_id in self.plan.runs}

    def next(self) -> RunSpec | None:
        """A run that may start now, marked as running; None: nothing can start before something else ends."""
        for run_id, state in self.state.items():
            if state == "waiting":
                parents = {self.state[c.run.run_id] for c in self.plan.runs[run_id].parents()}
                if parents <= {"done"}:
                    self.state[run_id] = "running"
                    return self.plan.runs[run_id]
        return None

    def ended(self, run_id: str, outcome: str) -> None:
        """Note how a run ended; what descends from an unsuccessful one is blocked."""
        self.state[run_id] = outcome
        if outcome != "done":
            for child, spec in self.plan.runs.items():  # parents come before children, so one pass reaches them all
                if self.state[child] == "waiting" and any(
                    self.state[c.run.run_id] not in ("done", "waiting", "running") for c in spec.parents()
                ):
                    self.state[child] = BLOCKED

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left that could start, now or later."""
        return not set(self.state.values()) & {"waiting", "running"}

    def count(self, *states: str) -> int:
        """Runs in any of these states."""
        return sum(state in states for state in self.state.values())
