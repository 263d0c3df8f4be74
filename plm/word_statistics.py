"""What a training text says of words: how often each occurs, and how surprising it is beside its neighbours.

Of words, not of pieces, so that models with different tokenizers are held against the same numbers. Surprise is that of a
smoothed trigram model, once after the two words before and once before the two words after.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from plm.data.corpus import Corpus
from plm.data.files import Files
from plm.data.gold import REFERENCE_DOCUMENTS, TaggedSentence
from plm.data.mixture import Mixture
from plm.data.world import World
from plm.ngram import NGrams

Text: TypeAlias = World | Files | Mixture
Read: TypeAlias = Text | Corpus
"""A text, or what of it a run was trained on."""
READ = 2_000_000
"""Words of the training text that are read, from its beginning; of a mixture each part by its weight."""
KNOWN = 1 << 20
"""Words that are told apart, the commonest; the rest count as one."""
LENGTH = 3
WORD = re.compile(r"\w+|[^\w\s]")
UNKNOWN, BREAK = 0, 1
"""Numbers of all unknown words, and of the break between lines."""
PER = 1e6


class Statistics(NamedTuple):
    """Of one word of a sentence."""

    frequency: float
    """Log of one more than its occurrences in a million words."""
    before: float
    """Surprise after the words before it, in nats."""
    after: float
    """Surprise before the words after it, in nats."""


class WordStatistics:
    """Counts and n-grams of a text, case ignored."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Read lines, as far as `READ` words."""
        words = list(_taken(lines, READ))
        counts = Counter(word for word in words if word)
        if not counts:
            raise ValueError("the training text has no words, so that nothing can be held against them.")
        self._number = {word: BREAK + 1 + i for i, (word, _) in enumerate(counts.most_common(KNOWN))}
        self._counts, self._total = counts, counts.total()
        ids = np.array([self._number.get(word, UNKNOWN) if word else BREAK for word in words], np.int64)
        size = len(self._number) + 2
        self._forth, self._back = (NGrams([text], size, LENGTH) for text in (ids, ids[::-1].copy()))

    def of(self, sentences: Sequence[TaggedSentence]) -> list[list[Statistics | None]]:
        """The statistics of each word of each sentence.

        A word that is several here ("don't") is as frequent as its rarest part, and its surprises add up. None: it is
        nothing but space.
        """
        parts = [[(m.group().casefold(), m.start(), m.end()) for m in WORD.finditer(s.text)] for s in sentences]
        lines = [[self._number.get(word, UNKNOWN) for word, *_ in own] for own in parts]
        forth = _surprises(self._forth, lines)
        back = [own[::-1] for own in _surprises(self._back, [line[::-1] for line in lines])]
        found = []
        for sentence, own, before, after in zip(sentences, parts, forth, back, strict=True):
            rates = [np.log1p(PER * self._counts[word] / self._total) for word, *_ in own]
            shared = [
                [i for i, (_, start, stop) in enumerate(own) if start < end and stop > begin]
                for begin, end in sentence.spans
            ]
            found.append(
                [
                    Statistics(
                        float(min(rates[i] for i in those)), float(before[those].sum()), float(after[those].sum())
                    )
                    if those
                    else None
                    for those in shared
                ]
            )
        return found


def _surprises(model: NGrams, lines: Sequence[Sequence[int]]) -> list[Float[np.ndarray, " _"]]:
    """Nats of each word of each line after up to two before it, the break before the line included."""
    framed = [[BREAK, *line] for line in lines]
    grams = {2: [line[:2] for line in framed if len(line) > 1]}
    grams[3] = [line[i - 2 : i + 1] for line in framed for i in range(2, len(line))]
    nats = {k: iter((-np.log(model.probability(_table(own, k)))).tolist()) for k, own in grams.items()}
    return [
        np.array([next(nats[2 if i == 1 else 3]) for i in range(1, len(line))], float) for line in framed
    ]  # in the order in which they were asked for


def _table(grams: Sequence[Sequence[int]], k: int) -> Int[np.ndarray, "K k"]:
    return np.array(grams, np.int64).reshape(len(grams), k)


def _taken(lines: Iterable[str], limit: int) -> Iterator[str]:
    """The words of lines, with an empty one at each break, up to a number of words."""
    count = 0
    yield ""
    for line in lines:
        words = WORD.findall(line.casefold())
        if words:
            yield from words
            yield ""
        count += len(words)
        if count >= limit:
            return


@functools.lru_cache(maxsize=2)
def statistics(text: Read) -> WordStatistics:
    """The statistics of the training split of a text; kept, since all steps of a training ask for the same.

    Of a corpus those documents alone count that are trained on: not what `slice` or `part` leave out.

    Raises:
        ValueError: the text cannot be read, has changed, or has no words.
    """
    parts = zip(text.parts, text.weights, strict=True) if isinstance(text, Mixture | Corpus) else [(text, 1.0)]
    try:
        return WordStatistics(chain.from_iterable(_lines(part, round(READ * weight)) for part, weight in parts))
    except OSError as error:
        raise ValueError(
            f"the training text that words are held against cannot be read ({error}). Put it back, or name another "
            "behind the gold data: GOLD+TEXT."
        ) from error


def _lines(part: World | Files | Corpus, limit: int) -> Iterator[str]:
    """The lines of a text's training split, until they have so many words."""
    count = 0
    for document in _documents(part):
        for line in document.split("\n"):
            yield line
            count += len(WORD.findall(line))  # as `_taken` counts, or the first parts would leave no room for the last
            if count >= limit:
                return


def _documents(part: World | Files | Corpus) -> Iterator[str]:
    """The documents of a text's training split; of a generated language no more than are needed."""
    if isinstance(part, Corpus):
        return replace(part, text=_fewer(part.text, part.part[1] * REFERENCE_DOCUMENTS)).documents("train")
    return iter(_fewer(part, REFERENCE_DOCUMENTS).text("train"))


def _fewer(text: Text, documents: int) -> Text:
    """Less of a world, which would draw all its documents at once; files are read as far as they are asked for."""
    return replace(text, num_documents=min(text.num_documents, documents)) if isinstance(text, World) else text
