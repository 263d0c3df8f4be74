"""Teachers: trained models that are read and never trained, beside a student of the same vocabulary.

What is here is the live teacher, which computes what it says of each batch; `plm.taught` keeps what it said.

Whether two models agree on their vocabulary is a matter of every token's number, not of how many there are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plm.data import tokenizer as tokenizers
from plm.data import trained as training
from plm.data.corpus import Corpus
from plm.data.trained import Trained
from plm.inheritance import Several, Teaching, Uniform, members
from plm.models import Shape, shape
from plm.objectives import IGNORED
from plm.objectives.inherit import Inherit, lesson
from plm.spec import Checkpoint, External, RunSpec, Source, digest
from plm.stand_ins import is_stand_in

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

    from plm.build import Cache
    from plm.data.collate import Stream
    from plm.objectives import Batch
    from plm.store import Store


MEASURED = 512
"""Predictions whose probabilities are computed at a time."""


class Teacher:
    """Trained models beside a student: called with a batch, they say of it what a guided step reads."""

    def __init__(self, models: Sequence[PreTrainedModel], objective: Inherit, vocab_size: int) -> None:
        self.models, self._objective, self._vocab_size = tuple(models), objective, vocab_size

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return next(self.models[0].parameters()).device

    def __call__(self, batch: Batch) -> Batch:
        """The lesson on the positions of the batch that are scored."""
        return lesson(self.logits(batch), self._objective.top_k, self._objective.rest_at)

    def logits(self, batch: Batch) -> torch.Tensor:
        """Their logits (K, V) at these positions."""
        import torch

        teacher = self._objective.teacher
        with torch.no_grad():
            if isinstance(teacher, Uniform):
                labels = batch["labels"]
                return torch.zeros(int((labels != IGNORED).sum()), self._vocab_size, device=labels.device)
            if not isinstance(teacher, Several):
                return self._one(self.models[0], batch)
            if teacher.by == "text":
                return self._each_its_text(batch)
            each = torch.stack([self._one(model, batch).float().log_softmax(-1) for model in self.models])
            return each.logsumexp(0) - math.log(len(self.models))

    def _one(self, model: PreTrainedModel, batch: Batch) -> torch.Tensor:
        return self._objective.base.scores(model, batch)[0]

    def _each_its_text(self, batch: Batch) -> torch.Tensor:
        """Of each teacher the logits on the sequences of its text, in the order of the batch's positions."""
        import torch

        texts = batch["text"]
        of_position = texts.repeat_interleave((batch["labels"] != IGNORED).sum(1))
        said = [
            (of_position == text, self._one(model, {name: tensor[texts == text] for name, tensor in batch.items()}))
            for text, model in enumerate(self.models)
            if bool((texts == text).any())
        ]
        together = torch.empty(len(of_position), said[0][1].shape[-1], dtype=said[0][1].dtype, device=texts.device)
        for positions, logits in said:
            together[positions] = logits
        return together


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
    student = shape(spec.init.architecture())
    check(objective.teacher, student, spec.data, spec.seq_len, store.root / "data")
    sources = [
        source.run.init.architecture() if untrained and isinstance(source, Checkpoint) else source
        for source in members(objective.teacher)
    ]
    models = [beside(objective.base, source, store, cache, device) for source in sources]
    return Teacher(models, objective, student.vocab_size)


def measured(teacher: Teacher, spec: RunSpec, stream: Stream) -> dict[str, float]:
    """A teacher on its student's evaluation split: its own `loss` there, in nats, and the `covered_mass`.

    That is the share of the probability, at the temperature of the run, that the logits have which the run keeps.
    """
    import torch

    objective, sums, count = spec.objective, [0.0, 0.0], 0
    assert isinstance(objective, Inherit)
    for batch in stream.evaluation():
        on_device = {name: tensor.to(teacher.device) for name, tensor in batch.items()}
        with torch.autocast(teacher.device.type, torch.bfloat16, enabled=spec.dtype == "bfloat16"):
            logits = teacher.logits(on_device).float()
        labels = on_device["labels"][on_device["labels"] != IGNORED]
        for said, right in zip(logits.split(MEASURED), labels.split(MEASURED), strict=True):
            soft = (said / objective.temperature).softmax(-1)
            kept = soft.topk(objective.top_k).values if objective.top_k else soft
            sums[0] += float(torch.nn.functional.cross_entropy(said, right, reduction="sum"))
            sums[1] += float(kept.sum())
        count += len(labels)
    found = zip(("loss", "covered_mass"), (each / max(1, count) for each in sums), strict=True)
    return {name: value for name, value in found if math.isfinite(value)}


def check(teacher: Teaching, student: Shape, data: object, seq_len: int, folder: Path | None = None) -> None:
    """Refuse a teacher, or one of several, that does not read as its student does.

    Args:
        data: What the student reads.
        folder: Where trained tokenizers are kept; None: nowhere yet.

    Raises:
        ValueError: they do not agree on the vocabulary, the teacher reads shorter sequences, or the data is no corpus.
    """
    if not isinstance(data, Corpus):
        raise ValueError("a teacher of tokens needs a corpus to read: pretrain with it, fine-tune without.")
    if isinstance(teacher, Several):
        teacher.check(data)
    for source in members(teacher):
        _check(source, student, data, seq_len, folder)


def _check(teacher: Source, student: Shape, data: Corpus, seq_len: int, folder: Path | None) -> None:
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
    """Refuse two tokenizers that number their tokens differently.

    Two that are still to be trained are told apart by how that is done. One that is to be trained beside a finished
    one is trained for it at once, so that no teacher is trained for nothing; an external teacher can wait.
    """
    theirs = tokenizers.source(teacher.run) if isinstance(teacher, Checkpoint) else teacher
    if theirs == data or _made(theirs) == _made(data):
        return
    trained, ours = _trained(theirs), _trained(data)
    if trained and ours:
        raise ValueError(
            f"the teacher's tokenizer is to be {_told(trained)} and the student's {_told(ours)}: they would not agree on "
            "the vocabulary. Read both texts with one tokenizer, such as vocabulary='wordpiece:8192@path/to/text'."
        )
    if folder is None and ours and isinstance(teacher, External):
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


def _trained(source: Corpus | External) -> Trained | None:
    found = source.vocabulary if isinstance(source, Corpus) else None
    return found if isinstance(found, Trained) else None


def _told(tokenizer: Trained) -> str:
    """How a tokenizer is trained, in words."""
    name = getattr(tokenizer.text, "name", "a mixture")
    case = "uncased" if tokenizer.lowercase else "cased"
    return f"trained on {name} ({tokenizer.algorithm}:{tokenizer.vocab_size}:{case})"


def _tokens(source: Corpus | External, folder: Path | None) -> dict[int, str]:
    """Every token by its number; a tokenizer is trained for it, and kept where there is a folder."""
    if isinstance(source, External):
        tokenizer = tokenizers.load(source)
    elif folder is None and (trained := _trained(source)):
        tokenizer = _train(trained)
    else:
        tokenizer = source.tokenizer(folder or Path())
    return {i: token for token, i in tokenizer.get_vocab().items()}


@functools.lru_cache(maxsize=4)
def _train(tokenizer: Trained) -> Tokenizer:
    return training.train(tokenizer)
