"""A model without memory for its weights: what a plan can know of a family that no list of `plm.models` describes."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@functools.lru_cache(maxsize=16)
def outline(config: str) -> PreTrainedModel:
    """The body that a config.json describes, on the device `meta`; to be looked at only."""
    import torch
    from transformers import AutoConfig, AutoModel

    document = json.loads(config)
    with torch.device("meta"):
        return AutoModel.from_config(type(AutoConfig.for_model(document["model_type"])).from_dict(document))


@functools.lru_cache(maxsize=256)
def check_one_list(config: str | None) -> None:
    """Refuse a family whose layers are not one list, as those of encoder-decoders: it has no "layer 3".

    Args:
        config: `Shape.unlisted`: config.json; None: of a family whose layers are known to be one list.

    Raises:
        ValueError: they are not, or transformers does not know the family.
    """
    from transformers import CONFIG_MAPPING

    from plm.models import layers

    if config is None:
        return
    family = json.loads(config)["model_type"]
    if family not in CONFIG_MAPPING:
        raise ValueError(
            f"transformers knows no family {family!r}, which config.json names. Choose a model that it can build."
        )
    try:
        model = outline(config)
    except Exception:  # a family may need real weights to be built: then a run says whether it can be
        return
    try:
        layers(model)
    except ValueError as error:
        raise ValueError(
            f"a model of the family {family} cannot be fine-tuned here: {error} Those that can are encoders and decoders with "
            "one list of layers, such as BERT, RoBERTa, ELECTRA, GPT-2 or Llama."
        ) from error
