"""World knowledge: does a model fill a true object into a statement about a subject, and would it without the subject?

Statements are cloze questions of one piece. Most of what looks like knowledge is a good guess for the relation, so every
score stands beside three that know no subject: the commonest object, the model's own guess with the subject hidden, and
the same among the objects that the relation allows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from plm.analyses import FIRST, Analysis, Row, Subject, Unit, check_size
from plm.data.cloze import CARDINALITIES, Cloze, ClozeFact, Relation, cloze
from plm.rows import groups, numbers

if TYPE_CHECKING:
    from plm.answers import Answer
    from plm.models import Shape

TOKENS_PER_STATEMENT = 12
SCORES = {
    "accuracy": "correct",
    "typed_accuracy": "typed_correct",
    "prior_accuracy": "prior_correct",
    "prior_typed_accuracy": "prior_typed_correct",
    "commonest": "commonest",
    "probability": "probability",
    "reciprocal_rank": "reciprocal_rank",
    "consistency": "consistency",
    "paraphrase_accuracy": "paraphrase_correct",
}
"""Name in the summary -> column."""
SPLIT = ("accuracy", "typed_accuracy", "prior_accuracy", "prior_typed_accuracy", "commonest")
"""What is told by support, and by the rate of the generated language, too."""
SUPPORT = ((0, 0), (1, 1), (2, 4), (5, 19), (20, None))
"""How often the training text supports a fact: from and to, both included."""


@dataclass(frozen=True)
class Knowledge(Analysis):
    """Rank, probability and accuracy of true objects, over the whole vocabulary and among those typed by the relation.

    Only objects of one piece are asked for, and no fact whose subject contains its object. A causal model is asked where
    the object ends a statement; its guess without a subject is the mean over the relation's subjects.

    Source: Petroni et al. 2019 (LAMA); Poerner et al. 2020 (subjects that contain the object); Cao et al. 2021 (guesses
        without a subject); Elazar et al. 2021 (consistency over paraphrases); relations as in Chiang et al. 2020.
    """

    kind: ClassVar[str] = "analyses/knowledge"
    version: ClassVar[int] = 1
    head: ClassVar[str] = "tokens"
    usual: ClassVar[int] = 100
    curves: ClassVar[tuple[str, ...]] = (
        *("typed_accuracy", "accuracy", "prior_typed_accuracy", "prior_accuracy", "typed_above_prior", "above_prior"),
        *("reciprocal_rank", "consistency"),
    )
    baseline: ClassVar[str | None] = "commonest"
    unit: ClassVar[Unit | None] = Unit(value="typed_correct", by=("relation", "supported", "stated"), cluster="id")
    floor: ClassVar[str | None] = FIRST
    data: Cloze
    size: int | None = None
    """Facts of each relation, those that cannot be asked included; None: all."""
    seed: int = 0
    """Which ones; 0 where all are taken."""
    cardinalities: tuple[str, ...] = ("1-1", "N-1")
    """Of the relations that are asked about."""

    def __post_init__(self) -> None:
        check_size(self.size, "facts of each relation")
        if self.size is None:
            object.__setattr__(self, "seed", 0)
        if not set(self.cardinalities) <= set(CARDINALITIES):
            raise ValueError(f"cardinalities {self.cardinalities}: there are {', '.join(CARDINALITIES)}.")
        object.__setattr__(self, "cardinalities", tuple(sorted(set(self.cardinalities))))

    @classmethod
    def of(cls, data: str, *, size: int | None = None, seed: int = 0) -> Knowledge:
        return cls(cloze(data), size, seed)

    def flops(self, shape: Shape) -> float:
        relations = self.data.known().relations
        facts = self.data.facts(self.cardinalities, self.size, self.seed)
        asked = sum(len(relations[fact.relation].patterns) for fact in facts)
        one = TOKENS_PER_STATEMENT * shape.flops_per_token(TOKENS_PER_STATEMENT) + shape.flops_per_prediction()
        return asked * one

    def rows(self, subject: Subject) -> list[Row]:
        from plm.answers import ask

        known = self.data.known()
        facts = [f for f in self.data.facts(self.cardinalities, self.size, self.seed) if not names_object(f)]
        patterns = {fact.relation: usable(known.relations[fact.relation], subject.causal) for fact in facts}
        answers = ask(subject, known.facts, facts, patterns)
        if not answers:
            raise ValueError(
                f"none of {len(facts)} facts of {self.data.name} can be asked: their objects are not one known piece, the "
                "statements are too long, or (of a causal model) no pattern ends with the object. Take other facts."
            )
        objects = defaultdict[str, Counter[str]](Counter)
        for own, *_ in answers:
            objects[own.fact.relation][own.fact.object] += 1
        commonest = {relation: counts.most_common(1)[0][0] for relation, counts in objects.items()}
        asked = {name: (known.relations[name].cardinality, patterns[name][0], commonest[name]) for name in commonest}
        return [_row(own, *asked[own.fact.relation]) | _agreement(own, others) for own, *others in answers]

    def summary(self, rows: list[Row]) -> dict[str, float]:
        relations = groups(rows, "relation")
        columns = {name: numbers(rows, column) for name, column in SCORES.items()}
        columns["above_prior"] = columns["accuracy"] - columns["prior_accuracy"]
        columns["typed_above_prior"] = columns["typed_accuracy"] - columns["prior_typed_accuracy"]
        found: dict[str, float] = {"facts": float(len(rows)), "relations": float(len(relations))}
        for name, values in columns.items():
            means = {relation: _mean(values[own]) for relation, own in relations.items()}
            known = {relation: mean for relation, mean in means.items() if mean is not None}
            if known:
                found[name] = float(np.mean(list(known.values())))
                found |= {f"{name}/{relation}": mean for relation, mean in known.items()}
            if len(known) > 1:
                found[f"stderr/{name}"] = float(np.std(list(known.values()), ddof=1) / np.sqrt(len(known)))
        for column in ("supported", "stated"):
            for name, own in sorted(groups(rows, column).items()):
                if name:
                    found |= {f"{score}/{name}": float(columns[score][own].mean()) for score in SPLIT}
                    found[f"facts/{name}"] = float(len(own))
        return found


def names_object(fact: ClozeFact) -> bool:
    """Whether the subject's name gives the object away."""
    return fact.object.casefold() in fact.subject.casefold()


