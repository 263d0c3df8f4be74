"""Draw chosen parts of a model afresh, and prove that it happened.

Tensors are written directly. Calling transformers' own initialisers on a model from `from_pretrained` changes nothing
(its parameters are flagged as initialised), so an ablation built that way finds that pretraining does not matter.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from plm.inits.reinit import check_options
from plm.models import layers as layers_of
from plm.rng import seed_of, torch_stream

STD = 0.02
"""BERT's initialiser range, before the cut at two standard deviations."""


def _bert(old: Tensor, draw: torch.Generator) -> Tensor:
    return nn.init.trunc_normal_(torch.empty(old.shape), std=STD, a=-2 * STD, b=2 * STD, generator=draw)


def _matched(old: Tensor, draw: torch.Generator) -> Tensor:
    return torch.randn(old.shape, generator=draw) * old.std() + old.mean()


def _shuffle(old: Tensor, draw: torch.Generator) -> Tensor:
    return old.flatten()[torch.randperm(old.numel(), generator=draw)].view(old.shape)


def _released(old: Tensor, draw: torch.Generator) -> Tensor:
    cut = 2 * STD * STD  # two standard deviations, taken for multiples of one
    return nn.init.trunc_normal_(torch.empty(old.shape), std=STD, a=-cut, b=cut, generator=draw)


DRAWS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "bert": _bert,
    "matched": _matched,
    "shuffle": _shuffle,
    "released": _released,
}
"""How one matrix is drawn. `family` is not among them: it draws a whole part at once."""


@dataclass(frozen=True)
class _How:
    scheme: str
    bias: str
    layer_norm: str
    seed: int


@torch.no_grad()
def reinitialize(
    model: PreTrainedModel,
    layers: Iterable[int],
    *,
    scheme: str = "bert",
    bias: str = "keep",
    layer_norm: str = "reset",
    pooler: str = "keep",
    embeddings: str = "keep",
    seed: int = 0,
) -> list[str]:
    """Draw some layers of a transformers encoder or decoder afresh, in place.

    Args:
        layers: 0-based, from the input side.
        scheme: How each matrix is drawn. `bert` (the paper): a normal of standard deviation .02 cut at two of them, in
            every family and for every matrix. `released` (the paper's code): the same with the cut in the wrong units,
            at .0008, which leaves a standard deviation of .00046. `family`: as transformers draws a new model of the
            family, such as an uncut normal of `initializer_range`, or GPT-2's residual projections scaled by depth.
            `matched`: a normal with the matrix's own mean and standard deviation; `shuffle`: its own entries permuted.
            Where a family joins queries, keys and values in one matrix, that is one matrix.
        bias: `keep` (paper and code) or `zero` the biases of the linear maps.
        layer_norm: `reset` to scale 1 and shift 0 (paper and code), or `keep` (their ablation).
        pooler: `keep` (paper and code), or `redraw` the map between body and classifier, in families that have one.
        embeddings: `keep` (paper and code), or `redraw` all tables of the body, with the norm and the projection after
            them.
        seed: One part draws the same noise whichever others are named.

    Returns:
        The names of the parameters touched.

    Raises:
        ValueError: a layer out of range, an unknown option, no pooler, layers that share weights with others, a
            parameter of a kind that is not known; nothing has been changed then.
        RuntimeError: a drawn tensor did not change, or a reset one is not at its target.

    Source: Tamkin et al. 2020, section 2, and the released code.
    """
    check_options(scheme, bias, layer_norm, pooler, embeddings)
    parts = chosen(model, sorted(set(layers)), pooler, embeddings)
    plan = list(_plan(model, parts, _How(scheme, bias, layer_norm, seed)))
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


Parts = list[tuple[str | int, str, nn.Module]]
"""Of each module that is redrawn: the number of its layer or what else it is part of, its name there, itself."""


