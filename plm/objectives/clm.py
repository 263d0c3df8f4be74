"""Causal language modelling (Radford et al. 2018): every token from those before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from plm.direction import is_causal, is_masked, sees_later
from plm.heads import encode, vocabulary_scores
from plm.objectives import IGNORED, Arrays, Objective, Scored
from plm.objectives.mlm import token_loss

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

    from plm.data.tokenizer import Symbols
    from plm.models import Shape
    from plm.objectives import Batch

RESCALED = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
"""Fields of configurations whose models change the output of their head, which `vocabulary_scores` does not know."""


@dataclass(frozen=True)
class CausalLM(Objective):
    """Cross-entropy in nats per token, over all tokens but the first of each sequence; padding is left out."""

    kind: ClassVar[str] = "objectives/clm"
    version: ClassVar[int] = 1

    @property
    def components(self) -> tuple[str, ...]:
        return ("clm",)

    @property
    def language(self) -> str:
        return "clm"

    def auto(self) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM

    def check(self, model_type: str) -> None:
        if is_masked(model_type):
            raise ValueError(
                f"{model_type} reads in both directions and would see what it is to predict: pretrain it with MaskedLM()."
            )
        if not is_causal(model_type):
            raise ValueError(
                f"transformers has no causal language model of the family {model_type}: take a decoder such as gpt2."
            )

    def check_built(self, model: PreTrainedModel, seq_len: int) -> None:
        if seq_len > 1 and sees_later(model, seq_len):
            raise ValueError(
                f"{type(model).__name__}: what it says of a token changes with the tokens after it, so that it would see "
                "what it is to predict. Pretrain it with MaskedLM(), or take a decoder such as gpt2."
            )

    def configure(self, config: PreTrainedConfig) -> None:
        self.check(config.model_type)
        rescaled = [name for name in RESCALED if getattr(config, name, None) not in (None, 1, 1.0)]
        if rescaled:
            raise ValueError(
                f"{config.model_type} rescales its logits ({', '.join(rescaled)}), which is not supported."
            )

    def corrupt(self, batch: Arrays, symbols: Symbols, draw: np.random.Generator) -> Arrays:
        labels = np.where(batch["attention_mask"] > 0, batch["input_ids"], IGNORED)
        labels[:, 0] = IGNORED
        if symbols.bytes is None:
            return {**batch, "labels": labels}
        return {**batch, "labels": labels, "bytes": np.where(labels != IGNORED, symbols.bytes[batch["input_ids"]], 0)}

    def flops_per_token(self, model: Shape, seq_len: float) -> float:
        return model.flops_per_token(seq_len) + model.flops_per_prediction()

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"clm": int((batch["labels"] != IGNORED).sum())}

    def losses(self, model: PreTrainedModel, batch: Batch) -> dict[str, Scored]:
        return {"clm": token_loss(*self.scores(model, batch))}

    def scores(self, model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
        labels = batch["labels"][:, 1:]
        scored = labels != IGNORED
        hidden = encode(model, batch, use_cache=False)[0][:, :-1]  # a token is predicted from the one before it
        return vocabulary_scores(model, hidden[scored]), labels[scored]
