"""Text on disk as a corpus: text files, JSON lines or tables, gzipped or not, by content.

What counts as a document is part of the identity: a line or a block between blank lines of a text file, a row of a
table. Where there is no validation split, documents are held out by the hash of their text, so that a document stays on
its side whatever stands around it and duplicates share a side.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from plm.spec import location, neutral

EXTENSIONS = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet")
SPLITS = {"train": re.compile("train"), "validation": re.compile("validation|(valid|dev)(?![a-z])")}
"""How the names of files or folders of a split begin."""
HELD_OUT = 200
"""One document in so many is for validation where the text has no such split (199:1, Qin et al. 2022)."""
DOCUMENTS = ("line", "block")
ROWS_AT_ONCE = 1024
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Files:
    """Text files of two splits, by content. Make one with `files(path)`."""

    kind: ClassVar[str] = "data/files"
    version: ClassVar[int] = 1
    train: tuple[str, ...]
    """SHA-256 of each file, in order of name."""
    validation: tuple[str, ...]
    """Empty: held out of the files of `train`."""
    paths: tuple[tuple[str, ...], tuple[str, ...]] = location()
    name: str = location()
    documents: str = neutral("line")
    """Of text files: a `line` each, or a `block` of lines up to a blank line."""
    column: str = neutral("text")
    """Where tables and JSON lines have their text."""
    held_out: int = neutral(0)
    """One document in so many is for validation; 0: the files say which."""

    def text(self, split: str) -> Iterator[str]:
        """The documents of a split, read one after the other.

        Raises:
            ValueError: a file has changed, is not UTF-8, or has no such column.
        """
        files = int(split != "train" and not self.held_out)
        for path, expected in zip(self.paths[files], (self.train, self.validation)[files], strict=True):
            if sha256(Path(path)) != expected:
                raise ValueError(f"corpus {self.name}: {path} has changed since the plan was made.")
            for document in _documents(Path(path), self.documents, self.column):
                if not self.held_out or _held_out(document, self.held_out) == (split != "train"):
                    yield document


def files(path: str, *, documents: str = "line", column: str = "text") -> Files:
    """The corpus in a file, in a folder, or of a data set on the hub (`owner/name`, or `owner/name/configuration`).

    A folder has files, or folders of files, called `train*` and `validation*`; where it has no validation split, or
    is a single file or a folder of unsplit files, every 200th document or so is held out.

    Args:
        documents: What a document is in a text file: a `line`, or a `block` up to a blank line.

    Raises:
        ValueError: nothing there that could be read, or a split whose files are of several data sets.
    """
    if documents not in DOCUMENTS:
        raise ValueError(f"documents {documents!r}: a document of a text file is a {' or a '.join(DOCUMENTS)}.")
    given = Path(path).expanduser().resolve()
    if not given.exists():
        given = _download(path)
    train, validation = _splits(given)
    sums = (tuple(map(sha256, train)), tuple(map(sha256, validation)))
    return Files(
        *sums,
        paths=(tuple(map(str, train)), tuple(map(str, validation))),
        name=given.name,
        documents=documents if any(_is_text(f) for f in (*train, *validation)) else "line",
        column=column if any(not _is_text(f) for f in (*train, *validation)) else "text",
        held_out=0 if validation else HELD_OUT,
    )


def _splits(given: Path) -> tuple[list[Path], list[Path]]:
    """Training and validation files; the latter may be none."""
    if given.is_file():
        if not given.name.endswith(EXTENSIONS):
            raise ValueError(f"{given} is not text: the known endings are {', '.join(EXTENSIONS)}.")
        return [given], []
    there = [f for f in sorted(given.rglob("*")) if f.name.endswith(EXTENSIONS) and f.is_file()]
    train, validation = (_of_split(given, there, split) for split in SPLITS)
    if validation and not train:
        raise ValueError(f"{given} has no train file ending in {', '.join(EXTENSIONS)}.")
    if not there:
        raise ValueError(f"{given} has no file ending in {', '.join(EXTENSIONS)}.")
    return train or there, validation


def _of_split(folder: Path, there: list[Path], split: str) -> list[Path]:
    """The files that are called after a split, or lie in a folder that is."""
    found = {f: part for f in there for part in f.relative_to(folder).parts if SPLITS[split].match(part)}
    homes = sorted({str(f.relative_to(folder)).partition(part)[0] for f, part in found.items()})
    if len(homes) > 1:
        raise ValueError(f"{folder} has several {split} splits, in {', '.join(homes)}: name one of these folders.")
    return list(found)


def _download(name: str) -> Path:
    """The files of a data set on the hub, in the cache."""
    if name.startswith((".", "/", "~")) or name.count("/") not in (1, 2):
        raise ValueError(
            f"there is no file or folder {name!r}. A text is a file, a folder with train and validation files, or the "
            "id of a data set on the hub."
        )
    from huggingface_hub import snapshot_download

    owner, data_set, *configuration = name.split("/")
    patterns = [f"{'/'.join(configuration) + '/' if configuration else ''}*{ending}" for ending in EXTENSIONS]
    try:
        folder = Path(snapshot_download(f"{owner}/{data_set}", repo_type="dataset", allow_patterns=patterns))
    except Exception as error:  # the hub's client raises a different type for each way of not being there
        raise ValueError(
            f"there is no folder {name}, and the data set of this name could not be had from the hub "
            f"({type(error).__name__}: {str(error).splitlines()[0]}). Without a network, give a local file or folder."
        ) from error
    return folder.joinpath(*configuration)


def _documents(path: Path, documents: str, column: str) -> Iterator[str]:
    if path.suffix == ".parquet":
        yield from _rows_of_table(path, column)
        return
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            if not _is_text(path):
                yield from _rows_of_json(path, lines, column)
            elif documents == "line":
                yield from (line.strip() for line in lines if line.strip())
            else:
                yield from _blocks(lines)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}).") from error
    except (gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path} cannot be unpacked: {error}.") from error


def _blocks(lines: Iterable[str]) -> Iterator[str]:
    held: list[str] = []
    for line in lines:
        if line.strip():
            held.append(line.strip())
        elif held:
            yield "\n".join(held)
            held = []
    if held:
        yield "\n".join(held)


def _rows_of_json(path: Path, lines: Iterable[str], column: str) -> Iterator[str]:
    row = -1
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row += 1
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not JSON in line {number}: {error}.") from error
        if not isinstance(record, dict) or (row == 0 and column not in record):
            there = list(record) if isinstance(record, dict) else type(record).__name__
            raise ValueError(f"{path} has no column {column!r}; there are {there}.")
        text = _text(record.get(column), path, column, row)
        if "\\ud" in line.lower() and _SURROGATE.search(text):
            raise ValueError(f"{path}: column {column!r} holds half a surrogate pair in row {row}. Repair that row.")
        yield text


def _rows_of_table(path: Path, column: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        table = pa.parquet.ParquetFile(path, memory_map=True)
        if column not in table.schema_arrow.names:
            raise ValueError(f"{path} has no column {column!r}; there are {table.schema_arrow.names}.")
        row = 0
        for batch in table.iter_batches(ROWS_AT_ONCE, columns=[column]):
            for value in batch.column(0).to_pylist():
                yield _text(value, path, column, row)
                row += 1
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: column {column!r} is not UTF-8 ({error.reason} at byte {error.start}).") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _text(value: object, path: Path, column: str, row: int) -> str:
    if isinstance(value, str):
        return value
    what = "null" if value is None else f"{value!r}, which is no text,"
    raise ValueError(f"{path}: column {column!r} is {what} in row {row}. Remove such rows or fill them in.")


def _is_text(path: Path) -> bool:
    return path.name.endswith((".txt", ".txt.gz"))


def _held_out(document: str, one_in: int) -> bool:
    return int.from_bytes(hashlib.blake2b(document.encode(), digest_size=8).digest(), "big") % one_in == 0


def sha256(path: Path) -> str:
    """SHA-256 of a file, computed once as long as its size and time of change stay."""
    stat = path.stat()
    return _sha256(str(path), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _sha256(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
