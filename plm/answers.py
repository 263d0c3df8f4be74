"""What a model says to cloze questions: of each fact, with each pattern, and with the subject hidden.

All questions are asked at once; equal ones, such as those without a subject, are asked once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from plm.inference import predictions
from plm.slots import Slot, fill, slots

if TYPE_CHECKING:
    from torch import Tensor

    from plm.analyses import Subject
    from plm.data.cloze import ClozeFact


@dataclass
class Answer:
    """What a model says to one question."""

    fact: ClozeFact
    slot: Slot
    candidates: dict[int, str]
    """All objects of the relation, by their pieces."""
    scores: dict[str, float | int | bool] = field(default_factory=dict)
    guess: str = ""
    typed: str = ""
    """The likeliest candidate."""


def ask(
    subject: Subject, facts: Sequence[ClozeFact], chosen: Sequence[ClozeFact], patterns: dict[str, tuple[str, ...]]
) -> list[list[Answer]]:
    """Answers about the chosen facts, with the relation's first pattern and then with the others; a list a fact.

    Left out are facts that cannot be asked with the first pattern, and other patterns where they cannot be asked with.

    Args:
        facts: All there are: their objects are the candidates.
        patterns: By relation.
    """
    questions = [(fact, k) for fact in chosen for k in range(len(patterns[fact.relation]))]
    found = slots(subject, [fill(patterns[fact.relation][k], fact.subject, fact.object) for fact, k in questions])
    typed = _candidates(subject, facts, patterns)
    answers = {
        (fact.id, k): Answer(fact, slot, typed[fact.relation, k])
        for (fact, k), slot in zip(questions, found, strict=True)
        if slot is not None
    }
    _put(subject, answers)
    return [
        [answers[fact.id, k] for k in range(len(patterns[fact.relation])) if (fact.id, k) in answers]
        for fact in chosen
        if (fact.id, 0) in answers
    ]


def _put(subject: Subject, answers: dict[tuple[str, int], Answer]) -> None:
    """Ask all questions and note what is said."""
    waiting = defaultdict[tuple[tuple[int, ...], int], list[tuple[str, Answer]]](list)
    for (_, k), answer in answers.items():
        answer.candidates.setdefault(answer.slot.target, answer.fact.object)
        waiting[answer.slot.ids, answer.slot.position].append(("paraphrase" if k else "", answer))
        if k == 0 and answer.slot.without_subject is not None:
            waiting[answer.slot.without_subject].append(("prior_", answer))
    inputs, means = list(waiting), _Means()
    for at, scores in predictions(subject, [ids for ids, _ in inputs], [[position] for _, position in inputs]):
        for (row, _), own in zip(at, scores, strict=True):
            for prefix, answer in waiting[inputs[row]]:
                _read(answer, own, prefix)
                if not prefix:
                    answer.guess = str(subject.tokenizer.convert_ids_to_tokens(int(own.argmax())))
                    if subject.causal:
                        means.add(answer, own)
    for answer, mean in means.of_answers():
        _read(answer, mean, "prior_")


def _candidates(
    subject: Subject, facts: Sequence[ClozeFact], patterns: dict[str, tuple[str, ...]]
) -> dict[tuple[str, int], dict[int, str]]:
    """By relation and pattern: the objects that any fact of the relation has, by their pieces."""
    objects, anyone = defaultdict[str, dict[str, None]](dict), dict[str, str]()
    for fact in facts:
        objects[fact.relation][fact.object] = None
        anyone.setdefault(fact.relation, fact.subject)
    asked = [(r, k, about) for r, own in patterns.items() for k in range(len(own)) for about in objects[r]]
    found = slots(subject, [fill(patterns[r][k], anyone[r], about) for r, k, about in asked])
    pieces = defaultdict[tuple[str, int], dict[int, str]](dict)
    for (relation, k, about), slot in zip(asked, found, strict=True):
        if slot is not None:
            pieces[relation, k].setdefault(slot.target, about)
    return pieces


class _Means:
    """Mean predictions over the subjects of a relation: what a causal model says of it without a subject."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._answers: dict[str, list[Answer]] = defaultdict(list)

    def add(self, answer: Answer, scores: Tensor) -> None:
        relation = answer.fact.relation
        probability = scores.double().exp()
        self._sums[relation] = self._sums[relation] + probability if relation in self._sums else probability
        self._answers[relation].append(answer)

    def of_answers(self) -> Iterable[tuple[Answer, Tensor]]:
        for relation, own in self._answers.items():
            mean = (self._sums[relation] / len(own)).log()
            yield from ((answer, mean) for answer in own)


def _read(answer: Answer, scores: Tensor, prefix: str) -> None:
    """Note what log-probabilities (V,) say of the object; of equal ones the object comes last."""
    own, pieces = scores[answer.slot.target], list(answer.candidates)
    typed = scores[pieces]
    if prefix != "prior_":
        answer.typed = answer.candidates[pieces[int(typed.argmax())]]
    typed_rank = int((typed >= own).sum())
    if prefix == "paraphrase":
        answer.scores["typed_correct"] = typed_rank == 1
        return
    rank = int((scores >= own).sum())
    answer.scores |= {
        f"{prefix}rank": rank,
        f"{prefix}probability": float(own.exp()),
        f"{prefix}correct": rank == 1,
        f"{prefix}typed_rank": typed_rank,
        f"{prefix}typed_correct": typed_rank == 1,
    }
