"""Five whole-object operations, and the filesystem's way of doing them.

Keys are relative paths with forward slashes. A `Folder` is a filesystem, local or shared; `plm.bucket` does the same by the
S3 protocol. Nothing here knows what a run is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")
R = TypeVar("R")


READERS = 16
"""Things that are read at a time: a bucket or a busy file server answers late, not slowly."""


def side_by_side(read: Callable[[T], R], things: Iterable[T]) -> list[R]:
    """What is read of each thing, in their order, several at a time.

    Raises:
        Exception: the first thing's, in their order, that cannot be read.
    """
    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(read, things))


@runtime_checkable
class Objects(Protocol):
    """What a store rests on."""

    def put(self, key: str, data: bytes) -> None:
        """Write a whole object; a reader sees the old one or the new one, never a part."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a whole object unless there is one; whether it was this call that made it."""

    def get(self, key: str) -> bytes | None:
        """A whole object; None if there is none."""

    def list(self, prefix: str) -> list[str]:
        """Names directly below a prefix, sorted; unfinished writes are not shown."""

    def delete(self, prefix: str) -> None:
        """Remove an object or all below a prefix."""


@dataclass(frozen=True)
class Folder:
    """Objects as files below a folder; names that begin with a dot are unfinished writes."""

    root: Path

    def put(self, key: str, data: bytes) -> None:
        """Write beside the file, then rename."""
        with self._beside(key, data) as (new, path):
            os.replace(new, path)

    def create(self, key: str, data: bytes) -> bool:
        """Write beside the file, then link: of several at a time one succeeds, also on NFS."""
        with self._beside(key, data) as (new, path):
            try:
                os.link(new, path)
            except FileExistsError:
                return False
            return True

    @contextlib.contextmanager
    def _beside(self, key: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        """A new file of these data and the one that it is to become; whatever is left of it goes."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.parent / f".{path.name}.{uuid.uuid4().hex}"
        try:
            new.write_bytes(data)
            yield new, path
        finally:
            new.unlink(missing_ok=True)

    def get(self, key: str) -> bytes | None:
        """A file's content; a folder is no object."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def list(self, prefix: str) -> list[str]:
        """Files and folders."""
        folder = self.root / prefix
        return sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []

    def delete(self, prefix: str) -> None:
        """A file, or a folder with all in it."""
        path = self.root / prefix
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