def chosen(model: PreTrainedModel, layers: Iterable[int], pooler: str, embeddings: str) -> Parts:
    """The modules that hold what is redrawn.

    Raises:
        ValueError: a layer out of range, layers that share weights, no pooler.
    """
    blocks, wanted = layers_of(model), list(layers)
    if wanted and not (wanted[0] >= 0 and wanted[-1] < len(blocks)):
        raise ValueError(f"layers {wanted}: the model has {len(blocks)} layers, 0 to {len(blocks) - 1}.")
    parts: Parts = [(layer, "", blocks[layer]) for layer in wanted]
    if pooler == "redraw":
        found = getattr(model.base_model, "pooler", None)
        if not isinstance(found, nn.Module):
            raise ValueError(f"pooler='redraw': the body of {type(model).__name__} has no pooler.")
        parts.append(("pooler", "", found))
    if embeddings == "redraw":
        parts += [("embeddings", name, module) for name, module in _embeddings(model, blocks)]
    return parts


def names_in(model: PreTrainedModel, parts: Parts) -> list[str]:
    """The names of all parameters of some modules."""
    inside = {id(parameter) for *_, module in parts for parameter in module.parameters()}
    return [name for name, parameter in model.named_parameters() if id(parameter) in inside]


def _embeddings(model: PreTrainedModel, blocks: list[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """What a body computes before its first layer: tables, their norm, and the map to the layers' width."""
    inside = {id(module) for block in blocks for module in block.modules()}
    for name, module in model.base_model.named_modules():
        own = next(module.parameters(recurse=False), None) is not None
        early = isinstance(module, nn.Embedding) or "embedding" in name or name.endswith("project_in")
        if own and early and id(module) not in inside:
            yield name, module


def _plan(model: PreTrainedModel, parts: Parts, how: _How) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
    """The parameters to set and their new values, checked in full before the first one is handed out."""
    names = {id(p): name for name, p in model.named_parameters()}
    inside = {id(module) for *_, part in parts for module in part.modules()}
    elsewhere = {
        id(parameter)
        for module in model.base_model.modules()
        if id(module) not in inside
        for parameter in module.parameters(recurse=False)
    }
    fresh = dict(_new_body(model, how.seed).named_parameters()) if how.scheme == "family" else {}
    in_body = {id(p): name for name, p in model.base_model.named_parameters()}
    planned: list[tuple[str, nn.Parameter, Tensor]] = []
    for label, place, part in parts:
        for module_name, module in part.named_modules(prefix=place):
            for own_name, parameter in module.named_parameters(recurse=False):
                if id(parameter) in elsewhere:
                    raise ValueError(f"{names[id(parameter)]} is shared with a layer that is not to be redrawn.")
                draw = torch_stream(how.seed, "redraw", label, f"{module_name}.{own_name}")
                old, own = parameter.detach().float().cpu(), fresh.get(in_body[id(parameter)])
                new = _new_value(module, own_name, old, draw, how, own)
                if new is not None:
                    planned.append((names[id(parameter)], parameter, new.to(parameter.device)))
    yield from planned


def _new_body(model: PreTrainedModel, seed: int) -> nn.Module:
    """An untrained body of the model's family, drawn by transformers.

    Its layers' own initialisers would not do: some families draw when a module is made.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "redraw", "family"))
        return type(model.base_model)(copy.deepcopy(model.config))


def _new_value(
    module: nn.Module, name: str, old: Tensor, draw: torch.Generator, how: _How, own: Tensor | None
) -> Tensor | None:
    """What a parameter becomes; None: it stays."""
    if type(module).__name__.lower().endswith("norm"):
        if how.layer_norm == "keep":
            return None
        # Gemma's RMSNorm multiplies by (1 + weight), so its neutral weight is 0.
        return (
            torch.ones_like(old)
            if name == "weight" and "gemma" not in type(module).__name__.lower()
            else torch.zeros_like(old)
        )
    if old.ndim >= 2:
        return DRAWS[how.scheme](old, draw) if own is None else own
    if name.endswith("bias"):
        return torch.zeros_like(old) if how.bias == "zero" else None
    raise ValueError(
        f"{type(module).__name__}.{name} of shape {tuple(old.shape)} is neither a matrix, a bias nor part "
        "of a norm: how to redraw it is not known."
    )
