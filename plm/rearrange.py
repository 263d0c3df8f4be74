"""Move the weights of layers: within a model, out of it, or in from another.

Weights move and places stay, so that the model in memory is the one that its checkpoint is read back as.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plm.kinds import check_kinds, unlike
from plm.models import layer_list, shorter

Tensors = dict[str, Tensor]


def permute_layers(model: PreTrainedModel, order: Sequence[int]) -> list[str]:
    """Put layers in another order, in place: layer i becomes what layer `order[i]` was.

    Returns:
        The names of the parameters that changed.

    Raises:
        ValueError: layers that are not alike, of different kinds, or that share their weights.
    """
    check_kinds(model.config, order)
    held = [_tensors(layer) for layer in layer_list(model)]
    return _write(model, {place: held[origin] for place, origin in enumerate(order)})


def keep_layers(model: PreTrainedModel, kept: Sequence[int]) -> list[str]:
    """Take all layers out but some, in place, and say so in the model's configuration.

    Returns:
        The names of the parameters that changed: those of layers that have moved.

    Raises:
        ValueError: as `permute_layers`.
    """
    check_kinds(model.config, kept)
    layers = layer_list(model)
    changed = _write(model, {place: _tensors(layers[origin]) for place, origin in enumerate(kept)})
    del layers[len(kept) :]
    for name, value in shorter(model.config.to_dict(), len(kept)).items():
        setattr(model.config, name, value)
    return changed


def graft_layers(model: PreTrainedModel, layers: Iterable[int], donor: PreTrainedModel) -> list[str]:
    """Overwrite some layers with the donor's of the same places, in place; the donor stays as it is.

    Returns:
        The names of the parameters that changed.

    Raises:
        ValueError: the donor's layers are of another shape, do something else, or share their weights.
    """
    theirs, layers = layer_list(donor), tuple(layers)
    if differing := unlike(donor.config, model.config, layers):
        raise ValueError(f"the donor's layers do not fit the model: {', '.join(differing)}.")
    return _write(model, {layer: _tensors(theirs[layer]) for layer in layers})


def _tensors(layer: torch.nn.Module) -> Tensors:
    """Copies, for a place may be written before it is read."""
    return {name: tensor.detach().clone() for name, tensor in layer.state_dict().items()}


@torch.no_grad()
def _write(model: PreTrainedModel, new: dict[int, Tensors]) -> list[str]:
    """Give layers new weights, once all are found to fit."""
    layers = layer_list(model)
    for place, tensors in new.items():
        here = {name: tensor.shape for name, tensor in layers[place].state_dict().items()}
        there = {name: tensor.shape for name, tensor in tensors.items()}
        if here != there:
            differing = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
            raise ValueError(f"layer {place} of {type(model).__name__} is of another form: {', '.join(differing)}.")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    changed = []
    for place, tensors in new.items():
        for name, parameter in layers[place].state_dict(keep_vars=True).items():
            if not torch.equal(parameter, tensors[name]):
                parameter.copy_(tensors[name])
                changed += [names[id(parameter)]] if id(parameter) in names else []
            if not torch.equal(parameter, tensors[name]):
                raise RuntimeError(f"{name} of layer {place} is not at its target after it was set.")
    return changed
