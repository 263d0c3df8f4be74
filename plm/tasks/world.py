"""The tasks of the generated language (`plm.data.world`), for the embedded default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plm.data.world import TASKS as NAMES
from plm.data.world import World
from plm.tasks import Definition

if TYPE_CHECKING:
    import pyarrow as pa

TASKS = {name: Definition(("sentence",), 2, ("accuracy",)) for name in NAMES}


def tables(name: str) -> tuple[pa.Table, pa.Table]:
    """A task's training and evaluation rows."""
    import pyarrow as pa

    rows = World().task(name)
    return pa.Table.from_pylist(rows["train"]), pa.Table.from_pylist(rows["validation"])
