"""What a sweep left in its store, and waiting for it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
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


def results(store: Path) -> list[dict[str, Any]]:
    """All that a sweep answers, but for how long it took."""
    rows = pq.read_table(store / "sweeps" / "reinit_grid" / "results.parquet").drop_columns(["seconds"]).to_pylist()
    return sorted(rows, key=lambda row: row["run_id"])


def table(store: Path) -> str:
    """The table, but for how long it took."""
    text = (store / "sweeps" / "reinit_grid" / "table.md").read_text()
    return re.sub(r"[\d.]+ min of computing", "", text)
