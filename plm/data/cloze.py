"""Facts and the patterns that state them: cloze questions whose answer is a single word.

A fact is (subject, relation, object); a pattern of its relation has `[X]` for the subject and `[Y]` for the object. From
tables in LAMA's columns, with ParaRel's patterns beside them if wanted, or the facts of the generated language.
"""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from plm.data import tables
from plm.data.gold_tables import changed, the_table, world_named
from plm.data.world import World
from plm.rng import numpy_stream
from plm.spec import location, neutral

COLUMNS = ("relation", "sub_label", "obj_label")
CARDINALITIES = ("1-1", "N-1", "N-M")
N_TO_M = frozenset(
    f"P{number}" for number in (27, 31, 39, 47, 101, 106, 108, 178, 190, 463, 527, 530, 937, 1001, 1303, 1412)
)
"""Relations of LAMA's T-REx whose subjects may have several objects (Petroni et al. 2019, table 2: 16 of 41)."""
ONE_TO_ONE = frozenset({"P36", "P1376"})
N_TO_ONE = frozenset(
    f"P{number}"
    for number in (
        17, 19, 20, 30, 37, 103, 127, 131, 136, 138, 140, 159, 176, 264, 276, 279, 361, 364, 407, 413, 449, 495, 740,
    )
)  # fmt: skip
"""The rest of the 41, though a few of their subjects do have several objects there."""
PUBLISHED = dict.fromkeys(N_TO_M, "N-M") | dict.fromkeys(ONE_TO_ONE, "1-1") | dict.fromkeys(N_TO_ONE, "N-1")
SEVERAL = 1.05
"""Objects a subject, or subjects an object, on average: above it there may be several."""


class ClozeFact(NamedTuple):
    """A true triple."""

    id: str
    relation: str
    subject: str
    object: str
    support: int | None
    """How often the training text states it, or mentions both; None where nobody counted."""
    rate: float | None
    """Of the generated language: the share of documents about the subject that state it."""


class Relation(NamedTuple):
    """What a subject is asked for."""

    cardinality: str
    """One of `CARDINALITIES`."""
    patterns: tuple[str, ...]
    """The first is the relation's own, the others are paraphrases."""


class Known(NamedTuple):
    """All facts, in order, and all relations by name."""

    facts: tuple[ClozeFact, ...]
    relations: dict[str, Relation]


@dataclass(frozen=True)
class Cloze:
    """Facts and patterns. Make one with `cloze`."""

    kind: ClassVar[str] = "data/cloze"
    version: ClassVar[int] = 1
    source: World | str
    """The generated language, or SHA-256 of a table of facts."""
    paraphrases: str | None = neutral(None)
    """SHA-256 of a table of patterns."""
    paths: tuple[str, ...] = location(())
    name: str = location("world")

    def known(self) -> Known:
        """What it holds.

        Raises:
            ValueError: a table is not (any more) the one that the identity names, or cannot be read.
        """
        if isinstance(self.source, World):
            return _of_world(self.source)
        expected = [self.source, *([self.paraphrases] if self.paraphrases else [])]
        for path, sha256 in zip(self.paths, expected, strict=True):
            if changed(Path(path), sha256):
                raise ValueError(f"facts {self.name}: {path} has changed since the plan was made.")
        return _of_tables(self.paths, tuple(expected))

    def facts(self, cardinalities: Iterable[str], size: int | None = None, seed: int = 0) -> list[ClozeFact]:
        """The facts of relations of some cardinalities, `size` of each at most: at one seed, fewer are among more."""
        known, wanted, by_relation = self.known(), set(cardinalities), defaultdict[str, list[ClozeFact]](list)
        for fact in known.facts:
            if known.relations[fact.relation].cardinality in wanted:
                by_relation[fact.relation].append(fact)
        chosen = []
        for name, own in by_relation.items():
            order = numpy_stream(seed, "facts", name).permutation(len(own))[:size]
            chosen += [own[i] for i in sorted(order.tolist())]
        return chosen


def cloze(name: str) -> Cloze:
    """Facts by name: `world`, or a table or folder in LAMA's columns; `facts+patterns` adds ParaRel's patterns.

    The columns are `relation`, `sub_label`, `obj_label` and `template`; if wanted `uuid`, `cardinality` (`1-1`, `N-1`,
    `N-M`), and one whose name ends in `support`. Those of patterns are `relation` and `pattern`.

    Raises:
        ValueError: there is no such table, or it lacks a column, a pattern, or a pattern's `[X]` or `[Y]`.
    """
    world = world_named(name)
    if world is not None:
        return Cloze(world)
    found = [the_table(part) for part in name.split("+")]
    if len(found) > 2:
        raise ValueError(f"{name}: facts and patterns are two tables at most.")
    paths, sums = tuple(str(path) for path, _ in found), tuple(sha256 for _, sha256 in found)
    _of_tables(paths, sums)
    return Cloze(sums[0], sums[1] if len(sums) > 1 else None, paths, Path(name.partition("+")[0]).name)


