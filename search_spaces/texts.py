"""What is read in pretraining: the text, and with which tokenizer and in sequences of what length."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from plm.names import parted
from search_spaces.axis import Axis, names


class Reading(NamedTuple):
    """How a text is read."""

    vocabulary: str | None
    """As `plm.pretrain` takes it; None: the generated language's own words."""
    seq_len: int


def texts(*values: str) -> Axis:
    """An axis of texts, by name, local file or folder, or hub id, or several of them in equal shares."""
    one = names(*values, form="world, world:stories, a file, a folder, a hub id, or several joined by +")

    def parse(text: str) -> tuple[str, ...]:
        return ("+".join(path for part in parted(text, "+") for path in one.parse(part)),)

    return replace(one, parse=parse)


def generated(text: str) -> bool:
    """Is it of the generated language alone?"""
    return all(part.partition(":")[0] == "world" for part in parted(text, "+"))


def reading(text: str) -> Reading:
    """Short sequences of the generated language, whose sentences are short; of other texts longer ones, in word pieces."""
    return Reading(None, 32) if generated(text) else Reading("wordpiece:8192", 128)
