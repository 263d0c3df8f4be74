"""What a layer is beside its shape: of which kind, in families that have several, and with which activation.

Neither is seen in the weights, so a layer that comes to another place, or to another model, may become what it was not
trained as. Both are read from the configuration as transformers derives it, for a config.json need not spell them out.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from plm.models import KINDS, PLAIN, Model, config_of, document
from plm.spec import External

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ALIKE = tuple(family for family in PLAIN if family != "gpt_neo")
"""Families whose layers are of one kind, known without asking transformers, which takes seconds to import."""
ACTIVATIONS = ("hidden_act", "activation", "activation_function", "hidden_activation", "afn", "ff_activation")
"""What the families call the function between the two maps of the feed-forward."""


def check_kinds(
    architecture: External | Model | PreTrainedConfig, came_from: Sequence[int], becomes: Model | None = None
) -> None:
    """Refuse to move a layer to the place of another kind, in families that alternate kinds of layers.

    Args:
        architecture: Whose layers are moved.
        came_from: The layer that comes to each place.
        becomes: Whose places they come to; None: its own.

    Raises:
        ValueError: a layer would become what it was not trained as.
    """
    own = kinds(architecture)
    places = kinds(becomes) if becomes else own
    for place, layer in enumerate(came_from if own else ()):
        if own[layer] != places[place]:
            raise ValueError(
                f"layer {layer} ({own[layer]}) would come to place {place} ({places[place]}): the model alternates kinds "
                "of layers, so only layers of one kind can change places."
            )


def kinds(architecture: External | Model | PreTrainedConfig) -> tuple[str, ...]:
    """What each layer is, in families that have several kinds (full and sliding attention, say); of others nothing."""
    if isinstance(architecture, External | Model):
        fields = document(architecture)
        return () if fields["model_type"] in ALIKE else _derived_kinds(json.dumps(fields))
    found = [getattr(architecture, name, None) for name in KINDS]
    lists = [each for each in found if isinstance(each, list | tuple) and len(each) == architecture.num_hidden_layers]
    return tuple(", ".join(map(str, each)) for each in zip(*lists, strict=True))


@functools.lru_cache(maxsize=256)
def _derived_kinds(config: str) -> tuple[str, ...]:
    """The kinds that a config.json stands for; a configuration's class derives what it does not spell out."""
    from transformers import AutoConfig

    fields = json.loads(config)
    return kinds(type(AutoConfig.for_model(fields["model_type"])).from_dict(fields))


def unlike(
    one: External | Model | PreTrainedConfig, other: External | Model | PreTrainedConfig, layers: Iterable[int]
) -> list[str]:
    """What layers of one model would not be in another of the same family and shape: activations and kinds, in words."""
    both = (one, other)
    fields = [document(each) for each in both if isinstance(each, External | Model)]
    if len(fields) == 2 and fields[0] == fields[1]:  # as of two steps of a training: nothing has to be asked
        return []
    configs = [config_of(each) if isinstance(each, External | Model) else each for each in both]
    found = [(name, *(getattr(config, name, None) for config in configs)) for name in ACTIVATIONS]
    own, others = map(kinds, configs)
    found += [(f"layer {layer}", own[layer], others[layer]) for layer in layers if own and others]
    return [f"{name} {mine} and {theirs}" for name, mine, theirs in found if mine != theirs]
