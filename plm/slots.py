"""Where the answer to a cloze question is read off: a model's input, a position in it, and the piece that is right there.

The statement is cut into pieces as it stands, with subject and object in it; then the object's piece is hidden. So what
surrounds it is what the model would read in running text, whatever the tokenizer does at spaces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from plm.inference import Frame, frame, pieces_in, symbols_of

if TYPE_CHECKING:
    from tokenizers import Encoding

    from plm.analyses import Subject

_SLOTS = re.compile(r"(\[[XY]\])")
_WORD = re.compile(r"[^\W_]")


class Slot(NamedTuple):
    """A question as a model reads it."""

    ids: tuple[int, ...]
    position: int
    """Where the object's log-probability is read."""
    target: int
    """The object's only piece."""
    without_subject: tuple[tuple[int, ...], int] | None
    """Input and position with one mask in the subject's place; None where the model reads left to right."""


class Statement(NamedTuple):
    """A pattern with subject and object in it, and the characters where they stand."""

    text: str
    subject: tuple[int, int]
    object: tuple[int, int]


def fill(pattern: str, subject: str, about: str) -> Statement:
    """The statement that a pattern makes of a subject and an object."""
    text, where = "", dict[str, tuple[int, int]]()
    for part in _SLOTS.split(pattern):
        said = {"[X]": subject, "[Y]": about}.get(part, part)
        if part in ("[X]", "[Y]"):
            where[part] = len(text), len(text) + len(said)
        text += said
    return Statement(text, where["[X]"], where["[Y]"])


def ends_with_object(pattern: str) -> bool:
    """Whether nothing but punctuation follows the object, so that a causal model has read all that is said."""
    return not _WORD.search(pattern.partition("[Y]")[2])


def slots(subject: Subject, statements: Sequence[Statement]) -> list[Slot | None]:
    """How the subject of an analysis reads each statement; None if the object is not one known piece, or it is too long.

    Raises:
        ValueError: the tokenizer of a model that reads both ways has no mask.
    """
    symbols = symbols_of(subject)
    if symbols.mask is None and not subject.causal:
        raise ValueError("the tokenizer of a model that reads both ways has no mask token, so that it cannot be asked.")
    encoded = subject.tokenizer.backend_tokenizer.encode_batch(
        [statement.text for statement in statements], add_special_tokens=False
    )
    around, found = frame(symbols), list[Slot | None]()
    for statement, encoding in zip(statements, encoded, strict=True):
        answer = covering(encoding, statement, statement.object)
        known = len(answer) == 1 and not symbols.special[encoding.ids[answer[0]]]
        slot = _slot(encoding, answer[0], statement, around, symbols.mask, subject.causal) if known else None
        found.append(slot if slot and 0 < len(slot.ids) <= subject.seq_len else None)
    return found


def _slot(encoding: Encoding, answer: int, statement: Statement, around: Frame, mask: int | None, causal: bool) -> Slot:
    ids, target, (before, after) = encoding.ids, encoding.ids[answer], around
    if causal:
        read = (*before, *ids[:answer])
        return Slot(read, len(read) - 1, target, None)
    hidden = [mask if place == answer else piece for place, piece in enumerate(ids)]
    named = set(covering(encoding, statement, statement.subject)) - {answer}
    kept = [place for place in range(len(ids)) if place not in named or place == min(named)]
    bare = [mask if place in named else hidden[place] for place in kept]
    without = (*before, *bare, *after), len(before) + kept.index(answer)
    return Slot((*before, *hidden, *after), len(before) + answer, target, without)  # type: ignore[arg-type]


def covering(encoding: Encoding, statement: Statement, span: tuple[int, int]) -> list[int]:
    """The pieces of a span of the text."""
    return pieces_in(statement.text, encoding.offsets, *span)
