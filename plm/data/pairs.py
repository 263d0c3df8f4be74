"""Runs of consecutive sentences, for the objectives that read two segments of text.

A run is two sentences or more of one document, as many as fit a sequence; one in ten is cut to a random shorter length,
as in BERT, so that fine-tuning on short texts is not the first time that short texts are seen. Runs are a function of the
corpus and the sequence length; how one is cut into two segments, and what else is shown, is drawn each time it is seen.
(BERT draws once and puts the sentences that a random second segment displaced back into the text; here they are shown in
another epoch, when the draw is another.)
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from plm.data.columns import Columns, Types, Writer, alone, found
from plm.data.corpus import Corpus, Tokenised, tokenised
from plm.objectives import Arrays, Objective, Sentences
from plm.rng import numpy_stream
from plm.spec import digest

if TYPE_CHECKING:
    from plm.data.tokenizer import Symbols

SHORT = 0.1
"""Share of the runs that aim at a random length (Devlin et al. 2019, appendix A.2, and the released code)."""
MARKS = 3
"""Special tokens around two segments."""
SENTENCES_AT_ONCE = 1 << 16
RUNS: Types = {"first": np.int64, "count": np.int32, "document": np.int64}


@final
class Runs:
    """The runs of consecutive sentences of a split."""

    def __init__(self, split: Tokenised, runs: Columns) -> None:
        self._tokens, self._sentences, self._runs = split.tokens, split.sentences, runs

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def size(self) -> int:
        """Tokens of the split."""
        return len(self._tokens)

    def sentences(self, index: int) -> Sentences:
        """The token ids of each sentence of a run."""
        first, count = self._of("first", index), self._of("count", index)
        starts, lengths = (self._sentences.read(name, first, first + count) for name in ("start", "length"))
        return [
            self._tokens.read("token", start, start + length).astype(np.int64)
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]

    def elsewhere(self, index: int, draw: np.random.Generator) -> Sentences:
        """The sentences of a random run of another document."""
        document = self._of("document", index)
        while True:  # there are two documents at least
            other = int(draw.integers(len(self)))
            if self._of("document", other) != document:
                return self.sentences(other)

    def _of(self, column: str, index: int) -> int:
        return int(self._runs.read(column, index, index + 1)[0])


def runs(corpus: Corpus, split: str, seq_len: int, folder: Path) -> Runs:
    """The split's runs for sequences of `seq_len` tokens, from `folder`; made on first use.

    Raises:
        ValueError: fewer than two documents have two sentences.
    """
    texts = tokenised(corpus, split, folder)
    path = folder / f"{digest(corpus)[:16]}-{split}-runs-{seq_len}.arrow"
    there = found(path, RUNS)
    if there is None:
        with alone(folder), Writer(path, RUNS) as file:
            each = _runs(_rows(texts.sentences), seq_len - MARKS, split)
            while rows := list(islice(each, SENTENCES_AT_ONCE)):
                first, count, document = np.array(rows).T
                file.append(first=first, count=count, document=document)
        there = Columns(path, RUNS)
    if not len(there) or there.read("document", 0, 1) == there.read("document", len(there) - 1, len(there)):
        raise ValueError(
            f"the {split} split of the corpus has no two documents of two sentences each, which an objective on pairs "
            "of segments needs. Where documents are blocks of lines, say documents='block'."
        )
    return Runs(texts, there)


def _rows(sentences: Columns) -> Iterator[tuple[int, int]]:
    """Length and document of each sentence."""
    for start in range(0, len(sentences), SENTENCES_AT_ONCE):
        stop = min(start + SENTENCES_AT_ONCE, len(sentences))
        lengths, documents = (sentences.read(name, start, stop).tolist() for name in ("length", "document"))
        yield from zip(lengths, documents, strict=True)


def _runs(sentences: Iterator[tuple[int, int]], limit: int, split: str) -> Iterator[tuple[int, int, int]]:
    """First sentence, number of sentences and document of each run; what is left single at a document's end is dropped."""
    draw = numpy_stream(0, "short", split)
    first = count = total = 0
    of, target = -1, limit
    for row, (length, document) in enumerate(sentences):
        if document != of or (count >= 2 and total + length > target):
            if count >= 2:
                yield first, count, of
            first, count, total, of = row, 0, 0, document
            target = int(draw.integers(2, limit + 1)) if draw.random() < SHORT else limit
        count, total = count + 1, total + length
    if count >= 2:
        yield first, count, of


def paired(
    chosen: list[tuple[Runs, int, np.random.Generator]],
    objective: Objective,
    symbols: Symbols,
    seq_len: int,
    *,
    whole: bool,
) -> Arrays:
    """A batch of `[CLS] A [SEP] B [SEP]`: `input_ids`, `token_type_ids`, `attention_mask` (B, T) and `pair_label` (B,).

    Args:
        chosen: Of each pair the runs, which of them, and its own generator.
        whole: Pad to `seq_len`, not to the longest.
    """
    start, end = symbols.cls, symbols.sep
    sequences, middles, labels = [], [], []
    for source, row, draw in chosen:
        first, second, label = objective.pair(source.sentences(row), source.elsewhere(row, draw), draw)
        a, b = segments(first, second, seq_len - MARKS, draw)
        sequences.append(np.r_[start, a, end, b, end])
        middles.append(len(a) + 2)
        labels.append(label)
    lengths = np.array([len(tokens) for tokens in sequences])[:, None]
    columns = np.arange(seq_len if whole else lengths.max())
    there = columns < lengths
    ids = np.full(there.shape, symbols.pad)
    ids[there] = np.concatenate(sequences)
    return {
        "input_ids": ids,
        "attention_mask": there.astype(np.int64),
        "token_type_ids": (there & (columns >= np.array(middles)[:, None])).astype(np.int64),
        "pair_label": np.array(labels),
    }


def segments(
    first: Sentences, second: Sentences, limit: int, draw: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both segments as tokens, cut to `limit` together: the longer one first, at its ends by turns of a coin (as BERT)."""
    a, b = np.concatenate(first), np.concatenate(second)
    over = max(0, len(a) + len(b) - limit)
    cut_a, cut_b = min(over, max(0, len(a) - len(b))), min(over, max(0, len(b) - len(a)))
    rest = over - cut_a - cut_b
    return _cut(a, cut_a + rest // 2, draw), _cut(b, cut_b + rest - rest // 2, draw)


def _cut(tokens: NDArray[np.int64], count: int, draw: np.random.Generator) -> NDArray[np.int64]:
    front = int(draw.binomial(count, 0.5)) if count else 0
    return tokens[front : len(tokens) - (count - front)]
