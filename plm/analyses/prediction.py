"""Prediction of hidden words by part of speech: all pieces of one word are masked, and the rest of the sentence is seen.

A model that reads from left to right sees what stands before the word alone, and is told each piece before the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from plm import covariates, words
from plm.analyses import Analysis, Unit
from plm.data.gold import Tagged
from plm.direction import is_causal
from plm.spec import neutral
from plm.words import Cut

if TYPE_CHECKING:
    from plm.analyses import Row, Subject
    from plm.models import Shape
    from plm.word_statistics import Text


class Asked(NamedTuple):
    """A sequence, the places that are read off it, the tokens that should stand there, and whose they are."""

    ids: tuple[int, ...]
    places: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...]
    """The pieces of each word."""
    words: tuple[tuple[int, int], ...]
    """(sentence, word) of each."""


@dataclass(frozen=True)
class Prediction(Analysis):
    """The likeliest tokens in a word's place when it is hidden; it is right if all its pieces are.

    Source: Chiang et al. 2020, section 3 (mask_predict.py).
    """

    kind: ClassVar[str] = "analyses/prediction"
    version: ClassVar[int] = 2
    head: ClassVar[str] = "tokens"
    usual: ClassVar[int] = 300
    curves: ClassVar[tuple[str, ...]] = ("accuracy", covariates.ADJUSTED)
    baseline: ClassVar[str | None] = "guess"
    unit: ClassVar[Unit | None] = words.UNIT
    data: Tagged
    size: int | None = None
    """Sentences; None: all."""
    seed: int = 0
    """Of which sentences."""
    text: Text | None = neutral(None)  # noqa: RUF009  # a value, for ever the same
    """What the model was trained on, for the covariates; None: what its history says, if it was trained here."""

    def __post_init__(self) -> None:
        words.normalise(self)

    @classmethod
    def of(cls, data: str, *, size: int | None = None, seed: int = 0) -> Prediction:
        sentences, text = words.named(data)
        return cls(sentences, size, seed, text)

    def flops(self, shape: Shape) -> float:
        sentences, count = self.data.counts
        chosen = min(1.0, (self.size or sentences) / sentences)
        copies = 1.0 if is_causal(shape.model_type) else count / sentences
        length = words.pieces_read(self.data, None) / sentences
        read = shape.flops_per_token(length) * copies * words.pieces_read(self.data, self.size)
        return read + chosen * 1.3 * count * shape.flops_per_prediction()

    def rows(self, subject: Subject) -> list[Row]:
        from plm.inference import predictions

        cuts = words.cut(subject, self.data.sentences(self.size, self.seed))
        asked = [each for one in cuts for each in (_next(one) if subject.causal else _masked(one, subject))]
        said: dict[tuple[int, int], int] = {}
        for at, scores in predictions(subject, [each.ids for each in asked], [each.places for each in asked]):
            said |= dict(zip(at, scores.argmax(-1).tolist(), strict=True))
        right: dict[tuple[int, int], bool] = {}
        for row, each in enumerate(asked):
            found = iter([said[row, place] for place in each.places])
            for word, tokens in zip(each.words, each.tokens, strict=True):
                right[word] = [next(found) for _ in tokens] == [*tokens]
        return words.rows(self, subject, cuts, right)

    def summary(self, rows: list[Row]) -> dict[str, float]:
        return words.summary(rows)


def _masked(one: Cut, subject: Subject) -> list[Asked]:
    """A copy of the sentence for each word, with the word hidden."""
    mask = subject.tokenizer.mask_token_id
    if mask is None:
        raise ValueError(
            "the tokenizer has no mask token, so that no word can be hidden from a model that reads both ways."
        )
    found = []
    for word in one.words:
        hidden = {*word.places}
        ids = tuple(mask if place in hidden else token for place, token in enumerate(one.ids))
        tokens = tuple(one.ids[place] for place in word.places)
        found.append(Asked(ids, word.places, (tokens,), ((one.sentence, word.number),)))
    return [each for each in found if each.places]


def _next(one: Cut) -> list[Asked]:
    """The sentence once: each piece is predicted at the place before it; the first has none before it."""
    known = [word for word in one.words if word.places and word.places[0] > 0]
    places = tuple(place - 1 for word in known for place in word.places)
    tokens = tuple(tuple(one.ids[place] for place in word.places) for word in known)
    return [Asked(one.ids, places, tokens, tuple((one.sentence, word.number) for word in known))] if known else []
