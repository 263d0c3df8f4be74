"""Rows of an analysis as columns: their numbers, and which rows belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from plm.analyses import Row


def numbers(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    """A column as numbers: truth is 1, what is absent NaN."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=float)


def groups(rows: Sequence[Row], *names: str) -> dict[str, NDArray[np.int64]]:
    """Row numbers by the values of some columns, joined by `/`, in order of first occurrence."""
    found: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        found.setdefault("/".join(str(row[name]) for name in names), []).append(i)
    return {key: np.array(own, dtype=np.int64) for key, own in found.items()}
