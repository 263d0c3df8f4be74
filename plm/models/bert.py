"""BERT (Devlin et al. 2019): bidirectional encoder, normalisation after each block, learned positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.models import Model, check_heads
from plm.spec import neutral

if TYPE_CHECKING:
    from transformers import BertConfig


@dataclass(frozen=True, kw_only=True)
class Bert(Model):
    """A BERT, by transformers' own field names."""

    kind: ClassVar[str] = "models/bert"
    version: ClassVar[int] = 1
    model_type: ClassVar[str] = "bert"
    type_vocab_size: ClassVar[int] = 2
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
        check_heads(self.hidden_size, self.num_attention_heads)

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


def _size(layers: int, hidden: int) -> Bert:
    return Bert(
        vocab_size=30522,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
        max_position_embeddings=512,
        dropout=0.1,
    )


SIZES = {
    "bert-tiny": _size(2, 128),
    "bert-mini": _size(4, 256),
    "bert-small": _size(4, 512),
    "bert-medium": _size(8, 512),
    "bert-base": _size(12, 768),
    "bert-large": _size(24, 1024),
}
"""The release's two and the miniatures of Turc et al. 2019."""
HUB = {f"{owner}{size}-uncased": size for owner in ("", "google-bert/") for size in ("bert-base", "bert-large")}
"""The ids of the release's two on the hub."""
