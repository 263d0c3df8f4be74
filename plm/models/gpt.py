"""GPT (Radford et al. 2018): decoder, normalisation after each block, feed-forward always four times as wide.

Every matrix is drawn at a standard deviation of .02, as in the paper: transformers draws the layers' so whatever its
configuration says, so there is no `initializer_range` here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.models import Model, check_heads

if TYPE_CHECKING:
    from transformers import OpenAIGPTConfig


@dataclass(frozen=True, kw_only=True)
class GPT(Model):
    """The first GPT, by the field names of the other families."""

    kind: ClassVar[str] = "models/gpt"
    version: ClassVar[int] = 1
    model_type: ClassVar[str] = "openai-gpt"
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    dropout: float
    """Of embeddings, of hidden states and of attention weights."""

    def __post_init__(self) -> None:
        check_heads(self.hidden_size, self.num_attention_heads)

    def config(self) -> OpenAIGPTConfig:
        from transformers import OpenAIGPTConfig

        return OpenAIGPTConfig(
            vocab_size=self.vocab_size,
            n_embd=self.hidden_size,
            n_layer=self.num_hidden_layers,
            n_head=self.num_attention_heads,
            n_positions=self.max_position_embeddings,
            embd_pdrop=self.dropout,
            resid_pdrop=self.dropout,
            attn_pdrop=self.dropout,
            pad_token_id=0,
        )


def _size(layers: int, hidden: int, heads: int) -> GPT:
    return GPT(
        vocab_size=40478,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=512,
        dropout=0.1,
    )


SIZES = {"gpt-tiny": _size(2, 128, 2), "gpt-mini": _size(4, 256, 4), "gpt-base": _size(12, 768, 12)}
"""The release (`gpt-base`) and two miniatures."""
