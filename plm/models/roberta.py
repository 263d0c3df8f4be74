"""RoBERTa (Liu et al. 2019): BERT without segments and without a sentence objective, positions counted after the padding.

A position table of P rows reads P - 2 tokens where the padding token is 1, as in the release; the padding token is the
tokenizer's matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.models import Model, check_heads
from plm.spec import neutral

if TYPE_CHECKING:
    from transformers import RobertaConfig


@dataclass(frozen=True, kw_only=True)
class Roberta(Model):
    """A RoBERTa, by transformers' own field names."""

    kind: ClassVar[str] = "models/roberta"
    version: ClassVar[int] = 1
    model_type: ClassVar[str] = "roberta"
    type_vocab_size: ClassVar[int] = 1
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    """Rows of the position table: 514 to read 512 tokens."""
    dropout: float
    """Of hidden states and of attention weights."""
    initializer_range: float = neutral(0.02)
    """Standard deviation of fresh weights."""

    def __post_init__(self) -> None:
        check_heads(self.hidden_size, self.num_attention_heads)
        if self.max_position_embeddings < 3:
            raise ValueError(
                f"max_position_embeddings {self.max_position_embeddings}: RoBERTa's table holds two rows that no token "
                "reads. Give it two more than the longest sequence."
            )

    def config(self) -> RobertaConfig:
        from transformers import RobertaConfig

        return RobertaConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=self.intermediate_size,
            max_position_embeddings=self.max_position_embeddings,
            type_vocab_size=self.type_vocab_size,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            initializer_range=self.initializer_range,
            layer_norm_eps=1e-5,
        )


def _size(layers: int, hidden: int, heads: int, intermediate: int = 3072) -> Roberta:
    return Roberta(
        vocab_size=50265,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=514,
        dropout=0.1,
    )


SIZES = {
    "roberta-tiny": _size(2, 128, 2, 512),
    "roberta-mini": _size(4, 256, 4, 1024),
    "roberta-medium": _size(9, 576, 12),
    "roberta-base": _size(12, 768, 12),
    "roberta-base-plus": _size(18, 864, 12, 3600),
    "roberta-large": _size(24, 1024, 16, 4096),
    **{f"roberta-d{width}": _size(12, width, 12) for width in (384, 480, 576, 672)},
    **{f"roberta-h{layers}": _size(layers, 768, 12) for layers in (4, 6, 8, 10)},
}
"""Two miniatures, the release's base and large, and the ladder of Qin et al. 2022: width and depth varied alone too."""
