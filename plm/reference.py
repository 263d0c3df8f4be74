"""What a perplexity is to be compared with: n-grams of the same tokens, asked at the same positions.

An n-gram model is counted on the whole training split (a pretraining run may have seen less of it) and scored where the
run is evaluated. A causal model is compared with n-grams of what stands before. A masked one sees both sides, and so may
the n-grams, which is much the harder comparison; they also know, as the model can learn, how often a chosen token shows
itself. Masks around a position end its context.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from plm.data import tokenizer as tokenizers
from plm.data.collate import CorpusStream
from plm.data.corpus import Corpus, tokenised
from plm.data.tokenizer import Symbols
from plm.ngram import NGrams
from plm.objectives import IGNORED, Objective
from plm.objectives.clm import CausalLM
from plm.objectives.mlm import MaskedLM
from plm.objectives.rtd import ReplacedTokens
from plm.spec import RunSpec
from plm.store import Store

SIDES = ("both", "left")
PIECE = 1 << 20
"""Tokens that are read at once."""


def ngram_nats(spec: RunSpec, store: str | Path | Store, n: int, *, sides: str = "both") -> float:
    """Nats per predicted token of an n-gram model (n = 1 to 3) on the evaluation split of a pretraining run.

    Compare it with the run's nats of the same tokens: `val/loss`, or the logarithm of `val/perplexity`. In a mixture
    each text counts by its weight, however long it is, as it does in training and in evaluation.

    Args:
        sides: What n-grams see of the text around a masked token: `both`, or what stands to the `left`.

    Source: interpolated Kneser-Ney (`plm.ngram`).

    Raises:
        ValueError: the run is no pretraining, or predicts no tokens of its text.
    """
    if sides not in SIDES:
        raise ValueError(f"sides {sides!r}: there are {' and '.join(SIDES)}.")
    masking = _masking(spec.objective)
    if not isinstance(spec.data, Corpus):
        raise ValueError(f"{spec.run_id} is no pretraining on a corpus, which n-grams could be counted in.")
    folder = Store.at(store).root / "data"
    symbols = tokenizers.symbols(spec.data.tokenizer(folder))
    texts = [_text(part, folder) for part in spec.data.parts]
    stream, model = CorpusStream(spec, folder), NGrams.mixed(texts, spec.data.weights, symbols.size, n)
    nats: list[NDArray[np.float64]] = []
    for batch in stream.evaluation():
        ids, labels, there = (batch[name].numpy() for name in ("input_ids", "labels", "attention_mask"))
        nats.append(
            causal_nats(model, ids, labels)
            if masking is None
            else masked_nats(model, np.where(there > 0, ids, symbols.pad), labels, symbols, masking, sides)
        )
    return float(np.concatenate(nats).mean())


def _masking(objective: Objective) -> MaskedLM | None:
    """How the tokens that are predicted were hidden; None: the next token is predicted."""
    for part in getattr(objective, "parts", (objective,)):
        if isinstance(part, MaskedLM):
            return part
        if isinstance(part, ReplacedTokens):
            return part.masking
        if isinstance(part, CausalLM):
            return None
    raise ValueError(f"{objective.kind} predicts no tokens that n-grams could predict: there are mlm, clm and rtd.")


def _text(part: Corpus, folder: Path) -> Iterator[Int[np.ndarray, " _"]]:
    tokens = tokenised(part, "train", folder).tokens
    for start in range(0, len(tokens), PIECE):
        yield tokens.read("token", start, min(start + PIECE, len(tokens)))


def causal_nats(model: NGrams, ids: Int[np.ndarray, "B T"], labels: Int[np.ndarray, "B T"]) -> Float[np.ndarray, " K"]:
    """Of each predicted token, in order of sequence and position, after the tokens before it in its sequence."""
    found = np.zeros(labels.shape)
    for t in range(labels.shape[1]):
        found[:, t] = -np.log(model.probability(ids[:, max(0, t - model.n + 1) : t + 1]))
    return found[labels != IGNORED]


def masked_nats(
    model: NGrams,
    ids: Int[np.ndarray, "B T"],
    labels: Int[np.ndarray, "B T"],
    symbols: Symbols,
    masking: MaskedLM,
    sides: str = "both",
) -> Float[np.ndarray, " K"]:
    """Of each hidden token, in order of sequence and position, between the tokens around it in its sequence."""
    own = 1 - masking.mask_share - masking.random_share
    strangers = np.zeros(symbols.size)  # the chance that a hidden token shows each token at random
    strangers[masking.drawn_from(symbols)] = masking.random_share / len(masking.drawn_from(symbols))
    found = []
    for row, at in np.argwhere(labels != IGNORED).tolist():
        left = _upto_mask(ids[row, max(0, at - model.n + 1) : at][::-1], symbols)[::-1]
        right = _upto_mask(ids[row, at + 1 : at + model.n], symbols) if sides == "both" else []
        likely = model.posterior(left, right) * ~symbols.special
        shown = ids[row, at]
        if shown != symbols.mask:  # a token that shows itself, or a stranger
            likely = likely * (np.where(np.arange(symbols.size) == shown, own, 0) + strangers[shown])
        found.append(-math.log(likely[labels[row, at]] / likely.sum()))
    return np.array(found)


def _upto_mask(tokens: Int[np.ndarray, " M"], symbols: Symbols) -> list[int]:
    """The tokens before the first that says nothing."""
    says_nothing = np.flatnonzero((tokens == symbols.mask) | (tokens == symbols.pad))
    return tokens[: says_nothing[0] if len(says_nothing) else len(tokens)].tolist()