def usable(relation: Relation, causal: bool) -> tuple[str, ...]:
    """The patterns that a model can be asked with, the relation's own first if it is among them."""
    from plm.slots import ends_with_object

    return tuple(p for p in relation.patterns if ends_with_object(p)) if causal else relation.patterns


def supported(count: int | None) -> str:
    """How often the training text supports a fact, in words; empty where nobody counted."""
    for low, high in SUPPORT:
        if count is not None and low <= count and (high is None or count <= high):
            return f"support_{low}" if high == low else f"support_{low}_{high or 'up'}"
    return ""


def _row(answer: Answer, cardinality: str, pattern: str, commonest: str) -> Row:
    fact = answer.fact
    return {
        "id": fact.id,
        "relation": fact.relation,
        "cardinality": cardinality,
        "pattern": pattern,
        "subject": fact.subject,
        "object": fact.object,
        "support": fact.support,
        "rate": fact.rate,
        "supported": supported(fact.support),
        "stated": "" if fact.rate is None else f"rate_{fact.rate:g}",
        "commonest": fact.object == commonest,
        "guess": answer.guess,
        "candidates": len(answer.candidates),
        **answer.scores,
        "reciprocal_rank": 1 / answer.scores["rank"],
    }


def _agreement(answer: Answer, others: list[Answer]) -> Row:
    """How many pairs of patterns the model answers alike, among the relation's objects."""
    said = [answer.typed, *(other.typed for other in others)]
    pairs = [one == other for one, other in combinations(said, 2)]
    return {
        "patterns": len(said),
        "consistency": float(np.mean(pairs)) if pairs else None,
        "paraphrase_correct": float(np.mean([bool(o.scores["typed_correct"]) for o in others])) if others else None,
    }


def _mean(values: np.ndarray) -> float | None:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else None
