"""How far a sweep is, seen from its store, and waiting for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from cluster.testbed import PATIENCE


def wait_for(condition: Callable[[], bool], message: str, seconds: float = PATIENCE) -> None:
    """Until it holds; fail with the message."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, message
        time.sleep(1)


def finished(store: Path) -> int:
    """Runs with `DONE`."""
    return len(list(store.glob("runs/*/DONE")))


def holders(store: Path) -> set[str]:
    """Hosts that hold an unfinished run."""
    records = [json.loads(file.read_text()) for file in store.glob("runs/*/attempts/*.json")]
    return {record["holder"]["host"] for record in records if record["outcome"] is None}
