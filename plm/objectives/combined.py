"""A sum of objectives that share a model's body: BERT is masked tokens and next sentence, ALBERT the same with order.

The body reads a batch once; each part adds its own head and its own losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from plm.objectives import Arrays, Objective, Scored, Sentences

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from plm.data.tokenizer import Symbols
    from plm.models import Shape
    from plm.objectives import Batch

JOINT = ("bert", "albert", "albert-sharing")
"""Families whose pretraining class carries a masked-LM head and one for pairs."""


@dataclass(frozen=True)
class Sum(Objective):
    """Several objectives at once, each normalised by its own count, times its factor."""

    kind: ClassVar[str] = "objectives/combined"
    version: ClassVar[int] = 1
    parts: tuple[Objective, ...]
    """Kept in the order of their kinds: a sum has one spelling."""
    factors: tuple[float, ...] = ()
    """Of each part; empty: 1."""

    def __post_init__(self) -> None:
        factors = self.factors or (1.0,) * len(self.parts)
        alone = [part.kind for part in self.parts if type(part).read is Objective.read]
        if alone:
            raise ValueError(f"{', '.join(alone)} cannot be part of a sum: add up mlm, nsp and sop.")
        names = [name for part in self.parts for name in part.components]
        if len(self.parts) < 2 or len(set(names)) < len(names) or sum(part.pairs for part in self.parts) > 1:
            raise ValueError(f"a sum of {', '.join(names) or 'nothing'}: add up mlm and one of nsp and sop.")
        if len(factors) != len(self.parts) or min(factors) <= 0:
            raise ValueError(f"factors {factors} for {len(self.parts)} parts: give each a positive one.")
        ordered = sorted(zip(self.parts, map(float, factors), strict=True), key=lambda pair: pair[0].kind)
        object.__setattr__(self, "parts", tuple(part for part, _ in ordered))
        object.__setattr__(self, "factors", tuple(factor for _, factor in ordered))

    @property
    def components(self) -> tuple[str, ...]:
        return tuple(name for part in self.parts for name in part.components)

    @property
    def pairs(self) -> bool:
        return any(part.pairs for part in self.parts)

    @property
    def static(self) -> bool:
        return any(part.static for part in self.parts)

    @property
    def language(self) -> str | None:
        return next((part.language for part in self.parts if part.language), None)

    @property
    def weights(self) -> dict[str, float]:
        return {
            name: weight * factor
            for part, factor in zip(self.parts, self.factors, strict=True)
            for name, weight in part.weights.items()
        }

    def auto(self) -> Any:
        from transformers import AutoModelForPreTraining

        return AutoModelForPreTraining

    def check(self, model_type: str) -> None:
        if model_type not in JOINT:
            raise ValueError(
                f"{model_type} has no class with the heads of {' and '.join(self.components)}: there are "
                f"{', '.join(JOINT)}. Pretrain it with one objective alone."
            )

    def check_built(self, model: PreTrainedModel, seq_len: int) -> None:
        for part in self.parts:
            part.check_built(model, seq_len)

    def configure(self, config: PreTrainedConfig) -> None:
        for part in self.parts:
            part.configure(config)

    def pair(
        self, sentences: Sentences, elsewhere: Sentences, draw: np.random.Generator
    ) -> tuple[Sentences, Sentences, int]:
        return next(part for part in self.parts if part.pairs).pair(sentences, elsewhere, draw)

    def corrupt(self, batch: Arrays, symbols: Symbols, draw: np.random.Generator) -> Arrays:
        for part in self.parts:
            batch = part.corrupt(batch, symbols, draw)
        return batch

    def flops_per_token(self, model: Shape, seq_len: float) -> float:
        heads = sum(part.flops_per_token(model, seq_len) - model.flops_per_token(seq_len) for part in self.parts)
        return model.flops_per_token(seq_len) + heads

    def counts(self, batch: Batch) -> dict[str, int]:
        return {name: count for part in self.parts for name, count in part.counts(batch).items()}

    def read(self, model: PreTrainedModel, encoded: Any, batch: Batch) -> dict[str, Scored]:
        return {name: one for part in self.parts for name, one in part.read(model, encoded, batch).items()}
