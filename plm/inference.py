"""Many token sequences through a model that is not trained: by length, padded, without gradients.

Sequences share a batch with others of their length, so that hardly anything is padded; which ones share it changes a
number by rounding at most. The vocabulary is scored at chosen positions only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from plm.data.tokenizer import Symbols, symbols
from plm.heads import vocabulary_scores

if TYPE_CHECKING:
    from torch import Tensor

    from plm.analyses import Subject

BATCH_TOKENS = 4096
"""Of a batch, padding included."""
SCORED_AT_ONCE = 512
"""Positions; times a vocabulary of 30,000 these are 60 MB."""

Ids = Sequence[int]


class Frame(NamedTuple):
    """What stands around a text when a model reads it alone."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def frame(symbols: Symbols) -> Frame:
    """The frame that pretraining showed: `[CLS]` and `[SEP]`, or the mark of a beginning (else of the end before it)."""
    if symbols.cls is not None and symbols.sep is not None:
        return Frame((symbols.cls,), (symbols.sep,))
    begin = symbols.eos if symbols.bos is None else symbols.bos
    return Frame(() if begin is None else (begin,), ())


def symbols_of(subject: Subject) -> Symbols:
    """The special tokens of a subject's tokenizer, and which tokens go on with a word."""
    return symbols(subject.tokenizer.backend_tokenizer)


def pieces_in(text: str, offsets: Sequence[tuple[int, int]], begin: int, end: int) -> list[int]:
    """The pieces that have a character of a stretch of the text, and a bare space that leads to it.

    SentencePiece leaves the space before a word as a piece of its own where no piece of the word takes it in: it says
    that such a word follows, so it belongs to it.
    """
    found = [place for place, (start, stop) in enumerate(offsets) if start < end and stop > begin]
    while found and found[0] > 0 and not text[slice(*offsets[found[0] - 1])].strip():
        found.insert(0, found[0] - 1)
    return found


def by_length(lengths: Sequence[int], tokens: int = BATCH_TOKENS) -> list[list[int]]:
    """Row numbers in batches, the longest first; a batch has `tokens` at most, padding included, and one row at least."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    for row in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def outputs(subject: Subject, sequences: Sequence[Ids], **options: Any) -> Iterator[tuple[list[int], Tensor, Any]]:
    """What the body says of each batch: its row numbers, mask (B, T), and output; all rows come once, the long first.

    Raises:
        ValueError: a sequence is empty or longer than the model reads.
    """
    check_lengths(sequences, subject.seq_len)
    if subject.causal:
        options = {"use_cache": False, **options}
    pad = symbols_of(subject).pad
    for rows in by_length([len(ids) for ids in sequences]):
        length = len(sequences[rows[0]])
        ids = torch.tensor([[*sequences[row], *[pad] * (length - len(sequences[row]))] for row in rows])
        mask = torch.tensor([[1] * len(sequences[row]) + [0] * (length - len(sequences[row])) for row in rows])
        ids, mask = ids.to(subject.device), mask.to(subject.device)
        with torch.no_grad():
            output = subject.model.base_model(input_ids=ids, attention_mask=mask, **options)
        yield rows, mask, output


def check_lengths(sequences: Sequence[Ids], seq_len: int) -> None:
    """Refuse what the model cannot read.

    Raises:
        ValueError: a sequence is empty or longer than `seq_len`.
    """
    longest, shortest = max(map(len, sequences), default=1), min(map(len, sequences), default=1)
    if longest > seq_len:
        raise ValueError(f"a text of {longest} tokens: the model reads {seq_len}. Leave out or shorten such texts.")
    if shortest < 1:
        raise ValueError("a text without any token: leave out empty texts.")


def predictions(
    subject: Subject, sequences: Sequence[Ids], positions: Sequence[Sequence[int]]
) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
    """Log-probabilities over the vocabulary at chosen positions of each sequence.

    Yields:
        K pairs of a row number and a position, and their log-probabilities (K, V); all come once, in no useful order.
    """
    for rows, _, output in outputs(subject, sequences):
        at = [(i, position) for i, row in enumerate(rows) for position in positions[row]]
        for start in range(0, len(at), SCORED_AT_ONCE):
            part = at[start : start + SCORED_AT_ONCE]
            i, position = torch.tensor(part, device=subject.device).T
            with torch.no_grad():
                scores = vocabulary_scores(subject.model, output[0][i, position]).log_softmax(-1)
            yield [(rows[i], position) for i, position in part], scores
