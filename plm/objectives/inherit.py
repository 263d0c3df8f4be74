"""Knowledge inheritance (Qin et al. 2022): a smaller, already trained teacher beside the text, for some of the steps.

The teacher bears on training alone. What is evaluated is the base objective, so that perplexities compare with those of
runs without a teacher; and a step whose rate is 0 is a step of the base objective, to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from plm.inheritance import Rate, Teaching, Uniform, check_rate, check_temperature, divergence, members, reading
from plm.models import shape
from plm.objectives import Arrays, Objective, Scored
from plm.objectives.mlm import token_loss
from plm.spec import Checkpoint, External, neutral

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

    from plm.data.corpus import Corpus
    from plm.data.tokenizer import Symbols
    from plm.models import Shape
    from plm.objectives import Batch
    from plm.spec import Source


@dataclass(frozen=True)
class Inherit(Objective):
    """A base objective, and while the rate is not 0 the teacher's distribution at the same positions.

    Source: Qin et al. 2022, section 3.1. The teacher reads the same corrupted text as the student.
    """

    kind: ClassVar[str] = "objectives/inherit"
    version: ClassVar[int] = 1
    base: Objective
    """Masked or causal language modelling."""
    teacher: Teaching
    """Pretrained with the like of `base`, on the student's vocabulary."""
    rate: Rate
    """`Linear(steps(...))`, `Heaviside(steps(...))`, `Constant(...)` of `plm.inheritance`."""
    temperature: float = 2.0
    """That softens both distributions (2 in the paper's release)."""
    top_k: int = 0
    """How many of the teacher's largest logits are kept; 0: all."""
    tail: bool = neutral(False)
    """Whether all tokens that are not kept count as one more; else those that are kept are renormalised (the paper)."""

    def __post_init__(self) -> None:
        if type(self.base).scores is Objective.scores:
            raise ValueError(f"a base of {self.base.kind}: a teacher of tokens goes with MaskedLM() or CausalLM().")
        check_temperature(self.temperature)
        for teacher in members(self.teacher):
            self._check(teacher)
        if isinstance(self.teacher, Uniform) and self.top_k:
            raise ValueError(f"top_k {self.top_k!r} of a uniform teacher: none of its logits is larger. Keep all (0).")
        if self.tail and not self.top_k:
            raise ValueError(
                "a tail, and all of the teacher's logits kept: nothing is left over. Give top_k, or no tail."
            )

    def _check(self, teacher: Source) -> None:
        """Refuse what cannot teach so."""
        if not isinstance(teacher, Checkpoint | External):
            raise ValueError(
                f"a teacher {teacher!r}: give a checkpoint (`run.final`, `run.at(step)`), `plm.external(...)`, or "
                "`Several` of them."
            )
        if isinstance(teacher, Checkpoint) and teacher.run.objective.language is None:
            raise ValueError(
                f"the teacher {teacher.run.run_id} was trained by {teacher.run.objective.kind} and predicts no "
                "tokens. Choose a run of a language-modelling objective."
            )
        its = shape(teacher)
        self.base.check(its.model_type)
        if not (isinstance(self.top_k, int) and 0 <= self.top_k < its.vocab_size):
            raise ValueError(
                f"top_k {self.top_k!r}: the teacher has {its.vocab_size:,} logits. Keep fewer, or 0 for all of them."
            )

    @property
    def rest_at(self) -> float | None:
        """The temperature at which the rest of the teacher's logits is wanted; None: it is not."""
        return self.temperature if self.tail else None

    @property
    def components(self) -> tuple[str, ...]:
        return self.base.components

    @property
    def static(self) -> bool:
        return self.base.static

    @property
    def language(self) -> str | None:
        return self.base.language

    @property
    def weights(self) -> dict[str, float]:
        return self.base.weights

    def at(self, step: int, *, batch_size: int, seq_len: int) -> Objective:
        rate = self.rate.at(step, batch_size=batch_size, seq_len=seq_len)
        check_rate(rate)
        return Guided(self, rate) if rate > 0 else self.base

    def check(self, model_type: str) -> None:
        self.base.check(model_type)

    def check_text(self, model: Shape, data: Corpus, seq_len: int) -> None:
        from plm.teachers import check

        check(self.teacher, model, data, seq_len)

    def for_family(self, model_type: str) -> Inherit:
        return replace(self, base=self.base.for_family(model_type))

    def check_built(self, model: PreTrainedModel, seq_len: int) -> None:
        self.base.check_built(model, seq_len)

    def auto(self) -> Any:
        return self.base.auto()

    def configure(self, config: PreTrainedConfig) -> None:
        self.base.configure(config)

    def corrupt(self, batch: Arrays, symbols: Symbols, draw: np.random.Generator) -> Arrays:
        return self.base.corrupt(batch, symbols, draw)

    def flops_per_token(self, model: Shape, seq_len: float) -> float:
        return self.base.flops_per_token(model, seq_len)

    def teachers_flops_per_token(self, data: Corpus, seq_len: float) -> float:
        """Forward FLOPs of the teachers per token of a text."""
        each = reading(self.teacher, data)
        return sum(share * self.flops_per_token(shape(teacher), seq_len) for teacher, share in each)

    def counts(self, batch: Batch) -> dict[str, int]:
        return self.base.counts(batch)

    def losses(self, model: PreTrainedModel, batch: Batch) -> dict[str, Scored]:
        return self.base.losses(model, batch)


