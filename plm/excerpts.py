"""Running text as a model reads it: the beginnings of documents that pretraining did not show, framed as it showed others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plm.data import sources
from plm.data.files import Files
from plm.data.world import World
from plm.rng import numpy_stream

if TYPE_CHECKING:
    from plm.analyses import Subject
    from plm.models import Shape

Text = World | Files
TOKENS_PER_DOCUMENT = 128
"""A guess, for the cost of a plan."""


def named(name: str) -> Text:
    """Text by name: `world`, or a file, folder or hub id (see `plm.data.sources.text`).

    Raises:
        ValueError: there is no such text.
    """
    found = sources.text(name)
    assert isinstance(found, World | Files)  # a name never means a mixture
    return found


def documents(text: Text, size: int | None, seed: int) -> list[str]:
    """`size` documents of the validation split, in order: at one seed, fewer are among more.

    Raises:
        ValueError: the split is empty, or the text cannot be read.
    """
    there = [document for document in text.text("validation") if document.strip()]
    if not there:
        raise ValueError("the validation split of the text is empty: name a text that has one.")
    if size is None:
        return there
    order = numpy_stream(seed, "excerpts").permutation(len(there))[:size]
    return [there[i] for i in sorted(order.tolist())]


def excerpts(subject: Subject, text: Text, size: int | None, seed: int) -> list[tuple[int, ...]]:
    """The beginning of each document, as long as the model reads.

    Raises:
        ValueError: as `documents`, or a document without any token.
    """
    from plm.inference import frame, symbols_of
    from plm.pooling import pieces

    before, after = frame(symbols_of(subject))
    room = subject.seq_len - len(before) - len(after)
    cut = pieces(subject, documents(text, size, seed))
    if not all(own.ids for own in cut):
        raise ValueError("a document of the text has no token: leave out such documents.")
    return [(*before, *own.ids[:room], *after) for own in cut]


def flops(shape: Shape, size: int | None) -> float:
    """FLOPs of reading so many excerpts, about."""
    length = min(TOKENS_PER_DOCUMENT, shape.max_seq_len)
    return (size or 1000) * length * shape.flops_per_token(length)
