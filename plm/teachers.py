"""Teachers: trained models that are read and never trained, beside a student of the same vocabulary.

What is here is the live teacher, which computes what it says of each batch; `plm.taught` keeps what it said.

Whether two models agree on their vocabulary is a matter of every token's number, not of how many there are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from plm.data import tokenizer as tokenizers
from plm.data.corpus import Corpus
from plm.data.trained import Trained
from plm.models import Shape, shape
from plm.objectives.inherit import Inherit, lesson
from plm.spec import Checkpoint, External, RunSpec, Source, digest
from plm.stand_ins import is_stand_in

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from plm.build import Cache
    from plm.objectives import Batch
    from plm.store import Store


class Teacher:
    """A trained model beside a student: called with a batch, it says of it what a guided step reads."""

    def __init__(self, model: PreTrainedModel, objective: Inherit) -> None:
        self.model, self._objective = model, objective

    def __call__(self, batch: Batch) -> Batch:
        """The lesson on the positions of the batch that are scored."""
        return lesson(self.logits(batch), self._objective.top_k, self._objective.rest_at)

    def logits(self, batch: Batch) -> torch.Tensor:
        """Its logits (K, V) at these positions."""
        import torch

        with torch.no_grad():
            return self._objective.base.scores(self.model, batch)[0]


def of(spec: RunSpec, store: Store, cache: Cache, device: torch.device, *, untrained: bool = False) -> Teacher | None:
    """The teacher of a run, in evaluation mode; None where its objective has none.

    Args:
        untrained: The teacher's architecture with any weights will do: only the time is wanted.

    Raises:
        ValueError: the teacher does not agree with the student, is not there, or has no head that predicts tokens.
    """
    from plm.build import beside

    objective = spec.objective
    if not isinstance(objective, Inherit):
        return None
    source = objective.teacher
    if untrained and isinstance(source, Checkpoint):
        return Teacher(beside(objective.base, source.run.init.architecture(), store, cache, device), objective)
    check(source, shape(spec.init.architecture()), spec.data, spec.seq_len, store.root / "data")
    return Teacher(beside(objective.base, source, store, cache, device), objective)


def check(teacher: Source, student: Shape, data: object, seq_len: int, folder: Path | None = None) -> None:
    """Refuse a teacher that does not read as its student does.

    Args:
        data: What the student reads.
        folder: Where trained tokenizers are kept; None: those that differ in how they are made are compared later.

    Raises:
        ValueError: they do not agree on the vocabulary, the teacher reads shorter sequences, or the data is no corpus.
    """
    if not isinstance(data, Corpus):
        raise ValueError("a teacher of tokens needs a corpus to read: pretrain with it, fine-tune without.")
    its = shape(teacher)
    if its.vocab_size != student.vocab_size:
        raise ValueError(
            f"the teacher scores {its.vocab_size:,} tokens and the student {student.vocab_size:,}: they must agree on the "
            f"vocabulary. Give the student vocab_size={its.vocab_size}, or choose another teacher."
        )
    if seq_len > its.max_seq_len:
        raise ValueError(
            f"seq_len {seq_len}: the teacher reads {its.max_seq_len} tokens at most. Shorten it, or choose another teacher."
        )
    if not (folder is None and is_stand_in(teacher)):
        _check_tokens(teacher, data, folder)


def _check_tokens(teacher: Source, data: Corpus, folder: Path | None) -> None:
    """Refuse two tokenizers that number their tokens differently."""
    theirs = tokenizers.source(teacher.run) if isinstance(teacher, Checkpoint) else teacher
    if (
        theirs == data
        or _made(theirs) == _made(data)
        or (folder is None and (_is_trained(theirs) or _is_trained(data)))
    ):
        return
    there, here = (_tokens(source, folder) for source in (theirs, data))
    differing = sorted(i for i in there.keys() | here.keys() if there.get(i) != here.get(i))
    if differing:
        first = differing[0]
        raise ValueError(
            f"the teacher and the student do not agree on the vocabulary: token {first} is {there.get(first)!r} to the "
            f"teacher and {here.get(first)!r} to the student ({len(differing):,} tokens differ). Read the text with the "
            "teacher's tokenizer (vocabulary=...), or choose another teacher."
        )


def _made(source: Corpus | External) -> object:
    """How a tokenizer is come by: equal ways, equal tokens."""
    if isinstance(source, Corpus):
        return tuple(source.texts[0].vocabulary()) if source.vocabulary is None else digest(source.vocabulary)  # type: ignore[union-attr]
    return digest(source)


def _is_trained(source: Corpus | External) -> bool:
    return isinstance(source, Corpus) and isinstance(source.vocabulary, Trained)


def _tokens(source: Corpus | External, folder: Path | None) -> dict[int, str]:
    """Every token by its number."""
    tokenizer = tokenizers.load(source) if isinstance(source, External) else source.tokenizer(folder or Path())
    return {i: token for token, i in tokenizer.get_vocab().items()}
