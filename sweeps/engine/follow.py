"""Checkpoints as they appear: what of an unfinished run is there already, and whether another process is at it.

A plan says that readings need a checkpoint; by itself a schedule starts them when the whole run is done. Here they start
when their step is there. A step that is there may yet vanish: only one that is kept, and that no repetition has still to
compare with the first time, is read. A store that is away for a moment has nothing new.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field

from plm.reading import Spec
from plm.spec import Checkpoint
from plm.store import RunFolder, Store

LOOK_SECONDS = 2.0
"""Between two looks at a run's folder, which may lie far away."""


@dataclass
class Follow:
    """Looks into a store now and then."""

    store: Store
    _there: dict[str, set[int]] = field(default_factory=dict)
    """Run -> the steps that were seen."""
    _looked: dict[tuple[str, object], float] = field(default_factory=dict)
    _running: dict[str, bool] = field(default_factory=dict)

    def has(self, checkpoint: Checkpoint, *, at_once: bool = False) -> bool:
        """Whether a checkpoint can be read, though its run may still train.

        Args:
            at_once: Look, however lately somebody did.
        """
        run_id, step = checkpoint.run.run_id, checkpoint.step
        there = self._there.setdefault(run_id, set())
        if step not in there and (self._due(run_id, step) or at_once):
            with contextlib.suppress(OSError):
                if _lasts(self.store.run(checkpoint.run), step):
                    there.add(step)
        return step in there

    def elsewhere(self, spec: Spec) -> bool:
        """Whether another process is at a run that we have not begun."""
        if self._due(spec.run_id, "status"):
            with contextlib.suppress(OSError):
                self._running[spec.run_id] = self._trained(spec)
        return self._running.get(spec.run_id, True)

    def _trained(self, spec: Spec) -> bool:
        try:
            return self.store.run(spec).status() == "running"
        except ValueError:  # a damaged record: whoever begins the run will say so
            return False

    def _due(self, run_id: str, what: object) -> bool:
        now = time.monotonic()
        if now - self._looked.get((run_id, what), -LOOK_SECONDS) < LOOK_SECONDS:
            return False
        self._looked[run_id, what] = now
        return True


def _lasts(folder: RunFolder, step: int) -> bool:
    """Whether a step is there to stay.

    The checkpoint is looked for first: if a repetition wrote it, the run has been finished by the time that is asked.
    """
    if folder.lacks([step]):
        return False
    attempts = folder.attempts()
    if folder.get("DONE") is not None:  # what a repetition wrote counts once its weights were found the same
        attempts = [attempt for attempt in attempts if attempt["outcome"] in ("done", "repeated")]
    return any(step in attempt.get("keep", ()) for attempt in attempts)
