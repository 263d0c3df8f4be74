"""Representations of stretches of text: the mean of their pieces' vectors, at every layer, from one pass over the texts.

Each distinct text is read once, and each distinct stretch of it pooled once, whatever is asked of them. Of a text that is
longer than the model reads, a window is read that ends no earlier than the last stretch; what begins before it is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from plm.inference import frame, outputs, symbols_of

if TYPE_CHECKING:
    from plm.analyses import Subject

Stretch = tuple[int, int]
"""Of a text: the first character and the one after the last."""


class Pieces(NamedTuple):
    """A text in pieces, unframed; where a frame ends with a separator, one stands between lines."""

    ids: list[int]
    offsets: list[Stretch]
    """Characters of each piece; (0, 0) of separators."""

    def of(self, stretch: Stretch) -> Stretch:
        """The first piece that has a character of a stretch, and the one after the last; equal where there is none."""
        own = [place for place, (start, end) in enumerate(self.offsets) if start < stretch[1] and end > stretch[0]]
        return (own[0], own[-1] + 1) if own else (0, 0)


@dataclass(frozen=True)
class Pooled:
    """Vectors of stretches."""

    vectors: Float[Tensor, "L K D"]
    """At each layer."""
    number: dict[str, dict[Stretch, int]]
    """By text: which vector a stretch has; those that the model could not read have none."""


def pieces(subject: Subject, texts: Sequence[str]) -> list[Pieces]:
    """Texts as the tokenizer cuts them, line by line where pretraining showed lines with a separator between them."""
    separator = frame(symbols_of(subject)).after
    cut = [text.split("\n") if separator else [text] for text in texts]
    encoder = subject.tokenizer.backend_tokenizer
    encoded = iter(encoder.encode_batch([line for lines in cut for line in lines], add_special_tokens=False))
    found = []
    for lines in cut:
        own, at = Pieces([], []), 0
        for line in lines:
            encoding = next(encoded)
            if at:
                own.ids.extend(separator)
                own.offsets.extend((0, 0) for _ in separator)
            own.ids.extend(encoding.ids)
            own.offsets.extend((start + at, end + at) for start, end in encoding.offsets)
            at += len(line) + 1
        found.append(own)
    return found


def window(length: int, room: int, last: int) -> tuple[int, int]:
    """From and to of the pieces that are read: from the beginning, unless a stretch ends later than there is room."""
    end = length if length <= room else max(room, last)
    return max(0, end - room), end


def pooled(
    subject: Subject, wanted: Iterable[tuple[str, Iterable[Stretch]]], layers: Sequence[int] | None = None
) -> Pooled:
    """The mean vectors of stretches of texts at some layers; layer 0 is the embeddings.

    Args:
        wanted: Texts and stretches; a text may come again.
        layers: None: all.

    Raises:
        ValueError: a text without any token, or no such layer.
    """
    of_text: dict[str, dict[Stretch, None]] = {}
    for text, stretches in wanted:
        of_text.setdefault(text, {}).update(dict.fromkeys(stretches))
    before, after = frame(symbols_of(subject))
    room, sequences = subject.seq_len - len(before) - len(after), list[tuple[int, ...]]()
    number: dict[str, dict[Stretch, int]] = {text: {} for text in of_text}
    places: list[list[tuple[int, int, int]]] = []  # of each text: which vector, first piece, the one after the last
    count = 0
    for text, cut in zip(of_text, pieces(subject, list(of_text)), strict=True):
        stretched = {stretch: cut.of(stretch) for stretch in of_text[text]}
        begin, end = window(len(cut.ids), room, max((stop for _, stop in stretched.values()), default=0))
        sequences.append((*before, *cut.ids[begin:end], *after))
        places.append([])
        for stretch, (start, stop) in stretched.items():
            if begin <= start < stop <= end:
                number[text][stretch] = count
                places[-1].append((count, start - begin + len(before), stop - begin + len(before)))
                count += 1
    return Pooled(_means(subject, sequences, places, count, layers), number)


def _means(
    subject: Subject,
    sequences: Sequence[tuple[int, ...]],
    places: Sequence[Sequence[tuple[int, int, int]]],
    count: int,
    layers: Sequence[int] | None,
) -> Float[Tensor, "L K D"]:
    found: Tensor | None = None
    for rows, _, output in outputs(subject, sequences, output_hidden_states=True):
        states = chosen(output.hidden_states, layers)
        if found is None:
            found = torch.zeros(len(states), count, states[0].shape[-1], device=states[0].device)
        own = [(k, i, start, stop) for i, row in enumerate(rows) for k, start, stop in places[row]]
        if not own:
            continue
        k, i, start, stop = torch.tensor(own, device=subject.device).T
        for layer, state in enumerate(states):
            # Sums up to each piece, in double precision: a difference of two is the sum over a stretch.
            sums = torch.nn.functional.pad(state.double().cumsum(1), (0, 0, 1, 0))
            found[layer, k] = ((sums[i, stop] - sums[i, start]) / (stop - start)[:, None]).float()
    assert found is not None
    return found


def chosen(states: Sequence[Tensor], layers: Sequence[int] | None) -> list[Tensor]:
    """The hidden states of some layers.

    Raises:
        ValueError: the model has no such layer.
    """
    for layer in layers or ():
        if not 0 <= layer < len(states):
            raise ValueError(f"layer {layer}: the model has layers 0 (embeddings) to {len(states) - 1}.")
    return list(states) if layers is None else [states[layer] for layer in layers]
