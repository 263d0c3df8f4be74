"""BERT (Devlin et al. 2019): bidirectional encoder, normalisation after each block, learned positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.models import Model
from plm.spec import neutral

if TYPE_CHECKING:
    from transformers import BertConfig


@dataclass(frozen=True, kw_only=True)
class Bert(Model):
    """A BERT, by transformers' own field names."""

    kind: ClassVar[str] = "models/bert"
    version: ClassVar[int] = 1
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    dropout: float
    """Of hidden states and of attention weights."""
    initializer_range: float = neutral(0.02)
    """Standard deviation of fresh weights."""

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} does not divide into {self.num_attention_heads} "
                "attention heads: choose a number of heads that divides it."
            )

    def config(self) -> BertConfig:
        from transformers import BertConfig

        return BertConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=self.intermediate_size,
            max_position_embeddings=self.max_position_embeddings,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            initializer_range=self.initializer_range,
            pad_token_id=0,
        )
