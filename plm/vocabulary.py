"""Train only the embedding rows that a run's data names.

A token that never occurs never gets a gradient, so without weight decay its row never moves: carrying it through the
optimizer is only memory traffic, half of a small model's. The numbers are those of training every row.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel


class NamedRows(nn.Module):
    """An embedding of which some rows are trained and the others are kept aside.

    To `state_dict` it looks like the whole embedding, so checkpoints and hashes are those of the whole model.
    """

    def __init__(self, whole: nn.Embedding, named: Int[Tensor, " K"]) -> None:
        super().__init__()
        if whole.max_norm is not None or whole.scale_grad_by_freq or whole.sparse:
            raise ValueError("an embedding with max_norm, scale_grad_by_freq or sparse gradients cannot be restricted.")
        kept = whole.weight.detach()
        self.weight = nn.Parameter(kept[named].clone(), requires_grad=whole.weight.requires_grad)
        self.embedding_dim = whole.embedding_dim
        self._aside, self._named = kept, named
        position = torch.full((len(kept),), -1)
        position[named] = torch.arange(len(named))
        self._position: Tensor
        self.register_buffer("_position", position, persistent=False)
        padding = -1 if whole.padding_idx is None else int(position[whole.padding_idx])
        self._padding = padding if padding >= 0 else None  # -1 would mean the last row

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        return F.embedding(self._position[ids], self.weight, self._padding)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        whole = self._aside.to(self.weight.device, copy=True)
        whole[self._named.to(whole.device)] = self.weight.detach()
        destination[prefix + "weight"] = whole

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        whole = state_dict[prefix + "weight"]
        self._aside = whole.clone()
        with torch.no_grad():
            self.weight.copy_(whole[self._named])


def restrict(model: PreTrainedModel, named: Int[Tensor, " K"]) -> None:
    """Replace the model's input embedding, in place, by one that trains the named rows only.

    Args:
        named: Token ids that the data may hold, ascending, each once; the padding token among them.

    Raises:
        ValueError: the output layer shares the embedding, so that every row is trained.
    """
    whole = model.get_input_embeddings()
    if not isinstance(whole, nn.Embedding) or model.get_output_embeddings() is not None:
        raise ValueError(f"{type(model).__name__} predicts tokens, which trains every row of its embedding.")
    for module in model.modules():
        for name, child in module.named_children():
            if child is whole:
                setattr(module, name, NamedRows(whole, named))
