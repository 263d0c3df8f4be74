"""Columns of numbers on disk: written as a stream, published whole, read through a memory map.

A file holds batches of a fixed number of rows, so that row i is found by division and reading copies what is asked for
and nothing else. Each batch carries a checksum, which is compared when the batch is first touched.
"""

from __future__ import annotations

import fcntl
import os
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Types = dict[str, type[np.generic]]
"""The columns of a file, by name."""
ROWS = 1 << 20
"""Rows of a batch: 4 MiB of tokens, whose checksum takes some milliseconds."""


class Damaged(ValueError):
    """A file is not what was written."""


@final
class Writer:
    """Appends rows to a file that appears under its name when the `with` block ends, or not at all."""

    def __init__(self, path: Path, columns: Types, rows: int = ROWS) -> None:
        self._path, self._types, self._rows = path, columns, rows
        self._new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        self._held: list[dict[str, NDArray[Any]]] = []
        self._count = 0
        self._schema = _schema(columns).with_metadata({"rows": str(rows)})

    def __enter__(self) -> Writer:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._sink = pa.OSFile(str(self._new), "wb")
        self._file = pa.ipc.new_file(self._sink, self._schema)
        return self

    def append(self, **columns: NDArray[Any]) -> None:
        """Add rows: one array a column, all of one length."""
        self._held.append(columns)
        self._count += len(next(iter(columns.values())))
        if self._count >= self._rows:
            self._flush(self._count // self._rows * self._rows)

    def touch(self) -> None:
        """Show that somebody is at work on the file: what is held may not reach it for hours."""
        os.utime(self._new)

    def _flush(self, upto: int) -> None:
        joined = {name: np.concatenate([part[name] for part in self._held]) for name in self._types}
        for start in range(0, upto, self._rows):
            end = min(start + self._rows, upto)
            arrays = [pa.array(joined[name][start:end].astype(kind, copy=False)) for name, kind in self._types.items()]
            batch = pa.record_batch(arrays, schema=self._schema)
            self._file.write_batch(batch, custom_metadata={"crc32": str(_checksum(batch))})
        self._held, self._count = [{name: column[upto:] for name, column in joined.items()}], self._count - upto

    def __exit__(self, failed: type[BaseException] | None, *rest: object) -> None:
        if failed is None and self._count:
            self._flush(self._count)
        self._file.close()
        self._sink.close()
        if failed is None:
            os.replace(self._new, self._path)
        else:
            self._new.unlink(missing_ok=True)


@final
class Columns:
    """What a `Writer` wrote; nothing is in memory but what was asked for.

    Raises:
        Damaged: the file ends too early, or has other columns.
    """

    def __init__(self, path: Path, columns: Types) -> None:
        self._path = path
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
            self._rows = int((self._file.schema.metadata or {})[b"rows"])
            count = self._file.num_record_batches
            first, last = (self._file.get_batch(i).num_rows if count else 0 for i in (0, count - 1))
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise Damaged(f"{path} is damaged ({type(error).__name__}: {error}).") from error
        if not self._file.schema.equals(_schema(columns)) or (count > 1 and first != self._rows) or last > self._rows:
            raise Damaged(f"{path} is damaged: it holds {self._file.schema.names} in batches of {first} rows.")
        self._length = max(0, count - 1) * self._rows + last
        self._batches: dict[int, dict[str, NDArray[Any]]] = {}

    def __len__(self) -> int:
        return self._length

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` of a column; a view of the file where they lie in one batch.

        Raises:
            Damaged: a batch has changed since it was written.
        """
        parts = []
        for number in range(start // self._rows, -(-stop // self._rows)):
            begin = number * self._rows
            parts.append(self._batch(number)[name][max(0, start - begin) : stop - begin])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _batch(self, number: int) -> dict[str, NDArray[Any]]:
        if number not in self._batches:
            try:
                batch, noted = self._file.get_batch_with_custom_metadata(number)
                intact = noted is not None and noted.get("crc32") == str(_checksum(batch)).encode()
            except (pa.ArrowException, OSError, ValueError):
                intact = False
            if not intact:
                raise Damaged(
                    f"{self._path} is damaged in rows {number * self._rows} to {(number + 1) * self._rows}: delete it "
                    "and run again; it will be made anew from the text."
                )
            self._batches[number] = {
                name: batch.column(name).to_numpy(zero_copy_only=True) for name in batch.schema.names
            }
        return self._batches[number]


def _schema(columns: Types) -> pa.Schema:
    return pa.schema([(name, pa.from_numpy_dtype(kind)) for name, kind in columns.items()])


def _checksum(batch: pa.RecordBatch) -> int:
    total = 0
    for column in batch.columns:
        total = zlib.crc32(column.to_numpy(zero_copy_only=True), total)
    return total


def found(path: Path, columns: Types) -> Columns | None:
    """What a file holds; None where there is none, or where it was cut short."""
    with suppress(Damaged):
        return Columns(path, columns) if path.is_file() else None
    return None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process of this machine at a time make files in a folder, so that the others find them made.

    Only to save work: where a file system has no locks, all make the same file, and the last one stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
