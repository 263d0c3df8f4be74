"""Minimal pairs: a sentence and its unacceptable twin, in paradigms that each vary one thing.

From tables in BLiMP's columns, or drawn from the grammar of the generated language (see `plm.data.agreement`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from plm.data import tables
from plm.data.agreement import PARADIGMS, draw
from plm.data.gold_tables import changed, the_table, world_named
from plm.data.world import World
from plm.rng import numpy_stream
from plm.spec import location

COLUMNS = ("sentence_good", "sentence_bad", "UID")


class MinimalPair(NamedTuple):
    """Two sentences, of which the first is acceptable."""

    id: str
    good: str
    bad: str
    paradigm: str
    field: str
    """Such as `morphology`; the paradigm's own name where the table does not say."""
    term: str
    """Such as `anaphor_agreement`."""


@dataclass(frozen=True)
class Paradigms:
    """Paradigms of minimal pairs. Make one with `paradigms`."""

    kind: ClassVar[str] = "data/minimal"
    version: ClassVar[int] = 1
    source: World | str
    """The generated language, or SHA-256 of a table."""
    path: str = location("")
    name: str = location("world")

    def pairs(self, size: int | None = None, seed: int = 0) -> list[MinimalPair]:
        """The pairs, `size` of each paradigm at most: at one seed, fewer are the first of more.

        Raises:
            ValueError: the table is not (any more) the one that the identity names, or cannot be read.
        """
        by_paradigm: dict[str, list[MinimalPair]] = {}
        for pair in self._all():
            by_paradigm.setdefault(pair.paradigm, []).append(pair)
        if size is None:
            return [pair for own in by_paradigm.values() for pair in own]
        orders = {name: numpy_stream(seed, "pairs", name).permutation(len(own)) for name, own in by_paradigm.items()}
        return [own[i] for name, own in by_paradigm.items() for i in sorted(orders[name][:size].tolist())]

    def _all(self) -> tuple[MinimalPair, ...]:
        if isinstance(self.source, World):
            return _drawn(self.source)
        if changed(Path(self.path), self.source):
            raise ValueError(f"minimal pairs {self.name}: {self.path} has changed since the plan was made.")
        return _read(self.path, self.source)


def paradigms(name: str) -> Paradigms:
    """Minimal pairs by name: `world`, or a table or a folder with one, in BLiMP's columns.

    Raises:
        ValueError: there is no such table, or it lacks `sentence_good`, `sentence_bad` or `UID`.
    """
    world = world_named(name)
    if world is not None:
        return Paradigms(world)
    path, sha256 = the_table(name)
    _read(str(path), sha256)
    return Paradigms(sha256, str(path), Path(name).name)


@functools.lru_cache(maxsize=4)
def _drawn(world: World) -> tuple[MinimalPair, ...]:
    return tuple(
        MinimalPair(f"{name}/{i}", good, bad, name, PARADIGMS[name].field, PARADIGMS[name].term)
        for name in PARADIGMS
        for i, (good, bad) in enumerate(draw(world, name))
    )


@functools.lru_cache(maxsize=4)
def _read(path: str, sha256: str) -> tuple[MinimalPair, ...]:
    table = tables.read(Path(path))
    for name in COLUMNS:
        if name not in table.column_names:
            raise ValueError(
                f"{path}: column {name!r} is missing; there are {table.column_names}. Minimal pairs have the columns "
                f"{', '.join(COLUMNS)} and, if wanted, field and linguistics_term."
            )
    good, bad, uid = (tables.column(table, name, path) for name in COLUMNS)
    field, term = (
        tables.column(table, name, path) if name in table.column_names else uid
        for name in ("field", "linguistics_term")
    )
    seen: dict[str, int] = {}
    found = []
    for values in zip(good, bad, uid, field, term, strict=True):
        one, other, paradigm, *kinds = map(str, values)
        number = seen[paradigm] = seen.get(paradigm, -1) + 1
        found.append(MinimalPair(f"{paradigm}/{number}", one, other, paradigm, *kinds))
    if not found:
        raise ValueError(f"{path} has no minimal pairs: it is empty.")
    return tuple(found)
