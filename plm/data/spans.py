"""Labelled spans: what edge probing asks of representations, of one stretch of a text or of two.

A `Probed` value is where they come from, by content; its `tasks` are label sets over training and test passages. From
tables of words with parts of speech, of words with constituents and predicates, of texts with pronouns and two names
(GAP), or from the grammar of the generated language.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from plm.data import tables
from plm.data.gold_tables import SPLITS, TRAIN, changed, the_table, world_named
from plm.data.phrases import coreference, parse
from plm.data.world import Document, Sentence, World
from plm.rng import numpy_stream
from plm.spec import location

Stretch = tuple[int, int]
"""Of a text: the first character and the one after the last."""


class Item(NamedTuple):
    """One stretch or two, and their label."""

    label: str
    stretches: tuple[Stretch, ...]


class Passage(NamedTuple):
    """A text and its labelled items. Where it has words, they stand apart by single spaces."""

    text: str
    items: tuple[Item, ...]


class Task(NamedTuple):
    """A label set over passages."""

    name: str
    train: tuple[Passage, ...]
    test: tuple[Passage, ...]


@dataclass(frozen=True)
class Probed:
    """Where labelled spans come from. Make one with `probed`."""

    kind: ClassVar[str] = "data/spans"
    version: ClassVar[int] = 1
    source: World | tuple[str, str]
    """The generated language, or SHA-256 of a training and of a test table."""
    paths: tuple[str, ...] = location(())
    name: str = location("world")

    def tasks(self) -> tuple[Task, ...]:
        """The label sets, all passages in order.

        Raises:
            ValueError: a table is not (any more) the one that the identity names, or cannot be read.
        """
        if isinstance(self.source, World):
            return _of_world(self.source)
        for path, sha256 in zip(self.paths, self.source, strict=True):
            if changed(Path(path), sha256):
                raise ValueError(f"labelled spans {self.name}: {path} has changed since the plan was made.")
        return _of_tables(self.paths, self.source)


def probed(name: str) -> tuple[Probed, ...]:
    """Labelled spans by name: `world`, or folders with a training and a test table, joined by `+`.

    Raises:
        ValueError: there is no such folder, its tables have no columns that are known here, or two have the same ones.
    """
    found = tuple(_probed(part) for part in name.split("+"))
    labels = Counter(task.name for source in found for task in source.tasks())
    if twice := [name for name, count in labels.items() if count > 1]:
        raise ValueError(f"{name}: {', '.join(twice)} would be probed twice. Name one source of each label set.")
    return found


def _probed(name: str) -> Probed:
    world = world_named(name)
    if world is not None:
        return Probed(world)
    if not Path(name).is_dir():
        raise ValueError(f"there is no folder {name!r}. Labelled spans are `world`, or folders with two tables.")
    found = [the_table(name, splits) for splits in ((TRAIN,), SPLITS)]
    paths, sums = tuple(str(path) for path, _ in found), (found[0][1], found[1][1])
    if sums[0] == sums[1]:
        raise ValueError(
            f"{name} has one table only: probes are trained on `train` and scored on `{SPLITS[0].pattern}`."
        )
    _of_tables(paths, sums)
    return Probed(sums, paths, Path(name).name)


def subset(passages: Sequence[Passage], size: int | None, seed: int, *purpose: str) -> list[Passage]:
    """`size` passages in order: at one seed, fewer are among more."""
    if size is None:
        return list(passages)
    order = numpy_stream(seed, "passages", *purpose).permutation(len(passages))
    return [passages[i] for i in sorted(order[:size].tolist())]


# ---------------------------------------------------------------------------------------------------------------------
# Tables

Row = dict[str, Any]


@functools.lru_cache(maxsize=8)
def _of_tables(paths: tuple[str, ...], sums: tuple[str, str]) -> tuple[Task, ...]:
    splits = [tables.read(Path(path)) for path in paths]
    there = set(splits[0].column_names) & set(splits[1].column_names)
    known = {name: read for name, (columns, read) in FORMATS.items() if columns <= there}
    if not known:
        raise ValueError(
            f"{paths[0]}: labelled spans have the columns "
            f"{', or '.join(', '.join(sorted(columns)) for columns, _ in FORMATS.values())}; there are {sorted(there)}."
        )
    rows = [table.to_pylist() for table in splits]
    return tuple(
        Task(name, *(tuple(read(row) for row in split if row[min(FORMATS[name][0])] is not None) for split in rows))
        for name, read in known.items()
    )


def _passage(tokens: Sequence[str], items: Iterable[tuple[str, Sequence[tuple[int, int]]]]) -> Passage:
    """A passage of words, from items whose stretches are given in words."""
    starts = list(accumulate((len(token) + 1 for token in tokens), initial=0))

    def stretch(first: int, after: int) -> Stretch:
        if not 0 <= first < after <= len(tokens):
            raise ValueError(f"{' '.join(tokens)!r} has {len(tokens)} words, and a span from {first} to {after}.")
        return starts[first], starts[after] - 1

    return Passage(
        " ".join(tokens), tuple(Item(label, tuple(stretch(*span) for span in spans)) for label, spans in items)
    )


def _upos(row: Row) -> Passage:
    if not all(isinstance(tag, str) for tag in row["upos"] or [None]):
        raise ValueError(f"upos {row['upos']}: each word has a tag by its name.")
    return _passage(row["tokens"], ((tag, [(i, i + 1)]) for i, tag in enumerate(row["upos"])))


def _constituents(row: Row) -> Passage:
    return _passage(row["tokens"], ((c["label"], [(c["start"], c["end"])]) for c in row["constituents"]))


def _roles(row: Row) -> Passage:
    return _passage(
        row["tokens"],
        (
            (argument["label"], [(verb["index"], verb["index"] + 1), (argument["start"], argument["end"])])
            for verb in row["predicates"]
            for argument in verb["arguments"]
        ),
    )


def _coreference(row: Row) -> Passage:
    def stretch(name: str) -> Stretch:
        return row[f"{name}_offset"], row[f"{name}_offset"] + len(row[name])

    items = [Item(str(row[f"{name}_coref"]).lower(), (stretch("pronoun"), stretch(name))) for name in "ab"]
    return Passage(row["text"], tuple(items))


FORMATS: dict[str, tuple[frozenset[str], Callable[[Row], Passage]]] = {
    "upos": (frozenset({"tokens", "upos"}), _upos),
    "constituents": (frozenset({"tokens", "constituents"}), _constituents),
    "roles": (frozenset({"tokens", "predicates"}), _roles),
    "coreference": (
        frozenset({"text", "pronoun", "pronoun_offset", "a", "a_offset", "a_coref", "b", "b_offset", "b_coref"}),
        _coreference,
    ),
}
"""Label set -> the columns it is read from, and how a row is read."""


# ---------------------------------------------------------------------------------------------------------------------
# The generated language


@functools.lru_cache(maxsize=2)
def _of_world(world: World) -> tuple[Task, ...]:
    """From its validation documents: four of five for training."""
    documents = world.documents("validation")
    cut = len(documents) * 4 // 5
    splits = documents[:cut], documents[cut:]

    def of_sentences(read: Callable[[Sentence], Passage]) -> list[tuple[Passage, ...]]:
        return [tuple(read(s) for document in split for s in document.sentences) for split in splits]

    def of_parse(sentence: Sentence) -> Passage:
        return _passage(sentence.tokens, ((c.label, [c.span]) for c in parse(sentence).constituents))

    def of_roles(sentence: Sentence) -> Passage:
        return _passage(sentence.tokens, ((r.label, [r.predicate, r.span]) for r in parse(sentence).roles))

    tagged = of_sentences(lambda s: _passage(s.tokens, ((tag, [(i, i + 1)]) for i, tag in enumerate(s.tags))))
    mentions = [tuple(map(_mentions, split)) for split in splits]
    return (
        Task("upos", *tagged),
        Task("constituents", *of_sentences(of_parse)),
        Task("roles", *of_sentences(of_roles)),
        Task("coreference", *mentions),
    )


def _mentions(document: Document) -> Passage:
    starts = list(accumulate((len(str(sentence)) + 1 for sentence in document.sentences), initial=0))

    def stretch(sentence: int, word: int) -> Stretch:
        tokens = document.sentences[sentence].tokens
        begin = starts[sentence] + sum(len(token) + 1 for token in tokens[:word])
        return begin, begin + len(tokens[word])

    items = [Item(str(c.same).lower(), (stretch(*c.pronoun), stretch(*c.name))) for c in coreference(document)]
    return Passage(str(document), tuple(items))
