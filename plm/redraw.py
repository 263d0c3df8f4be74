"""Draw chosen layers of a model afresh, and prove that it happened.

Tensors are written directly. Calling transformers' own initialisers on a model from `from_pretrained` changes nothing
(its parameters are flagged as initialised), so an ablation built that way finds that pretraining does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from plm.models import layers as layers_of
from plm.registry import unknown
from plm.rng import torch_stream

STD = 0.02
"""BERT's initialiser range, before the cut at two standard deviations."""


def _bert(old: Tensor, draw: torch.Generator) -> Tensor:
    return nn.init.trunc_normal_(torch.empty(old.shape), std=STD, a=-2 * STD, b=2 * STD, generator=draw)


def _matched(old: Tensor, draw: torch.Generator) -> Tensor:
    return torch.randn(old.shape, generator=draw) * old.std() + old.mean()


def _shuffle(old: Tensor, draw: torch.Generator) -> Tensor:
    return old.flatten()[torch.randperm(old.numel(), generator=draw)].view(old.shape)


SCHEMES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "bert": _bert,
    "matched": _matched,
    "shuffle": _shuffle,
}


@torch.no_grad()
def reinitialize(
    model: PreTrainedModel,
    layers: Iterable[int],
    *,
    scheme: str = "bert",
    bias: str = "keep",
    layer_norm: str = "reset",
    seed: int = 0,
) -> list[str]:
    """Draw some layers of a transformers encoder or decoder afresh, in place.

    Args:
        layers: 0-based, from the input side.
        scheme: How each weight matrix is drawn. `bert`: a normal of standard deviation .02 cut at two of them, in every
            family and for every matrix (GPT-2's residual projections are not scaled by depth again); `matched`: a
            normal with the matrix's own mean and standard deviation; `shuffle`: its own entries permuted. Where a
            family joins queries, keys and values in one matrix, that is one matrix.
        bias: `keep` or `zero` the biases of the linear maps.
        layer_norm: `reset` to scale 1 and shift 0, or `keep`.
        seed: One layer draws the same noise whichever other layers are named.

    Returns:
        The names of the parameters touched.

    Raises:
        ValueError: a layer out of range, an unknown option, layers that share weights with others, a parameter of
            a kind that is not known; nothing has been changed then.
        RuntimeError: a drawn tensor did not change, or a reset one is not at its target.

    Source: Tamkin et al. 2020, section 2 (linear biases, embeddings and pooler are left as they are). Their released
        code draws with a standard deviation near .0005, because the cut was passed in the wrong units; `bert` is what
        the paper says.
    """
    for what, given, allowed in (
        ("scheme", scheme, SCHEMES),
        ("bias", bias, ("keep", "zero")),
        ("layer_norm", layer_norm, ("reset", "keep")),
    ):
        if given not in allowed:
            raise unknown(what, given, allowed)
    plan = list(_plan(model, sorted(set(layers)), scheme, bias, layer_norm, seed))
    for name, parameter, new in plan:
        old = parameter.detach().clone()
        parameter.copy_(new)
        if parameter.ndim > 1 and torch.equal(old, parameter):
            raise RuntimeError(
                f"{name} was drawn afresh but did not change: it may be constant, frozen by a hook, or "
                "replaced by a view."
            )
        if not torch.equal(parameter, new.to(parameter.dtype)):
            raise RuntimeError(f"{name} is not at its target after it was set.")
    return [name for name, _, _ in plan]


def _plan(
    model: PreTrainedModel, chosen: list[int], scheme: str, bias: str, layer_norm: str, seed: int
) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
    """The parameters to set and their new values, checked in full before the first one is handed out."""
    blocks = layers_of(model)
    if chosen and not (chosen[0] >= 0 and chosen[-1] < len(blocks)):
        raise ValueError(f"layers {chosen}: the model has {len(blocks)} layers, 0 to {len(blocks) - 1}.")
    names = {id(p): name for name, p in model.named_parameters()}
    elsewhere = {
        id(p)
        for name, p in model.named_parameters(remove_duplicate=False)
        if not any(name.startswith(prefix) for prefix in _prefixes(model, blocks, chosen))
    }
    planned: list[tuple[str, nn.Parameter, Tensor]] = []
    for layer in chosen:
        for module_name, module in blocks[layer].named_modules():
            for own_name, parameter in module.named_parameters(recurse=False):
                if id(parameter) in elsewhere:
                    raise ValueError(f"{names[id(parameter)]} is shared with a layer that is not to be redrawn.")
                draw = torch_stream(seed, "redraw", layer, f"{module_name}.{own_name}")
                new = _new_value(module, own_name, parameter.detach().float().cpu(), draw, scheme, bias, layer_norm)
                if new is not None:
                    planned.append((names[id(parameter)], parameter, new.to(parameter.device)))
    yield from planned


def _prefixes(model: PreTrainedModel, blocks: list[nn.Module], chosen: list[int]) -> list[str]:
    places = {id(module): name for name, module in model.named_modules()}
    return [places[id(blocks[layer])] + "." for layer in chosen]


def _new_value(
    module: nn.Module, name: str, old: Tensor, draw: torch.Generator, scheme: str, bias: str, layer_norm: str
) -> Tensor | None:
    """What a parameter becomes; None: it stays."""
    if type(module).__name__.lower().endswith("norm"):
        if layer_norm == "keep":
            return None
        # Gemma's RMSNorm multiplies by (1 + weight), so its neutral weight is 0.
        return (
            torch.ones_like(old)
            if name == "weight" and "gemma" not in type(module).__name__.lower()
            else torch.zeros_like(old)
        )
    if old.ndim >= 2:
        return SCHEMES[scheme](old, draw)
    if name.endswith("bias"):
        return torch.zeros_like(old) if bias == "zero" else None
    raise ValueError(
        f"{type(module).__name__}.{name} of shape {tuple(old.shape)} is neither a matrix, a bias nor part "
        "of a norm: how to redraw it is not known."
    )
