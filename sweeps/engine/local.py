"""Execute a plan in this process, one run after the other, without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable

from plm.store import Store
from sweeps.engine.progress import Progress
from sweeps.engine.schedule import Schedule
from sweeps.engine.worker import POLL_SECONDS, Resources, execute, execution_for, quiet


def run(
    schedule: Schedule,
    store: Store,
    resources: Resources,
    progress: Progress,
    should_stop: Callable[[], bool],
    keep_weights: bool = False,
) -> None:
    """Run all that can be run; ends early, resumable, when `should_stop()` is true."""
    quiet()

    def check() -> bool:
        progress.tick()
        return should_stop()

    while not should_stop() and not schedule.exhausted:
        spec = schedule.next()
        if spec is None and schedule.follow is None:  # of a search: nothing can start, now or later
            return
        if spec is None:
            progress.tick()
            time.sleep(POLL_SECONDS)
            continue
        progress.started(spec.run_id)
        execution = execution_for(resources, schedule.plan, spec.run_id, store, keep_weights)
        rungs = schedule.source.rungs(spec.run_id) if schedule.source else None
        outcome = execute(spec, store, execution, rungs=rungs, should_stop=check)
        schedule.ended(spec.run_id, outcome.status)
        progress.ended(outcome)
