"""What a sweep answered, to be compared: everything but for how long it took."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from plm import Store


def results(store: Path | Store, sweep: str = "reinit_grid") -> list[dict[str, Any]]:
    """All rows."""
    opened = store if isinstance(store, Store) else Store.at(store)
    table = pq.read_table(io.BytesIO(opened.get(f"sweeps/{sweep}/results.parquet") or b""))
    return sorted(table.drop_columns(["seconds"]).to_pylist(), key=lambda row: row["run_id"])


def table(store: Path, sweep: str = "reinit_grid") -> str:
    """The table's text."""
    return re.sub(r"[\d.]+ min of computing", "", (store / "sweeps" / sweep / "table.md").read_text())
