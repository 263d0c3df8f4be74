"""Masked language modelling (Devlin et al. 2019, section 3.1): 15% of the tokens, of them 80/10/10."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Int

from plm.direction import is_causal, is_masked, sees_later
from plm.heads import encode, vocabulary_scores
from plm.masking import SELECTIONS, hide, select
from plm.models import OFFSET
from plm.objectives import IGNORED, Arrays, Objective, Scored, predicting
from plm.spec import neutral

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from plm.data.tokenizer import Symbols
    from plm.models import Shape
    from plm.objectives import Batch

STRANGERS = ("any", "text")


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
    strangers: str = neutral("any")
    """What random tokens are drawn from: `any` of the vocabulary, special ones too (BERT's release), or all those that
    stand for `text` (RoBERTa's, whose positions a padding token in the middle would shift)."""

    def __post_init__(self) -> None:
        if self.strangers not in STRANGERS:
            raise ValueError(f"strangers {self.strangers!r}: there are {', '.join(STRANGERS)}.")
        if not self.random_share:
            object.__setattr__(self, "strangers", "any")  # nothing is drawn: one spelling
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
        if is_causal(model_type):
            raise ValueError(f"{model_type} reads from left to right: pretrain it with CausalLM() instead of MaskedLM.")
        if not is_masked(model_type):
            raise ValueError(
                f"transformers has no masked language model of the family {model_type}: take an encoder such as bert."
            )

    def check_built(self, model: PreTrainedModel, seq_len: int) -> None:
        if seq_len > 1 and not sees_later(model, seq_len):
            raise ValueError(
                f"{type(model).__name__}: what it says of a token does not change with the tokens after it, so that a mask "
                "says nothing of them. Pretrain it with CausalLM(), or take an encoder such as bert."
            )

    def for_family(self, model_type: str) -> MaskedLM:
        return replace(self, strangers="text") if model_type in OFFSET else self

    def drawn_from(self, symbols: Symbols) -> Int[np.ndarray, " S"]:
        """The tokens that random ones are drawn from, each alike."""
        return np.arange(symbols.size) if self.strangers == "any" else np.flatnonzero(~symbols.special)

    def corrupt(self, batch: Arrays, symbols: Symbols, draw: np.random.Generator) -> Arrays:
        if symbols.mask is None:
            raise ValueError("the tokenizer has no mask token, which masked language modelling needs.")
        ids = batch["input_ids"]
        chosen = select(ids, symbols, draw, rate=self.rate, by=self.selection)
        shares = (self.mask_share, self.random_share)
        inputs = hide(ids, chosen, draw, mask_id=symbols.mask, strangers=self.drawn_from(symbols), shares=shares)
        return {**batch, "input_ids": inputs, "labels": np.where(chosen, ids, IGNORED)}

    def flops_per_token(self, model: Shape, seq_len: float) -> float:
        return model.flops_per_token(seq_len) + self.rate * predicting(model)

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"mlm": int((batch["labels"] != IGNORED).sum())}

    def read(self, model: PreTrainedModel, encoded: Any, batch: Batch) -> dict[str, Scored]:
        return {"mlm": token_loss(*_scores(model, encoded, batch))}

    def scores(self, model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
        return _scores(model, encode(model, batch), batch)


def _scores(model: PreTrainedModel, encoded: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    # The vocabulary projection is the largest product of a small model: compute it only where it is scored.
    scored = batch["labels"] != IGNORED
    return vocabulary_scores(model, encoded[0][scored]), batch["labels"][scored]


def token_loss(logits: Tensor, labels: Tensor) -> Scored:
    """Cross-entropy of (K, V) logits in nats, and which tokens (K,) are predicted right."""
    from torch.nn import functional as F

    return Scored(F.cross_entropy(logits, labels, reduction="none"), logits.detach().argmax(-1) == labels)
