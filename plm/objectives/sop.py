"""Sentence-order prediction (Lan et al. 2020, section 3.1): are two consecutive segments in their order?

Both segments are of one document, so that topic says nothing and coherence everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from plm.heads import pair_scores
from plm.objectives import Arrays, Objective, Scored, Sentences
from plm.objectives.nsp import check_pairs, cut, pair_loss

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plm.data.tokenizer import Symbols
    from plm.objectives import Batch


@dataclass(frozen=True)
class SentenceOrder(Objective):
    """Cross-entropy in nats per pair: 0, in order; 1, swapped."""

    kind: ClassVar[str] = "objectives/sop"
    version: ClassVar[int] = 1

    @property
    def components(self) -> tuple[str, ...]:
        return ("sop",)

    @property
    def pairs(self) -> bool:
        return True

    def auto(self) -> Any:
        from transformers import AutoModelForNextSentencePrediction

        return AutoModelForNextSentencePrediction

    def check(self, model_type: str) -> None:
        check_pairs(model_type)

    def pair(
        self, sentences: Sentences, elsewhere: Sentences, draw: np.random.Generator
    ) -> tuple[Sentences, Sentences, int]:
        """Cut the sentences in two; swap every second pair."""
        first, second = cut(sentences, draw)
        return (first, second, 0) if draw.random() < 0.5 else (second, first, 1)

    def corrupt(self, batch: Arrays, symbols: Symbols, draw: np.random.Generator) -> Arrays:
        return batch

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"sop": len(batch["pair_label"])}

    def read(self, model: PreTrainedModel, encoded: Any, batch: Batch) -> dict[str, Scored]:
        return {"sop": pair_loss(pair_scores(model, encoded[1]), batch["pair_label"])}
