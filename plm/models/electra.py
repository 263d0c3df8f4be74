"""ELECTRA (Clark et al. 2020): an encoder pretrained to tell which tokens a smaller generator has replaced.

The value describes both halves: the discriminator, which is kept, and the generator as a fraction of its width. Both are
held by `plm.modeling.electra.ElectraForJointPreTraining`; every other objective builds the discriminator alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.models import Model, check_heads
from plm.spec import neutral

if TYPE_CHECKING:
    from transformers import ElectraConfig


@dataclass(frozen=True, kw_only=True)
class Electra(Model):
    """An ELECTRA discriminator with its generator, by transformers' own field names."""

    kind: ClassVar[str] = "models/electra"
    version: ClassVar[int] = 1
    model_type: ClassVar[str] = "electra"
    type_vocab_size: ClassVar[int] = 2
    vocab_size: int
    embedding_size: int
    """Width of the token embeddings, which both halves share."""
    hidden_size: int
    num_hidden_layers: int
    """Of the discriminator and of the generator."""
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    dropout: float
    """Of hidden states and of attention weights."""
    generator_fraction: float
    """Width of the generator (hidden states, heads and feed-forward) over the discriminator's."""
    initializer_range: float = neutral(0.02)
    """Standard deviation of fresh weights."""

    def __post_init__(self) -> None:
        check_heads(self.hidden_size, self.num_attention_heads)
        generator_sizes(self.hidden_size, self.num_attention_heads, self.intermediate_size, self.generator_fraction)

    def config(self) -> ElectraConfig:
        from transformers import ElectraConfig

        config = ElectraConfig(
            vocab_size=self.vocab_size,
            embedding_size=self.embedding_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=self.intermediate_size,
            max_position_embeddings=self.max_position_embeddings,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            summary_last_dropout=self.dropout,
            initializer_range=self.initializer_range,
            pad_token_id=0,
        )
        config.generator_fraction = self.generator_fraction  # one of our own
        return config


def generator_sizes(hidden: int, heads: int, intermediate: int, fraction: float) -> dict[str, int]:
    """The generator's own fields of the configuration; its heads are as wide as the discriminator's where they can be.

    Raises:
        ValueError: the fraction leaves no whole width.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"a generator_fraction of {fraction}: it must lie above 0 and at most at 1.")
    width, inner = round(hidden * fraction), round(intermediate * fraction)
    if abs(width - hidden * fraction) > 1e-6 or width < 1:
        raise ValueError(
            f"a generator_fraction of {fraction} makes {hidden * fraction:g} of hidden_size {hidden}: "
            "choose one that leaves a whole number, such as 1/2 or 1/4."
        )
    own = max(1, round(heads * fraction))
    check_heads(width, own, "the generator's hidden_size")
    return {"hidden_size": width, "num_attention_heads": own, "intermediate_size": max(1, inner)}


def _size(layers: int, hidden: int, embedding: int, fraction: float) -> Electra:
    return Electra(
        vocab_size=30522,
        embedding_size=embedding,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
        max_position_embeddings=512,
        dropout=0.1,
        generator_fraction=fraction,
    )


SIZES = {
    "electra-tiny": _size(2, 128, 64, 1 / 2),
    "electra-mini": _size(4, 256, 128, 1 / 4),
    "electra-small": _size(12, 256, 128, 1 / 4),
    "electra-base": _size(12, 768, 768, 1 / 3),
    "electra-large": _size(24, 1024, 1024, 1 / 4),
}
"""The release's three and two miniatures."""
