"""Plain text on disk as a corpus: text files, or the `text` column of tables; documents are lines or rows."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from plm.spec import location

EXTENSIONS = (".txt", ".txt.gz", ".parquet", ".jsonl")


@dataclass(frozen=True)
class Files:
    """Text files of two splits, by content. Make one with `files(path)`."""

    kind: ClassVar[str] = "data/files"
    version: ClassVar[int] = 1
    train: tuple[str, ...]
    """SHA-256 of each file, in order of name."""
    validation: tuple[str, ...]
    paths: tuple[tuple[str, ...], tuple[str, ...]] = location()
    name: str = location()

    def text(self, split: str) -> Iterator[str]:
        """The documents of a split, read one after the other.

        Raises:
            ValueError: a file has changed, is not UTF-8, or has no `text` column.
        """
        expected = self.train if split == "train" else self.validation
        for path, digest in zip(self.paths[split != "train"], expected, strict=True):
            if _sha256(Path(path)) != digest:
                raise ValueError(f"corpus {self.name}: {path} has changed since the plan was made.")
            yield from _documents(Path(path))


def files(path: str) -> Files:
    """The corpus in a folder with `train*` and `validation*` files (.txt, .txt.gz, .parquet, .jsonl).

    Raises:
        ValueError: no such folder, or one of the splits is missing.
    """
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}. A corpus is a folder with train and validation files.")
    found = {
        split: [f for f in sorted(folder.rglob(f"{split}*")) if f.name.endswith(EXTENSIONS)]
        for split in ("train", "validation")
    }
    for split, there in found.items():
        if not there:
            raise ValueError(f"{folder} has no {split} file ending in {', '.join(EXTENSIONS)}.")
    sums = {split: tuple(_sha256(f) for f in there) for split, there in found.items()}
    return Files(**sums, paths=tuple(tuple(map(str, there)) for there in found.values()), name=folder.name)  # type: ignore[arg-type]


def _documents(path: Path) -> Iterator[str]:
    if path.suffix in (".parquet", ".jsonl"):
        from plm.data.tables import column, read

        table = read(path)
        if "text" not in table.column_names:
            raise ValueError(f"{path} has no column 'text'; there are {table.column_names}.")
        yield from map(str, column(table, "text", str(path)))
        return
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        try:
            yield from (line.strip() for line in lines if line.strip())
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}).") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