@dataclass(frozen=True)
class Guided(Objective):
    """What a guided step minimises: the base loss and the distance to the teacher, in the step's proportion."""

    kind: ClassVar[str] = "objectives/inherit:guided"
    taught: ClassVar[bool] = True
    of: Inherit
    rate: float

    @property
    def components(self) -> tuple[str, ...]:
        return (*self.of.components, "inherit")

    @property
    def weights(self) -> dict[str, float]:
        return {name: (1 - self.rate) * weight for name, weight in self.of.weights.items()} | {"inherit": self.rate}

    def auto(self) -> Any:
        return self.of.auto()

    def flops_per_token(self, model: Shape, seq_len: float) -> float:
        return self.of.flops_per_token(model, seq_len)

    def teaching_flops_per_token(self, data: Corpus, seq_len: float) -> float:
        return self.of.teachers_flops_per_token(data, seq_len)

    def counts(self, batch: Batch) -> dict[str, int]:
        counts = self.of.counts(batch)
        return counts | {"inherit": sum(counts.values())}

    def losses(self, model: PreTrainedModel, batch: Batch) -> dict[str, Scored]:
        logits, labels = self.of.base.scores(model, batch)
        said = [batch.get(f"teacher_{name}") for name in ("tokens", "rest")]
        apart = divergence(logits, batch["teacher_logits"], self.of.temperature, *said)
        (name,) = self.of.components
        return {name: token_loss(logits, labels), "inherit": Scored(apart)}


def lesson(logits: Tensor, top_k: int, rest_at: float | None = None) -> Batch:
    """What a guided step reads of a teacher's (K, V) logits: all of them, or the largest with their tokens, (K, top_k).

    Args:
        rest_at: The temperature at which the log-sum-exp of the others, (K,), is wanted too; None: it is not.
    """
    if not top_k:
        return {"teacher_logits": logits}
    largest = logits.topk(top_k, dim=-1)
    said = {"teacher_logits": largest.values, "teacher_tokens": largest.indices}
    return said if rest_at is None else said | {"teacher_rest": rest(logits, largest.indices, rest_at)}


def rest(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """The log-sum-exp (K,), at a temperature, of the logits (K, V) of all but some tokens (K, C)."""
    return (logits / temperature).scatter(-1, tokens, float("-inf")).logsumexp(-1)
