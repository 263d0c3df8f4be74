"""A tiny model of every family: those of `plm/models`, the kinds of ALBERT, and decoders known by their configuration."""

from __future__ import annotations

from typing import Any

from tiny import SIZES

from plm.models import Model
from plm.models.albert import Albert
from plm.models.bert import Bert
from plm.models.configured import Configured, canonical
from plm.models.electra import Electra
from plm.models.gpt import GPT
from plm.models.gpt2 import GPT2
from plm.models.roberta import Roberta


def albert(sharing: str, embedding_size: int = 16) -> Albert:
    """An ALBERT of one kind."""
    return Albert(**SIZES, embedding_size=embedding_size, sharing=sharing, dropout=0.1)


def of_type(model_type: str, **fields: Any) -> Configured:
    """What `plm.architecture` makes of such a config.json."""
    return Configured(canonical({"model_type": model_type, **SIZES, **fields}))


SAMPLES: dict[str, Model] = {
    "albert": albert("all"),
    "bert": Bert(**SIZES, dropout=0.1),
    "configured": of_type("llama", num_key_value_heads=2),
    "electra": Electra(**SIZES, embedding_size=16, generator_fraction=0.5, dropout=0.1),
    "gpt": GPT(**{k: v for k, v in SIZES.items() if k != "intermediate_size"}, dropout=0.1),
    "gpt2": GPT2(**SIZES, dropout=0.1),
    "roberta": Roberta(**SIZES, dropout=0.1),
}
"""One of each member of the folder."""
FAMILIES: dict[str, Model] = SAMPLES | {
    "albert-attention": albert("attention"),
    "albert-feed-forward": albert("feed_forward"),
    "albert-none": albert("none"),
    "albert-all-wide": albert("all", 32),
    "albert-none-wide": albert("none", 32),
    "neox": of_type("gpt_neox"),
}
SHARED = ("albert", "albert-attention", "albert-feed-forward", "albert-all-wide")
CAUSAL = ("configured", "gpt", "gpt2", "neox")
