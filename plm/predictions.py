"""`predictions.parquet`: what a run said of every evaluated example, so that scores can be recomputed and runs compared."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray


def predicted(records: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Predicted class (the first of the largest logits), or the value where there is one output."""
    logits = np.array([r["logits"] for r in records], dtype=float)
    return logits[:, 0] if logits.shape[1] == 1 else logits.argmax(1).astype(float)


def to_parquet(records: list[dict[str, Any]]) -> bytes:
    """`predictions.parquet`: id, label, logits."""
    sink = io.BytesIO()
    schema = pa.schema([("id", pa.int64()), ("label", pa.float64()), ("logits", pa.list_(pa.float32()))])
    pa.parquet.write_table(pa.Table.from_pylist(records, schema), sink, compression="zstd")
    return sink.getvalue()


def from_parquet(data: bytes) -> list[dict[str, Any]]:
    """Read `predictions.parquet`."""
    return pa.parquet.read_table(io.BytesIO(data)).to_pylist()
