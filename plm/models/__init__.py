"""Families of models: how one is built from transformers' classes, and which modules are its layers.

`Shape` is what a plan must know of a model before any weight is read. `layers` finds the modules themselves, on any
transformers encoder or decoder, so that every ablation means the same thing by "layer 3".
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from plm.spec import Checkpoint, External, Source

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel


class Model(ABC):
    """An architecture as a value: a file of this folder derives one frozen dataclass from it."""

    kind: ClassVar[str]
    version: ClassVar[int]

    @abstractmethod
    def config(self) -> PreTrainedConfig:
        """The transformers configuration to build from."""


@dataclass(frozen=True)
class Shape:
    """The numbers of an architecture that plans and cost estimates need."""

    model_type: str
    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    shared: bool
    """Whether layers share their weights."""
    segments: bool
    """Whether the model reads segment ids."""

    def flops_per_token(self, seq_len: float) -> float:
        """Forward FLOPs per token of the layers: 2 for each weight, and attention's two products with T keys."""
        weights = 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size
        return self.num_hidden_layers * (2 * weights + 4 * seq_len * self.hidden_size)


def shape(source: Source | Model) -> Shape:
    """The shape of a model that exists (a checkpoint, an external model) or is to be built.

    Raises:
        ValueError: its config.json lacks a number that is needed.
    """
    if isinstance(source, Checkpoint):
        return shape(source.run.init.architecture())
    if isinstance(source, Model):
        return _shape(vars(source), source.kind)
    path = Path(source.path) / "config.json"
    return _shape(json.loads(path.read_text()), str(path))


def config_of(architecture: External | Model) -> PreTrainedConfig:
    """The transformers configuration of an architecture."""
    from transformers import AutoConfig

    if isinstance(architecture, Model):
        return architecture.config()
    return AutoConfig.from_pretrained(architecture.path, local_files_only=True)


ALIASES = {
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "hidden_size": ("n_embd", "dim", "d_model"),
    "intermediate_size": ("n_inner", "hidden_dim", "d_ff", "d_inner", "ffn_dim"),
    "max_position_embeddings": ("n_positions", "n_ctx"),
}
"""What older families call the fields."""


def _shape(config: dict[str, Any], where: str) -> Shape:
    def get(name: str, default: int | None = None) -> int:
        for key in (name, *ALIASES.get(name, ())):
            if config.get(key) is not None:
                return int(config[key])
        if default is None:
            raise ValueError(f"{where} does not say its {name}; it has {', '.join(sorted(config))}.")
        return default

    hidden, model_type = get("hidden_size"), str(config.get("model_type", where.partition("/")[2]))
    groups = config.get("num_hidden_groups")
    return Shape(
        model_type=model_type,
        num_hidden_layers=get("num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=get("intermediate_size", 4 * hidden),
        vocab_size=get("vocab_size"),
        max_position_embeddings=get("max_position_embeddings", 1 << 20),
        shared=groups is not None and groups < get("num_hidden_layers"),
        segments=int(config.get("type_vocab_size", 2 if model_type == "bert" else 0)) > 1,
    )


def layers(model: PreTrainedModel) -> list[nn.Module]:
    """The model's layers, from the input side: the one list of `num_hidden_layers` modules in its body.

    Raises:
        ValueError: the model shares its layers (ALBERT), has several such lists (an encoder-decoder), or none.
    """
    from torch import nn

    count = model.config.num_hidden_layers
    lists = {
        name: m for name, m in model.base_model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count
    }
    outer = {name: m for name, m in lists.items() if not any(name.startswith(other + ".") for other in lists)}
    groups = getattr(model.config, "num_hidden_groups", None)
    if groups is not None and groups < count:
        raise ValueError(shared_layers_message(type(model).__name__, count))
    if len(outer) != 1:
        raise ValueError(
            f"{type(model).__name__}: its {count} layers are not one list of modules "
            f"(found {sorted(outer) or 'none'}). Pass the encoder or the decoder alone."
        )
    return list(next(iter(outer.values())))


def shared_layers_message(name: str, count: int) -> str:
    """Why a model that shares its layers has none that could be treated alone, and what to do."""
    return (
        f"{name} shares one group of weights among its {count} layers, so a single layer cannot be drawn afresh: "
        "redrawing one redraws all. Use a model whose layers have weights of their own (BERT, RoBERTa, ELECTRA, "
        f"GPT-2), or an ALBERT with num_hidden_groups={count}."
    )
