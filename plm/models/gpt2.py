"""GPT-2 (Radford et al. 2019): decoder, normalisation before each block, residual projections drawn narrower with depth.

The projections that end a residual branch have standard deviation `initializer_range` / sqrt(2 L), every other matrix
`initializer_range`. So have the positions, as in transformers; OpenAI's release draws those at half of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.models import Model, check_heads
from plm.spec import neutral

if TYPE_CHECKING:
    from transformers import GPT2Config


@dataclass(frozen=True, kw_only=True)
class GPT2(Model):
    """A GPT-2, by the field names of the other families."""

    kind: ClassVar[str] = "models/gpt2"
    version: ClassVar[int] = 1
    model_type: ClassVar[str] = "gpt2"
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    dropout: float
    """Of embeddings, of hidden states and of attention weights."""
    initializer_range: float = neutral(0.02)
    """Standard deviation of fresh weights, before the residual projections are scaled."""

    def __post_init__(self) -> None:
        check_heads(self.hidden_size, self.num_attention_heads)

    def config(self) -> GPT2Config:
        from transformers import GPT2Config

        return GPT2Config(
            vocab_size=self.vocab_size,
            n_embd=self.hidden_size,
            n_layer=self.num_hidden_layers,
            n_head=self.num_attention_heads,
            n_inner=self.intermediate_size,
            n_positions=self.max_position_embeddings,
            embd_pdrop=self.dropout,
            resid_pdrop=self.dropout,
            attn_pdrop=self.dropout,
            initializer_range=self.initializer_range,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=None,
        )


def _size(layers: int, hidden: int, heads: int, intermediate: int | None = None) -> GPT2:
    return GPT2(
        vocab_size=50257,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate or 4 * hidden,
        max_position_embeddings=1024,
        dropout=0.1,
    )


SIZES = {
    "gpt2-tiny": _size(2, 128, 2),
    "gpt2-mini": _size(4, 256, 4),
    "gpt2-small": _size(12, 768, 12),
    "gpt2-medium": _size(24, 1024, 16),
    "gpt2-large": _size(36, 1280, 20),
    "gpt2-xl": _size(48, 1600, 25),
    "gpt2-73m": _size(9, 576, 12, 3072),
    "gpt2-209m": _size(18, 864, 12, 3600),
    "gpt2-1068m": _size(40, 1440, 20),
}
"""OpenAI's four, two miniatures, and the sizes of Qin et al. 2022 (table 6) that are none of them."""
