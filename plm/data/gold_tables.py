"""Gold data by name: the generated language, or the one table that is meant, pinned by its content."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from plm.data import files, sources, tables
from plm.data.files import sha256
from plm.data.world import World

TRAIN, TEST = files.SPLITS["train"], re.compile("test")
"""How the names of a split's files begin, or have a part that begins so: `test.parquet`, `en_ewt-ud-dev.conllu`."""
SPLITS = (TEST, files.SPLITS["validation"])
"""What is evaluated on, in order of preference."""


def of_split(split: re.Pattern[str], there: Iterable[Path]) -> list[Path]:
    """Those of some files that are called after a split."""
    return [file for file in there if any(split.match(part) for part in re.split(r"[-_.]", file.name))]


def world_named(name: str) -> World | None:
    """The generated language that a name (`world`, `world:stories`) means; None if it means something on disk."""
    if name.partition(":")[0] != "world":
        return None
    found = sources.text(name)
    assert isinstance(found, World)
    return found


def the_table(name: str, splits: tuple[re.Pattern[str], ...] = SPLITS) -> tuple[Path, str]:
    """A table, or the one that a folder has of the first of some splits, or its only one; and its SHA-256.

    Raises:
        ValueError: there is no such file or folder, or several tables could be meant.
    """
    path = Path(name).expanduser().resolve()
    if not path.exists():
        raise ValueError(f"there is no file or folder {name!r}. Gold data is `world`, or a local table or folder.")
    if path.is_dir():
        path = _in_folder(path, splits)
    return path, sha256(path)


def _in_folder(folder: Path, splits: tuple[re.Pattern[str], ...]) -> Path:
    there = sorted(f for f in folder.iterdir() if f.suffix in tables.EXTENSIONS)
    for split in splits:
        named = of_split(split, there)
        if len(named) == 1:
            return named[0]
    if len(there) != 1:
        raise ValueError(
            f"{folder} has no single table: it holds {', '.join(f.name for f in there) or 'none'}. "
            f"Call one of them {splits[0].pattern}, or name it."
        )
    return there[0]


def changed(path: Path, expected: str) -> bool:
    """Whether a file is gone or is not the one of that SHA-256 any more."""
    return not path.is_file() or sha256(path) != expected
