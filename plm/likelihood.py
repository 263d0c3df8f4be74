"""How likely a model finds a sentence: by the chain rule if it reads left to right, else word by word with masks.

The pseudo-log-likelihood of a model that reads both ways masks one piece at a time together with the later pieces of its
word: a word's own later pieces would give it away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from plm.inference import Ids, frame, predictions, symbols_of
from plm.masking import word_starts

if TYPE_CHECKING:
    from plm.analyses import Subject
    from plm.data.tokenizer import Symbols


class Likelihood(NamedTuple):
    """Of one sentence."""

    nats: float
    """Sum of the log-probabilities of its pieces, never positive."""
    pieces: int
    """How many were scored."""
    unknown: int
    """How many of them stand for what the tokenizer does not know."""


def likelihoods(subject: Subject, sentences: Sequence[str]) -> list[Likelihood | None]:
    """The log-likelihood of each sentence under a causal model, the pseudo-log-likelihood under any other.

    None for a sentence that is longer than the model reads.

    Raises:
        ValueError: a sentence has no token, or the tokenizer of a model that reads both ways has no mask.

    Source: Salazar et al. 2020; within words as in Kauf and Ivanova 2023 (`within_word_l2r`). The end of a sentence is
        not scored; its beginning is, after the token that stands before texts.
    """
    encodings = subject.tokenizer.backend_tokenizer.encode_batch(list(sentences), add_special_tokens=False)
    encoded = [encoding.ids for encoding in encodings]
    if not all(encoded):
        raise ValueError(f"sentence {sentences[encoded.index([])]!r} has no token: leave out empty sentences.")
    targets = causal_targets(subject, encoded) if subject.causal else masked_targets(subject, encoded)
    scored = [target for target in targets if len(target.sequence) <= subject.seq_len]
    unknown = subject.tokenizer.unk_token_id
    nats, pieces, unknowns = np.zeros(len(encoded)), np.zeros(len(encoded), int), np.zeros(len(encoded), int)
    # Sentences that differ in one word share the copies in which it is hidden.
    sequences = list(dict.fromkeys(target.sequence for target in scored))
    number = {sequence: row for row, sequence in enumerate(sequences)}
    wanted: dict[tuple[int, int], list[Target]] = {}
    for target in scored:
        wanted.setdefault((number[target.sequence], target.position), []).append(target)
        pieces[target.sentence] += 1
        unknowns[target.sentence] += target.token == unknown
    positions: list[list[int]] = [[] for _ in sequences]
    for row, position in wanted:
        positions[row].append(position)
    for at, scores in predictions(subject, sequences, positions):
        found = [(k, target) for k, place in enumerate(at) for target in wanted[place]]
        values = scores[[k for k, _ in found], [target.token for _, target in found]].double().cpu().numpy()
        np.add.at(nats, [target.sentence for _, target in found], values)
    return [Likelihood(float(n), int(p), int(u)) if p else None for n, p, u in zip(nats, pieces, unknowns, strict=True)]


class Target(NamedTuple):
    """A piece of a sentence, and where its probability is read."""

    sequence: tuple[int, ...]
    position: int
    token: int
    sentence: int


def causal_targets(subject: Subject, encoded: Sequence[Ids]) -> list[Target]:
    """Each piece after those before it; without a token that stands before texts, the first is not scored."""
    before = frame(symbols_of(subject)).before
    return [
        Target((*before, *ids[:-1]), position, token, sentence)
        for sentence, ids in enumerate(encoded)
        for position, token in enumerate((*before, *ids)[1:])
    ]


def masked_targets(subject: Subject, encoded: Sequence[Ids]) -> list[Target]:
    """Each piece in a copy of the sentence that hides it and what follows it in its word."""
    symbols = symbols_of(subject)
    mask, (before, after) = symbols.mask, frame(symbols)
    if mask is None:
        raise ValueError(
            "the tokenizer of a model that reads both ways has no mask token, so that no word of it can be hidden. "
            "Take a masked language model, or a causal one."
        )
    targets = []
    for sentence, ids in enumerate(encoded):
        ends = word_ends(symbols, ids)
        for place, (token, end) in enumerate(zip(ids, ends, strict=True)):
            hidden = (*ids[:place], *[mask] * (end - place), *ids[end:])
            targets.append(Target((*before, *hidden, *after), len(before) + place, token, sentence))
    return targets


def word_ends(symbols: Symbols, ids: Ids) -> list[int]:
    """Where the word of each piece ends; a special token within the text is by itself."""
    row = np.asarray(ids, np.int64)[None]
    special, continues = symbols.special[row], symbols.continues[row]
    begins = (word_starts(special, continues) | special)[0].tolist()
    ends, end = [0] * len(ids), len(ids)
    for place in reversed(range(len(ids))):
        ends[place] = end
        if begins[place]:
            end = place
    return ends
