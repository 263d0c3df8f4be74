"""What is done to pretrained layers before fine-tuning: functions from a model and a choice of layers to an `Init`.

Each gives the plain model where it would do nothing, so that all of them share their baselines. In a choice of layers, a
bit string has a character a layer from the input side, `1` for those that are treated (`000111`); numbers are 0-based.
A model whose layers share weights is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from plm.inits import Init
from plm.inits.drop import Drop
from plm.inits.graft import Graft
from plm.inits.load import Load
from plm.inits.permute import Permute
from plm.inits.reinit import Reinit
from plm.models import shape
from plm.recipes import masked, model
from plm.spec import Source, digest

Layers = str | Iterable[int]
"""A bit string, or numbers."""


def reinit(
    source: Source | str,
    layers: Layers,
    *,
    scheme: str = "bert",
    bias: str = "keep",
    layer_norm: str = "reset",
    pooler: str = "keep",
    embeddings: str = "keep",
    seed: int = 0,
) -> Init:
    """A model with some layers drawn afresh; with nothing redrawn, simply the model.

    The defaults are what Tamkin et al. 2020 say; their released code differs in `scheme="released"` alone.
    `plm.reinitialize` says what each option does.

    Raises:
        ValueError: a mask of another length, a layer out of range, an unknown option, a model that shares its layers.
    """
    source = model(source)
    chosen = _layers(source, layers)
    if not chosen and pooler == embeddings == "keep":
        return Load(source)
    if not chosen and embeddings == "keep":  # a pooler has no norm
        layer_norm = "reset"
    return Reinit(
        source,
        chosen,
        scheme=scheme,
        seed=seed,
        bias=bias,
        layer_norm=layer_norm,
        pooler=pooler,
        embeddings=embeddings,
    )


def permute(source: Source | str, order: Iterable[int]) -> Init:
    """A model with its layers in another order; in their own, simply the model.

    Args:
        order: From the input side, which layer of the model comes there; `plm.permutation(seed, n)` draws one.

    Raises:
        ValueError: not every layer once, a model that shares its layers.
    """
    source, order = model(source), tuple(order)
    count = shape(source).num_hidden_layers
    return Load(source) if order == tuple(range(count)) else Permute(source, order)


def graft(source: Source | str, layers: Layers, donor: Source | str) -> Init:
    """A model with some layers of another, place by place; with none, or from itself, simply the model.

    Args:
        donor: Another step of the same run, a run with another seed, another model of the same shape.

    Raises:
        ValueError: as `reinit`, or the donor's layers have another shape.
    """
    source, donor = model(source), model(donor)
    chosen = _layers(source, layers)
    return Graft(source, chosen, donor) if chosen and digest(donor) != digest(source) else Load(source)


def drop(source: Source | str, layers: Layers) -> Init:
    """A model with some layers taken out; with none, simply the model.

    Raises:
        ValueError: as `reinit`, or no layer would be left.
    """
    source = model(source)
    chosen = _layers(source, layers)
    return Drop(source, chosen) if chosen else Load(source)


def _layers(source: Source, layers: Layers) -> tuple[int, ...]:
    """The chosen layers, in order."""
    count = shape(source).num_hidden_layers
    return masked(layers, count) if isinstance(layers, str) else tuple(sorted(set(layers)))
