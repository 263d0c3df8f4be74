"""Which tokens are hidden, and what is shown in their place: pure functions of a batch and a generator.

Selection decides positions, `hide` what stands there. A word is a token and the tokens that continue it; special tokens
belong to no word and are never chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

if TYPE_CHECKING:
    from plm.data.tokenizer import Symbols

SELECTIONS = ("token", "word", "ngram")
NGRAM = np.array([6, 3, 2]) / 11
"""Probability of a span of 1, 2 and 3 words: as 1/n (Lan et al. 2020, section 3.1 and its released code)."""


def select(
    ids: Int[np.ndarray, "B T"], symbols: Symbols, draw: np.random.Generator, *, rate: float, by: str
) -> Bool[np.ndarray, "B T"]:
    """Choose positions so that each word (or token) is chosen with probability `rate`.

    Args:
        by: `token`: each by itself; `word`: all of a word or nothing; `ngram`: spans of one to three words.

    Source: Devlin et al. 2019 (token) and the whole-word masking of their release; Lan et al. 2020 (ngram). They draw
        without replacement until 15% of a sequence are chosen; here words (or spans) are independent of each other,
        so that the number varies around its mean.
    """
    special = symbols.special[ids]
    if by == "token":
        return (draw.random(ids.shape) < rate) & ~special
    begins = word_starts(special, symbols.continues[ids])
    if by == "ngram":
        return (spans(begins, special, draw, rate=rate) > 0) & ~special
    first = np.maximum.accumulate(np.where(begins, np.arange(ids.shape[1]), 0), axis=1)
    return (np.take_along_axis(draw.random(ids.shape), first, axis=1) < rate) & ~special


def word_starts(special: Bool[np.ndarray, "B T"], continues: Bool[np.ndarray, "B T"]) -> Bool[np.ndarray, "B T"]:
    """Where words begin; what is left of a word that was cut by the sequence's beginning counts as one."""
    after_none = np.ones_like(special)
    after_none[:, 1:] = special[:, :-1]
    return ~special & (~continues | after_none)


def spans(
    begins: Bool[np.ndarray, "B T"], special: Bool[np.ndarray, "B T"], draw: np.random.Generator, *, rate: float
) -> Int[np.ndarray, "B T"]:
    """Number the chosen spans of each sequence from 1; 0 where nothing is chosen.

    A renewal process along the words, special tokens skipped: after each word that ends a span or belongs to none, a
    new span starts with the probability that makes `rate` the share of chosen words. It enters the sequence in its
    stationary state, as if the sequence were cut out of a longer text; so its first span may be the rest of one.
    """
    mean = float(NGRAM @ (1, 2, 3))
    start, lengths = rate / (mean * (1 - rate) + rate), 1 + np.searchsorted(NGRAM.cumsum(), draw.random(begins.shape))
    lengths = np.minimum(lengths, len(NGRAM))
    rest = rate / mean * np.cumsum(NGRAM[::-1])[::-1][1:]  # that of a span begun before 1, 2 words are still to come
    edges, entering = np.cumsum(rest), draw.random(len(begins))
    left = np.where(entering < edges[-1], 1 + np.searchsorted(edges, entering), 0)
    number = (left > 0).astype(np.int64)
    inside, found = left > 0, np.zeros(begins.shape, np.int64)
    starts = draw.random(begins.shape) < start
    for t in range(begins.shape[1]):
        word = begins[:, t]
        new = word & (left == 0)
        inside = np.where(new, starts[:, t], inside)
        number += new & inside
        left = np.where(new & inside, lengths[:, t], left) - (word & inside)
        found[:, t] = np.where(inside & ~special[:, t], number, 0)
    return found


def hide(
    ids: NDArray[np.int64],
    chosen: Bool[np.ndarray, "B T"],
    draw: np.random.Generator,
    *,
    mask_id: int,
    strangers: Int[np.ndarray, " S"],
    shares: tuple[float, float] = (0.8, 0.1),
) -> Int[np.ndarray, "B T"]:
    """Show the mask, a random token or the token itself at the chosen positions of (B, T) tokens.

    Args:
        strangers: The tokens that random ones are drawn from.
        shares: Of the mask and of a random token; the rest shows the token itself.
    """
    how = draw.random(ids.shape)
    shown = np.where(chosen & (how < shares[0]), mask_id, ids)
    random_token = strangers[draw.integers(0, len(strangers), ids.shape)]
    return np.where(chosen & (how >= shares[0]) & (how < shares[0] + shares[1]), random_token, shown)
