"""Token reconstruction by part of speech: given a sentence with nothing hidden, does the model say its words again?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm import covariates, words
from plm.analyses import Analysis, Unit
from plm.data.gold import Tagged
from plm.direction import is_causal
from plm.spec import neutral

if TYPE_CHECKING:
    from plm.analyses import Row, Subject
    from plm.models import Shape
    from plm.word_statistics import Text


@dataclass(frozen=True)
class Reconstruction(Analysis):
    """The likeliest token at each place of an unmasked sentence; a word is right if all its pieces are.

    Source: Chiang et al. 2020, section 3.
    """

    kind: ClassVar[str] = "analyses/reconstruction"
    version: ClassVar[int] = 2
    head: ClassVar[str] = "tokens"
    usual: ClassVar[int] = 1000
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
    def of(cls, data: str, *, size: int | None = None, seed: int = 0) -> Reconstruction:
        sentences, text = words.named(data)
        return cls(sentences, size, seed, text)

    def check(self, shape: Shape) -> None:
        if is_causal(shape.model_type):
            raise ValueError(
                f"reconstruction asks a model for the word that it sees; {shape.model_type} reads from left to right and "
                "predicts the next one. Ask it for analyses/prediction."
            )

    def flops(self, shape: Shape) -> float:
        length = words.pieces_read(self.data, self.size) / (self.size or self.data.counts[0])
        each = shape.flops_per_token(length) + shape.flops_per_prediction()
        return each * words.pieces_read(self.data, self.size)

    def rows(self, subject: Subject) -> list[Row]:
        from plm.inference import predictions

        cuts = words.cut(subject, self.data.sentences(self.size, self.seed))
        places = [[place for word in one.words for place in word.places] for one in cuts]
        wrong = set[tuple[int, int]]()
        for at, scores in predictions(subject, [one.ids for one in cuts], places):
            said = scores.argmax(-1).tolist()
            wrong |= {
                (row, place) for (row, place), token in zip(at, said, strict=True) if token != cuts[row].ids[place]
            }
        right = {
            (one.sentence, word.number): not any((row, place) in wrong for place in word.places)
            for row, one in enumerate(cuts)
            for word in one.words
            if word.places
        }
        return words.rows(self, subject, cuts, right)

    def summary(self, rows: list[Row]) -> dict[str, float]:
        return words.summary(rows)
