"""Masked language modelling (Devlin et al. 2019, section 3.1): 15% of the tokens, of them 80/10/10."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from plm.heads import CAUSAL, vocabulary_scores
from plm.masking import SELECTIONS, hide, select
from plm.objectives import IGNORED, Arrays, Objective, Scored, predicting
from plm.spec import neutral

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from plm.data.tokenizer import Symbols
    from plm.models import Shape
    from plm.objectives import Batch


@dataclass(frozen=True)
class MaskedLM(Objective):
    """Cross-entropy in nats per masked token."""

    kind: ClassVar[str] = "objectives/mlm"
    version: ClassVar[int] = 1
    rate: float = 0.15
    """Share of the tokens (special ones aside) that are predicted."""
    selection: str = neutral("token")
    """What is chosen together: `token`, `word` (all its pieces), `ngram` (one to three words)."""
    static: bool = neutral(False)
    """Whether a sequence is masked the same way each time it is seen (BERT), or anew (RoBERTa)."""
    mask_share: float = neutral(0.8)
    """Of the chosen tokens, how many show the mask."""
    random_share: float = neutral(0.1)
    """How many show a random token; the rest show themselves."""

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError(f"a rate of {self.rate}: it is the share of the tokens that are predicted, up to 1.")
        if self.selection not in SELECTIONS:
            raise ValueError(f"selection {self.selection!r}: there are {', '.join(SELECTIONS)}.")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1 + 1e-9:
            raise ValueError(
                f"mask_share {self.mask_share} and random_share {self.random_share}: shares of the chosen tokens, "
                "which add up to 1 at most."
            )

    @property
    def components(self) -> tuple[str, ...]:
        return ("mlm",)

    @property
    def language(self) -> str:
        return "mlm"

    def auto(self) -> Any:
        from transformers import AutoModelForMaskedLM

        return AutoModelForMaskedLM

    def check(self, model_type: str) -> None:
        if model_type in CAUSAL:
            raise ValueError(f"{model_type} reads from left to right: pretrain it with CausalLM() instead of MaskedLM.")

    def corrupt(self, batch: Arrays, symbols: Symbols, draw: np.random.Generator) -> Arrays:
        if symbols.mask is None:
            raise ValueError("the tokenizer has no mask token, which masked language modelling needs.")
        ids = batch["input_ids"]
        chosen = select(ids, symbols, draw, rate=self.rate, by=self.selection)
        shares = (self.mask_share, self.random_share)
        inputs = hide(ids, chosen, draw, mask_id=symbols.mask, vocab_size=symbols.size, shares=shares)
        return {**batch, "input_ids": inputs, "labels": np.where(chosen, ids, IGNORED)}

    def flops_per_token(self, model: Shape, seq_len: float) -> float:
        return model.flops_per_token(seq_len) + self.rate * predicting(model)

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"mlm": int((batch["labels"] != IGNORED).sum())}

    def read(self, model: PreTrainedModel, encoded: Any, batch: Batch) -> dict[str, Scored]:
        # The vocabulary projection is the largest product of a small model: compute it only where it is scored.
        scored = batch["labels"] != IGNORED
        return {"mlm": token_loss(vocabulary_scores(model, encoded[0][scored]), batch["labels"][scored])}


def token_loss(logits: Tensor, labels: Tensor) -> Scored:
    """Cross-entropy of (K, V) logits in nats, and which tokens (K,) are predicted right."""
    from torch.nn import functional as F

    return Scored(F.cross_entropy(logits, labels, reduction="none"), logits.detach().argmax(-1) == labels)
