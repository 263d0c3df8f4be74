"""Interpolated Kneser-Ney n-grams over token ids: what context of a word or two alone can predict.

`NGrams` scores a token after the tokens before it; `posterior` also uses the tokens after it, which is what a masked
model sees. Counts are sorted arrays, so that a model of millions of n-grams is built and asked in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

LONGEST = 3
AT_ONCE = 1 << 22
"""Tokens that are counted at once."""
Context = Sequence[int]


class Level(NamedTuple):
    """The n-grams of one length. A key is an n-gram read as a number to the base V."""

    keys: NDArray[np.int64]
    counts: NDArray[np.float64]
    """Of the longest n-grams how often they occur, of shorter ones how many tokens they occur after; in a mixture each
    occurrence counts as much as its text does."""
    rest: NDArray[np.float64]
    """The counts less the discount."""
    contexts: NDArray[np.int64]
    """All but the last token of each n-gram, ascending."""
    first: NDArray[np.int64]
    """Where the n-grams of each context begin, and where the last end."""
    total: NDArray[np.float64]
    """Sum of the counts after each context."""
    kept: NDArray[np.float64]
    """The share that each context leaves to shorter ones."""


class Index(NamedTuple):
    """Where each value of an array is."""

    ascending: NDArray[np.int64]
    order: NDArray[np.intp]

    @staticmethod
    def of(values: NDArray[np.int64]) -> Index:
        """Index an array."""
        order = np.argsort(values, kind="stable")
        return Index(values[order], order)

    def of_value(self, value: int) -> NDArray[np.intp]:
        """The places that hold a value."""
        return self.order[slice(*np.searchsorted(self.ascending, [value, value + 1]))]


class NGrams:
    """Probabilities of V tokens after up to n - 1 others.

    Source: Kneser and Ney 1995, interpolated as in Chen and Goodman 1999 (section 2.7), one discount a length estimated
        as n1 / (n1 + 2 n2). Single tokens are interpolated with the uniform distribution.
    """

    def __init__(self, text: Iterable[Int[np.ndarray, " _"]], vocab_size: int, n: int) -> None:
        """Count the n-grams of a text that comes in pieces, each going on where the one before ended."""
        self._build(vocab_size, n, [text], [1.0])

    @classmethod
    def mixed(
        cls, texts: Sequence[Iterable[Int[np.ndarray, " _"]]], shares: Sequence[float], vocab_size: int, n: int
    ) -> NGrams:
        """Count the n-grams of several texts, as of one of which each makes up its share, however long it is."""
        model = cls.__new__(cls)
        model._build(vocab_size, n, texts, shares)
        return model

    def _build(self, vocab_size: int, n: int, texts: Sequence[Iterable[Any]], shares: Sequence[float]) -> None:
        if not 1 <= n <= LONGEST:
            raise ValueError(f"n-grams of {n} tokens: 1 to {LONGEST} are possible.")
        self.vocab_size, self.n = vocab_size, n
        keys, counts, weights = weighed([count(text, vocab_size, n) for text in texts], shares)
        levels = [level(keys, counts, weights, vocab_size)]
        for length in range(n - 1, 0, -1):
            each = weights / counts  # what an occurrence counts, so that a kind of n-gram counts as much
            keys, where, counts = np.unique(keys % vocab_size**length, return_inverse=True, return_counts=True)
            weights = np.bincount(where, each).astype(float)
            levels.insert(0, level(keys, counts, weights, vocab_size))
        self.levels = levels
        pairs, triples = levels[min(1, n - 1)], levels[-1]
        self._ending = Index.of(pairs.keys % vocab_size)  # pairs by their last token
        self._around = Index.of(triples.keys // vocab_size**2 * vocab_size + triples.keys % vocab_size)
        self._before = Index.of(triples.keys % vocab_size**2)  # triples by all but their first token
        self._before_last = Index.of(triples.contexts % vocab_size)

    def probability(self, grams: Int[np.ndarray, "K k"]) -> Float[np.ndarray, " K"]:
        """Of the last token of each n-gram after the others, for k up to n."""
        found = np.full(len(grams), 1 / self.vocab_size)
        for length, at in enumerate(self.levels[: grams.shape[1]], 1):
            key = self._key(grams[:, -length:].T)
            context, known = _find(at.contexts, key // self.vocab_size)
            entry, seen = _find(at.keys, key)
            there = np.where(seen, at.rest[entry], 0) / at.total[context]
            found = np.where(known, there + at.kept[context] * found, found)
        return found

    def after(self, context: Context) -> Float[np.ndarray, " V"]:
        """The distribution of the token after a context; of a longer one the last n - 1 tokens count."""
        found = np.full(self.vocab_size, 1 / self.vocab_size)
        for length, at in enumerate(self.levels, 1):
            if length - 1 > len(context):
                break
            index, known = _find(at.contexts, self._key(context[len(context) - length + 1 :]))
            if not known:
                break  # longer contexts are unknown too
            rows = slice(at.first[index], at.first[index + 1])
            found *= at.kept[index]
            found[at.keys[rows] % self.vocab_size] += at.rest[rows] / at.total[index]
        return found

    def posterior(self, left: Context, right: Context) -> Float[np.ndarray, " V"]:
        """The distribution of a token between others: the probability of the text with each candidate, brought to 1."""
        found = self.after(left)
        for upto in range(min(len(right), self.n - 1)):
            before = self.n - 2 - upto  # how many tokens of `left` the n-gram that ends in right[upto] reaches
            found = found * self._likelihood(left[len(left) - before :] if before else (), right[:upto], right[upto])
        return found / found.sum()

    def _likelihood(self, left: Context, between: Context, token: int) -> Float[np.ndarray, " V"]:
        """Probability of a token after `left`, each candidate, and what stands between; one of the two may be a token."""
        size, at = self.vocab_size, self.levels[1 + len(left) + len(between)]
        if left:
            found, entries = self._likelihood((), (), token), self._around.of_value(left[-1] * size + token)
            chosen = np.arange(*np.searchsorted(at.contexts, [left[-1] * size, (left[-1] + 1) * size]))
        elif between:
            found, entries = self._alike([between[0], token]), self._before.of_value(between[0] * size + token)
            chosen = self._before_last.of_value(between[0])
        else:
            found, entries = self._alike([token]), self._ending.of_value(token)
            chosen = np.arange(len(at.contexts))
        place = 1 if between else 0  # of the candidate, from the end of a context
        found[at.contexts[chosen] // size**place % size] *= at.kept[chosen]
        context = np.searchsorted(at.contexts, at.keys[entries] // size)
        found[at.keys[entries] // size ** (place + 1) % size] += at.rest[entries] / at.total[context]
        return found

    def _alike(self, gram: list[int]) -> Float[np.ndarray, " V"]:
        """The probability of the last token of an n-gram, as if each candidate before it left everything to it."""
        return np.full(self.vocab_size, self.probability(np.array([gram]))[0])

    def _key(self, tokens: Any) -> Any:
        key: Any = np.int64(0)
        for token in tokens:
            key = key * self.vocab_size + token
        return key


def level(keys: NDArray[np.int64], counts: NDArray[np.int64], weights: NDArray[np.float64], vocab_size: int) -> Level:
    """The n-grams of one length, discounted (smoothed by half a count, for texts without rare n-grams).

    Args:
        counts: What the discount is estimated from.
        weights: The same, each occurrence by its weight; the discount of an n-gram is weighed like its count.
    """
    contexts, first = np.unique(keys // vocab_size, return_index=True)
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    discount = (once + 0.5) / (once + 2 * twice + 1)
    total = np.add.reduceat(weights, first)
    taken = discount * weights / counts
    kept = np.add.reduceat(taken, first) / total
    return Level(keys, weights, weights - taken, contexts, np.append(first, len(keys)), total, kept)


Table = tuple[Int[np.ndarray, " K"], Int[np.ndarray, " K"]]
"""n-grams, ascending, and how often they occur."""


def weighed(
    tables: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    shares: Sequence[float],  # each of its own length
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The n-grams of several texts, how often they occur, and how often if each text were its share of them all."""
    if len(tables) == 1:
        return *tables[0], tables[0][1].astype(float)
    sizes = [int(counts.sum()) for _, counts in tables]
    factors = [share / sum(shares) * sum(sizes) / size for share, size in zip(shares, sizes, strict=True)]
    keys, where = np.unique(np.concatenate([keys for keys, _ in tables]), return_inverse=True)
    each = np.concatenate([counts for _, counts in tables])
    weights = np.concatenate([counts * factor for (_, counts), factor in zip(tables, factors, strict=True)])
    summed, weighted = (np.bincount(where, values, len(keys)).astype(float) for values in (each, weights))
    return keys, summed.astype(np.int64), weighted


