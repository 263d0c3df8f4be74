"""Next-sentence prediction (Devlin et al. 2019, section 3.1): does the second segment follow, or is it from elsewhere?

Unlike in sentence order, the wrong second segment is another document's, so that its topic gives it away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from plm.heads import pair_scores
from plm.objectives import Arrays, Objective, Scored, Sentences

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from plm.data.tokenizer import Symbols
    from plm.objectives import Batch

HEADS_OF_PAIRS = ("bert", "ernie", "fnet", "megatron-bert", "mobilebert")
"""Families for which transformers has the head of pairs alone."""


@dataclass(frozen=True)
class NextSentence(Objective):
    """Cross-entropy in nats per pair: 0, the second segment follows the first; 1, it comes from another document."""

    kind: ClassVar[str] = "objectives/nsp"
    version: ClassVar[int] = 1

    @property
    def components(self) -> tuple[str, ...]:
        return ("nsp",)

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
        """Cut the sentences in two; in every second pair put others, about as long, in the second place."""
        first, second = cut(sentences, draw)
        if draw.random() < 0.5:
            return first, second, 0
        return first, about(elsewhere, sum(map(len, second)), draw), 1

    def corrupt(self, batch: Arrays, symbols: Symbols, draw: np.random.Generator) -> Arrays:
        return batch

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"nsp": len(batch["pair_label"])}

    def read(self, model: PreTrainedModel, encoded: Any, batch: Batch) -> dict[str, Scored]:
        return {"nsp": pair_loss(pair_scores(model, encoded[1]), batch["pair_label"])}


def check_pairs(model_type: str) -> None:
    """Refuse a family without a head of pairs alone.

    Raises:
        ValueError: it has none; the message says which have.
    """
    if model_type.startswith("albert"):
        raise ValueError(
            "transformers' ALBERT has its head of pairs beside the masked-LM head only: "
            "pretrain it with Sum((MaskedLM(), SentenceOrder()))."
        )
    if model_type not in HEADS_OF_PAIRS:
        raise ValueError(f"{model_type} has no head for pairs of segments: there are {', '.join(HEADS_OF_PAIRS)}.")


def cut(sentences: Sentences, draw: np.random.Generator) -> tuple[Sentences, Sentences]:
    """Two segments of consecutive sentences, cut between any two of them."""
    middle = int(draw.integers(1, len(sentences)))
    return sentences[:middle], sentences[middle:]


def about(sentences: Sentences, length: int, draw: np.random.Generator) -> Sentences:
    """Consecutive sentences of about `length` tokens from a random place, so that length does not give the label away."""
    sizes = np.array([len(sentence) for sentence in sentences])
    following = sizes[::-1].cumsum()[::-1]  # tokens from each sentence to the end
    start = int(draw.integers(max(1, int((following >= length).sum()))))
    totals = sizes[start:].cumsum()
    return sentences[start : start + 1 + int(np.abs(totals - length).argmin())]


def pair_loss(logits: Tensor, labels: Tensor) -> Scored:
    """Cross-entropy of (B, 2) logits in nats, and which pairs are judged right."""
    from torch.nn import functional as F

    return Scored(F.cross_entropy(logits, labels, reduction="none"), logits.detach().argmax(-1) == labels)
