"""The weights that a token meets in a model's layers, counted: for families whose feed-forward no list describes.

A matrix is met by every token; a stack of experts by the share of them that a token is sent to.
"""

from __future__ import annotations

import functools
import json
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_k")
"""What the families call how many experts there are, and how many of them a token is sent to."""


@functools.lru_cache(maxsize=256)
def layer_weights(config: str) -> float | None:
    """Weights of all layers that a token meets; None, with a warning, where they cannot be told.

    Args:
        config: config.json.
    """
    from plm.models import layers
    from plm.outline import outline

    family = json.loads(config)["model_type"]
    try:
        model = outline(config)
        return sum(_met(parameter, model.config) for layer in layers(model) for parameter in _matrices(layer))
    except Exception as error:  # transformers raises a different type for each kind of misfit
        warnings.warn(
            f"FLOPs of {family} are an estimate, as for two matrices a feed-forward: its layers could not "
            f"be counted ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'})",
            stacklevel=3,
        )
        return None


def _matrices(layer: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in layer.parameters() if parameter.ndim > 1]


def _met(parameter: nn.Parameter, config: Any) -> float:
    """How many of a matrix's weights a token meets.

    Raises:
        ValueError: it is a stack of matrices whose use the configuration does not explain.
    """
    heads = getattr(config, "num_attention_heads", 1)
    if parameter.ndim == 2 or tuple(parameter.shape[1:]) == (heads, config.hidden_size // heads):
        return parameter.numel()  # as XLNet keeps its matrices, the heads apart
    experts, chosen = (
        next((getattr(config, n) for n in names if hasattr(config, n)), None) for names in (EXPERTS, CHOSEN)
    )
    if parameter.ndim != 3 or not chosen or parameter.shape[0] != experts:
        raise ValueError(f"a tensor of shape {tuple(parameter.shape)} that is no stack of experts")
    return parameter.numel() * chosen / experts