def count(text: Iterable[Int[np.ndarray, " _"]], vocab_size: int, n: int) -> Table:
    """The n-grams that occur in a text, ascending, and how often; in memory is what differs and a piece of text.

    Raises:
        ValueError: the text is shorter than n tokens.
    """
    assert vocab_size**n < 1 << 63
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    held: list[NDArray[np.int64]] = []
    for piece in chain(text, [None]):
        held += [] if piece is None else [piece.astype(np.int64)]
        if held and (piece is None or sum(map(len, held)) >= AT_ONCE):
            tokens = np.concatenate(held)
            held = [tokens[max(0, len(tokens) - n + 1) :]]
            grams = max(0, len(tokens) - n + 1)
            found = sum(tokens[i : i + grams] * vocab_size ** (n - 1 - i) for i in range(n))
            keys, counts = _merged(keys, counts, *np.unique(found, return_counts=True))
    if not len(keys):
        raise ValueError(f"a text of fewer than {n} tokens has no n-grams of {n}.")
    return keys, counts


def _merged(*tables: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys and counts of two tables as one."""
    keys, where = np.unique(np.concatenate(tables[::2]), return_inverse=True)
    return keys, np.bincount(where, np.concatenate(tables[1::2]), len(keys)).astype(np.int64)


def _find(ascending: NDArray[np.int64], wanted: Any) -> tuple[Any, Any]:
    """Where each wanted key is (or the one, for a number), and whether it is there; if not, some other place."""
    at = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return at, ascending[at] == wanted