@functools.lru_cache(maxsize=4)
def _of_tables(paths: tuple[str, ...], sums: tuple[str, ...]) -> Known:
    table = tables.read(Path(paths[0]))
    columns = {name: _column(table, name, paths[0]) for name in COLUMNS}
    given = table.column_names
    ids = _column(table, "uuid", paths[0]) if "uuid" in given else list(map(str, range(table.num_rows)))
    support = next((table.column(name).to_pylist() for name in given if name.endswith("support")), [None] * len(ids))
    facts = tuple(
        ClozeFact(f"{relation}/{own}", relation, subject, about, None if count is None else int(count), None)
        for own, relation, subject, about, count in zip(ids, *columns.values(), support, strict=True)
    )
    if not facts:
        raise ValueError(f"{paths[0]} has no facts: it is empty.")
    if len({fact.id for fact in facts}) < len(facts):
        raise ValueError(
            f"{paths[0]}: a relation has the same `uuid` twice. Make them unique, or leave the column out."
        )
    cardinality = _cardinalities(facts, _column(table, "cardinality", paths[0]) if "cardinality" in given else None)
    patterns = defaultdict[str, dict[str, str]](dict)  # in order, each once, however it is spaced
    if "template" in given:
        for relation, pattern in zip(columns["relation"], _column(table, "template", paths[0]), strict=True):
            patterns[relation].setdefault(_unspaced(pattern), pattern)
    for path in paths[1:]:
        other = tables.read(Path(path))
        for relation, pattern in zip(_column(other, "relation", path), _column(other, "pattern", path), strict=True):
            patterns[relation].setdefault(_unspaced(pattern), pattern)
    return Known(
        facts, {name: _relation(name, cardinality[name], tuple(patterns[name].values())) for name in cardinality}
    )


def _unspaced(pattern: str) -> str:
    return re.sub(r"\s+(?=[^\w\s\[])", "", pattern)


def _relation(name: str, cardinality: str, patterns: tuple[str, ...]) -> Relation:
    if not patterns:
        raise ValueError(f"relation {name} has no pattern: give facts a column `template`, or a table of patterns.")
    for pattern in patterns:
        if pattern.count("[X]") != 1 or pattern.count("[Y]") != 1:
            raise ValueError(f"relation {name}: pattern {pattern!r} must have [X] once and [Y] once.")
    if cardinality not in CARDINALITIES:
        raise ValueError(f"relation {name}: cardinality {cardinality!r} is not one of {', '.join(CARDINALITIES)}.")
    return Relation(cardinality, patterns)


def _column(table: tables.pa.Table, name: str, path: str) -> list[str]:
    if name not in table.column_names:
        raise ValueError(f"{path}: column {name!r} is missing; there are {table.column_names}.")
    return list(map(str, tables.column(table, name, path)))


def _cardinalities(facts: tuple[ClozeFact, ...], given: list[str] | None) -> dict[str, str]:
    """By relation: as the table says, as LAMA has it, or as the facts themselves have it."""
    if given is not None:
        return {fact.relation: said for fact, said in zip(facts, given, strict=True)}
    objects, subjects = defaultdict[str, set[tuple[str, str]]](set), defaultdict[str, tuple[set[str], set[str]]](
        lambda: (set(), set())
    )  # fmt: skip
    for fact in facts:
        objects[fact.relation].add((fact.subject, fact.object))
        subjects[fact.relation][0].add(fact.subject)
        subjects[fact.relation][1].add(fact.object)
    found = {}
    for name, pairs in objects.items():
        several_objects, several_subjects = (len(pairs) > SEVERAL * len(side) for side in subjects[name])
        by_facts = "N-M" if several_objects else "N-1" if several_subjects else "1-1"
        found[name] = PUBLISHED.get(name, by_facts)
    return found


@functools.lru_cache(maxsize=4)
def _of_world(world: World) -> Known:
    said, facts = stated(world), world.facts()
    return Known(
        tuple(
            ClozeFact(
                f"{fact.relation}/{fact.subject}", fact.relation, fact.subject, fact.object,
                said[fact.subject, fact.relation, fact.object], fact.rate,
            )
            for fact in facts
        ),
        {fact.relation: Relation("N-1", (f"[X] {fact.relation} [Y] .",)) for fact in facts},
    )  # fmt: skip


def stated(world: World) -> Counter[tuple[str, str, str]]:
    """How often the training text of a generated language states each (subject, relation, object)."""
    relations = {fact.relation for fact in world.facts()}
    found: Counter[tuple[str, str, str]] = Counter()
    for document in world.documents("train"):
        for sentence in document.sentences:
            if len(sentence.tokens) == 5:
                subject, verb, preposition, about, _ = sentence.tokens
                if (relation := f"{verb} {preposition}") in relations:
                    found[subject, relation, about] += 1
    return found
