"""From a batch to what a model's body says of it, and from there to the scores of its heads.

A head is computed at chosen positions only; transformers' own forward computes it everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxtyping import Float

if TYPE_CHECKING:
    from torch import Tensor

    from plm.objectives import Batch

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def encode(model: Any, batch: Batch, **options: Any) -> Any:
    """What the model's body says of a batch: hidden states (B, T, D) first, then the pooled one (B, D) if it has any."""
    return model.base_model(**{name: batch[name] for name in INPUTS if name in batch}, **options)


def representation(model: Any, batch: Batch) -> Float[Tensor, "B D"]:
    """The last layer's vector of the token that stands for a text: the first, or a decoder's last, which has seen all.

    Where that is, the attention mask says: a text may end with the very token that others are padded with.
    """
    import torch

    if not hasattr(model, "score"):
        return encode(model, batch)[0][:, 0]
    ends = batch["attention_mask"].sum(1) - 1
    return encode(model, batch, use_cache=False)[0][torch.arange(len(ends), device=ends.device), ends]


def vocabulary_scores(model: Any, hidden: Float[Tensor, "K D"]) -> Float[Tensor, "K V"]:
    """Logits over the vocabulary, in float32, from hidden states at the positions that are scored.

    Raises:
        ValueError: the model has no language-modelling head that is known here.
    """
    if hasattr(model, "generator_lm_head"):  # ELECTRA's generator
        return model.generator_lm_head(model.generator_predictions(hidden)).float()
    if hasattr(model, "cls") and hasattr(model.cls, "predictions"):  # BERT
        return model.cls.predictions(hidden).float()
    for name in ("lm_head", "embed_out", "predictions"):  # RoBERTa, GPT, GPT-2, Llama; GPT-NeoX; ALBERT
        if hasattr(model, name):
            return getattr(model, name)(hidden).float()
    raise ValueError(f"{type(model).__name__} has no language-modelling head that is known here.")


def pair_scores(model: Any, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B 2"]:
    """Logits of the two labels of a pair of segments, in float32.

    Raises:
        ValueError: the model has no such head.
    """
    if hasattr(model, "sop_classifier"):
        return model.sop_classifier(pooled).float()
    if hasattr(model, "cls") and hasattr(model.cls, "seq_relationship"):
        return model.cls.seq_relationship(pooled).float()
    raise ValueError(f"{type(model).__name__} has no head for pairs of segments that is known here.")
