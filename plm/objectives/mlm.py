"""Masked language modelling (Devlin et al. 2019, section 3.1): 15% of the tokens, of them 80/10/10."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from plm.objectives import IGNORED, Arrays, Objective, Scored

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plm.data.tokenizer import Symbols
    from plm.objectives import Batch


@dataclass(frozen=True)
class MaskedLM(Objective):
    """Cross-entropy in nats per masked token."""

    kind: ClassVar[str] = "objectives/mlm"
    version: ClassVar[int] = 1
    rate: float = 0.15
    """Share of the tokens (special ones aside) that are predicted."""

    @property
    def components(self) -> tuple[str, ...]:
        return ("mlm",)

    def auto(self) -> Any:
        from transformers import AutoModelForMaskedLM

        return AutoModelForMaskedLM

    def corrupt(self, batch: Arrays, symbols: Symbols, draw: np.random.Generator) -> Arrays:
        if symbols.mask is None:
            raise ValueError("the tokenizer has no [MASK] token, which masked language modelling needs.")
        ids = batch["input_ids"]
        inputs, labels = mask(
            ids, symbols.special[ids], draw, rate=self.rate, mask_id=symbols.mask, vocab_size=symbols.size
        )
        return {**batch, "input_ids": inputs, "labels": labels}

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"mlm": int((batch["labels"] != IGNORED).sum())}

    def losses(self, model: PreTrainedModel, batch: Batch) -> dict[str, Scored]:
        from torch.nn import functional as F

        scored = batch["labels"] != IGNORED
        hidden = model.base_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])[0]
        # The vocabulary projection is the largest product of a small model: compute it only where it is scored.
        logits = _head(model)(hidden[scored]).float()
        labels = batch["labels"][scored]
        return {"mlm": Scored(F.cross_entropy(logits, labels, reduction="none"), logits.detach().argmax(-1) == labels)}


def _head(model: PreTrainedModel) -> Any:
    for name in ("cls", "lm_head", "predictions"):  # BERT; RoBERTa; ALBERT
        if hasattr(model, name):
            return getattr(model, name)
    raise ValueError(f"{type(model).__name__} has no masked-LM head that is known here.")


def mask(
    ids: NDArray[np.int64],
    special: NDArray[np.bool_],
    draw: np.random.Generator,
    *,
    rate: float,
    mask_id: int,
    vocab_size: int,
) -> tuple[Int[np.ndarray, "B T"], Int[np.ndarray, "B T"]]:
    """Corrupt a batch of tokens (B, T); returns inputs and labels (`IGNORED` where nothing is predicted).

    Of the chosen positions 80% show the mask, 10% a random token and 10% the token itself.
    """
    chosen = (draw.random(ids.shape) < rate) & ~special
    how = draw.random(ids.shape)
    inputs = np.where(chosen & (how < 0.8), mask_id, ids)
    random_token = draw.integers(0, vocab_size, ids.shape)
    inputs = np.where(chosen & (how >= 0.8) & (how < 0.9), random_token, inputs)
    return inputs, np.where(chosen, ids, IGNORED)
