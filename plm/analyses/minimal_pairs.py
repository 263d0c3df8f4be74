"""Minimal pairs: does a model find the acceptable sentence of two the likelier one?

A causal model is asked for log-likelihoods, one that reads both ways for pseudo-log-likelihoods (see `plm.likelihood`):
the two are comparable in what they prefer, not in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from plm.analyses import Analysis, Row, Subject, Unit, check_size
from plm.data.minimal import MinimalPair, Paradigms, paradigms
from plm.rows import groups, numbers

if TYPE_CHECKING:
    from plm.likelihood import Likelihood
    from plm.models import Shape

TIE = 1e-4
"""Nats that rounding may put between two sentences which are the same to the model (they share their tokens)."""
CHANCE = 0.5
PIECES_PER_WORD = 1.4


@dataclass(frozen=True)
class MinimalPairs(Analysis):
    """Accuracy on minimal pairs by paradigm; chance is 0.5, and a tie counts one half.

    Source: Warstadt et al. 2020 (BLiMP). Paradigms are clusters: means are over paradigms, and so is their spread.
    """

    kind: ClassVar[str] = "analyses/minimal_pairs"
    version: ClassVar[int] = 1
    head: ClassVar[str] = "tokens"
    usual: ClassVar[int] = 100
    baseline: ClassVar[str | None] = "chance"
    unit: ClassVar[Unit | None] = Unit(value="score", by=("field", "term"), cluster="paradigm")
    floor: ClassVar[str | None] = "chance"
    data: Paradigms
    size: int | None = None
    """Pairs of each paradigm; None: all."""
    seed: int = 0
    """Which ones; 0 where all are taken."""

    def __post_init__(self) -> None:
        check_size(self.size, "pairs of each paradigm")
        if self.size is None:
            object.__setattr__(self, "seed", 0)

    @classmethod
    def of(cls, data: str, *, size: int | None = None, seed: int = 0) -> MinimalPairs:
        return cls(paradigms(data), size, seed)

    def flops(self, shape: Shape) -> float:
        from plm.direction import is_causal

        causal, total = is_causal(shape.model_type), 0.0
        for pair in self.data.pairs(self.size, self.seed):
            for sentence in (pair.good, pair.bad):
                pieces = PIECES_PER_WORD * len(sentence.split())
                read = pieces * (1 if causal else pieces)
                total += read * shape.flops_per_token(pieces) + pieces * shape.flops_per_prediction()
        return total

    def rows(self, subject: Subject) -> list[Row]:
        from plm.likelihood import likelihoods

        pairs = self.data.pairs(self.size, self.seed)
        found = likelihoods(subject, [sentence for pair in pairs for sentence in (pair.good, pair.bad)])
        if not any(good and bad for good, bad in zip(found[::2], found[1::2], strict=True)):
            raise ValueError(
                f"no pair of {self.data.name} fits into the {subject.seq_len} tokens that the model reads."
            )
        return [_row(pair, good, bad) for pair, good, bad in zip(pairs, found[::2], found[1::2], strict=True)]

    def summary(self, rows: list[Row]) -> dict[str, float]:
        there = len(rows)
        rows = [row for row in rows if row["score"] is not None]
        score = numbers(rows, "score")
        means = {name: float(score[own].mean()) for name, own in groups(rows, "paradigm").items()}
        over = np.array(list(means.values()))
        found = {
            "accuracy": float(over.mean()),
            "ties": float((score == 0.5).mean()),
            "unknown": float((numbers(rows, "unknown") > 0).mean()),
            "left_out": 1 - len(rows) / there,
        }
        if len(over) > 1:
            found["stderr"] = float(over.std(ddof=1) / np.sqrt(len(over)))
        found |= {f"accuracy/{name}": mean for name, mean in means.items()}
        for level in ("field", "term"):
            for name, own in groups(rows, level).items():
                inside = dict.fromkeys(str(rows[i]["paradigm"]) for i in own)
                found[f"accuracy/{name}"] = float(np.mean([means[paradigm] for paradigm in inside]))
        return found | {name.replace("accuracy", "chance"): CHANCE for name in found if name.startswith("accuracy")}


def _row(pair: MinimalPair, good: Likelihood | None, bad: Likelihood | None) -> Row:
    """A pair with a sentence that does not fit into what the model reads has no score."""
    return {
        "id": pair.id,
        "paradigm": pair.paradigm,
        "field": pair.field,
        "term": pair.term,
        "good": good and good.nats,
        "bad": bad and bad.nats,
        "good_pieces": good and good.pieces,
        "bad_pieces": bad and bad.pieces,
        "unknown": good.unknown + bad.unknown if good and bad else None,
        "score": preference(good.nats, bad.nats) if good and bad else None,
    }


def preference(good: float, bad: float) -> float:
    """1 if the acceptable sentence is the likelier one, 0 if the other is, one half for a tie."""
    return 0.5 if abs(good - bad) <= TIE else float(good > bad)
