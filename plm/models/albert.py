"""ALBERT (Lan et al. 2020): embeddings factorised, and layers that share all their weights, a part of them, or none.

transformers has the first and the last kind of sharing. `attention` and `feed_forward`, and an embedding as wide as the
layers (transformers would add a map from the width to itself that the paper's models have not), are
`plm.modeling.albert`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from plm.models import SHARINGS, Model, check_heads
from plm.registry import unknown
from plm.spec import neutral

if TYPE_CHECKING:
    from transformers import AlbertConfig


@dataclass(frozen=True, kw_only=True)
class Albert(Model):
    """An ALBERT, by transformers' own field names."""

    kind: ClassVar[str] = "models/albert"
    version: ClassVar[int] = 1
    type_vocab_size: ClassVar[int] = 2
    vocab_size: int
    embedding_size: int
    """Width of the embeddings; where it is not `hidden_size`, a linear map follows them."""
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    sharing: str
    """What the layers share: `all`, `attention`, `feed_forward` or `none`; a norm goes with the block it follows."""
    dropout: float
    """Of hidden states and of attention weights."""
    initializer_range: float = neutral(0.02)
    """Standard deviation of fresh weights."""

    def __post_init__(self) -> None:
        check_heads(self.hidden_size, self.num_attention_heads)
        if self.sharing not in SHARINGS:
            raise unknown("sharing", self.sharing, SHARINGS)

    @property
    def model_type(self) -> str:
        """transformers' own where it can say what is meant."""
        own = self.sharing in ("attention", "feed_forward") or self.embedding_size == self.hidden_size
        return "albert-sharing" if own else "albert"

    def config(self) -> AlbertConfig:
        from transformers import AlbertConfig

        fields: dict[str, Any] = {
            "vocab_size": self.vocab_size,
            "embedding_size": self.embedding_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.dropout,
            "classifier_dropout_prob": self.dropout,
            "initializer_range": self.initializer_range,
            "pad_token_id": 0,
            "bos_token_id": None,
            "eos_token_id": None,
        }
        if self.model_type == "albert":
            return AlbertConfig(**fields, num_hidden_groups=1 if self.sharing == "all" else self.num_hidden_layers)
        from plm.modeling.albert import AlbertSharingConfig

        return AlbertSharingConfig(**fields, sharing=self.sharing)


def _size(layers: int, hidden: int, heads: int, embedding: int = 128) -> Albert:
    return Albert(
        vocab_size=30000,
        embedding_size=embedding,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=512,
        sharing="all",
        dropout=0.0,
    )


SIZES = {
    "albert-tiny": _size(2, 128, 2, 64),
    "albert-mini": _size(4, 256, 4, 64),
    "albert-base": _size(12, 768, 12),
    "albert-large": _size(24, 1024, 16),
    "albert-xlarge": _size(24, 2048, 16),
    "albert-xxlarge": _size(12, 4096, 64),
}
"""The release's four (version 2: no dropout) and two miniatures."""
