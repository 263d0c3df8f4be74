"""Families of models: how one is built from transformers' classes, and which modules are its layers.

`Shape` is what a plan must know of a model before any weight is read. `layers` finds the modules themselves, on any
transformers encoder or decoder, so that every ablation means the same thing by "layer 3". `architecture` gives the named
sizes.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from plm import registry
from plm.spec import Checkpoint, External, Source
from plm.stand_ins import architecture as known_shape
from plm.stand_ins import is_stand_in

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel


class Model(ABC):
    """An architecture as a value: a file of this folder derives one frozen dataclass from it.

    A file with a dictionary `SIZES` adds those names to `architecture`.
    """

    kind: ClassVar[str]
    version: ClassVar[int]
    type_vocab_size: ClassVar[int] = 0
    """How many kinds of segments it reads; 0: none."""

    @property
    @abstractmethod
    def model_type(self) -> str:
        """transformers' name of the family."""

    @abstractmethod
    def config(self) -> PreTrainedConfig:
        """The transformers configuration to build from."""

    def sizes(self) -> dict[str, Any]:
        """The fields of config.json that its `Shape` is read from."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {"model_type": self.model_type, "type_vocab_size": self.type_vocab_size, **own}


SHARINGS = ("all", "attention", "feed_forward", "none")
"""What layers may share of their weights."""


@dataclass(frozen=True)
class Shape:
    """The numbers of an architecture that plans and cost estimates need."""

    model_type: str
    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    """Rows of the position table."""
    max_seq_len: int
    """The longest sequence that it reads, in tokens."""
    embedding_size: int
    """Width of the embeddings; narrower than the layers where they are factorised."""
    num_attention_heads: int
    attention_size: int
    """Width of all heads together."""
    key_value_size: int
    """Width of the heads' keys, smaller where heads share them."""
    gated: bool
    """Whether the feed-forward has a third matrix."""
    sharing: str
    """One of `SHARINGS`."""
    segments: bool
    """Whether the model reads segment ids."""
    generator: Shape | None = None
    """ELECTRA's generator, which runs beside it where the objective is replaced-token detection."""
    unlisted: str | None = dataclasses.field(default=None, compare=False, repr=False)
    """Its config.json, where it is of a family in neither `GATED` nor `PLAIN`: its layers are built to count FLOPs."""

    @property
    def shared(self) -> bool:
        """Whether layers share weights."""
        return self.sharing != "none"

    def flops_per_token(self, seq_len: float) -> float:
        """Forward FLOPs per token of the layers: 2 for each weight, and attention's two products with T keys."""
        mapped = self.hidden_size * self.embedding_size if self.embedding_size != self.hidden_size else 0
        attention = self.num_hidden_layers * 4 * seq_len * self.attention_size
        return 2 * self._layer_weights() + attention + 2 * mapped

    def _layer_weights(self) -> float:
        """Weights that a token meets in the layers."""
        from plm.flops import layer_weights

        counted = layer_weights(self.unlisted) if self.unlisted else None
        if counted is not None:
            return counted
        attention = 2 * self.hidden_size * (self.attention_size + self.key_value_size)
        feed_forward = (3 if self.gated else 2) * self.hidden_size * self.intermediate_size
        return self.num_hidden_layers * (attention + feed_forward)

    def flops_per_prediction(self) -> float:
        """Forward FLOPs of scoring the whole vocabulary at one position, the transform before it left out."""
        return 2 * self.embedding_size * self.vocab_size


def shape(source: Source | Model) -> Shape:
    """The shape of a model that exists (a checkpoint, an external model) or is to be built.

    Raises:
        ValueError: its config.json lacks a number that is needed.
    """
    if isinstance(source, Checkpoint):
        return shape(source.run.init.architecture())
    where = source.kind if isinstance(source, Model) else str(Path(source.path) / "config.json")
    return _shape(document(source), where)


def architecture(name: str, **fields: Any) -> Model:
    """An architecture by the name of a size (`bert-base`), or from the config.json of a local folder or hub id.

    Args:
        fields: Replace the size's own, such as `hidden_size=512, dropout=0.0`.

    Raises:
        ValueError: no such size, folder or hub id, no such field, or fields that do not fit together.
    """
    from plm.models.configured import configured

    known = {size: value for family in registry.names("models") for size, value in _sizes(family).items()}
    if name not in known:
        if "/" not in name and not Path(name).exists():  # every hub id has an owner; asking for it would take long
            raise ValueError(f"{registry.unknown('architecture', name, known)} A local folder or a hub id will do too.")
        return configured(name, **fields)
    own = [f.name for f in dataclasses.fields(known[name])]  # type: ignore[arg-type]
    for field in fields:
        if field not in own:
            raise registry.unknown(f"field of {name}", field, own)
    return dataclasses.replace(known[name], **fields)  # type: ignore[type-var]


def _sizes(family: str) -> dict[str, Model]:
    import importlib

    return getattr(importlib.import_module(f"plm.models.{family}"), "SIZES", {})


def check_heads(hidden_size: int, num_attention_heads: int, what: str = "hidden_size") -> None:
    """Refuse a width that the heads do not divide.

    Raises:
        ValueError: it does not divide.
    """
    if num_attention_heads < 1 or hidden_size % num_attention_heads:
        raise ValueError(
            f"{what} {hidden_size} does not divide into {num_attention_heads} "
            "attention heads: choose a number of heads that divides it."
        )


def config_of(architecture: External | Model) -> PreTrainedConfig:
    """The transformers configuration of an architecture."""
    from transformers import AutoConfig

    import plm.modeling  # noqa: F401  # makes AutoConfig know our own

    if isinstance(architecture, External) and is_stand_in(architecture):
        return known_shape(architecture).config()
    if isinstance(architecture, Model):
        return architecture.config()
    return AutoConfig.from_pretrained(architecture.path, local_files_only=True)


ALIASES = {
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "hidden_size": ("n_embd", "dim", "d_model"),
    "intermediate_size": ("n_inner", "hidden_dim", "d_ff", "d_inner", "ffn_dim"),
    "max_position_embeddings": ("n_positions", "n_ctx"),
    "num_attention_heads": ("n_head", "n_heads"),
    "embedding_size": ("word_embed_proj_dim",),
}
"""What older families call the fields."""
SEGMENTED = ("bert", "albert", "electra")
"""Families that read two segments where their configuration does not say."""
OFFSET = ("roberta", "xlm-roberta", "camembert", "roberta-prelayernorm")
"""Families that count positions from the padding token's id plus one."""
GATED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2", "modernbert")
"""Families whose feed-forward multiplies two maps of its input."""
PLAIN = (
    *("bert", "roberta", "xlm-roberta", "camembert", "albert", "albert-sharing", "electra", "distilbert", "mpnet"),
    *("deberta", "openai-gpt", "gpt2", "gpt_neo", "gpt_neox", "gptj", "opt"),
)
"""Families whose feed-forward is two matrices. The layers of all others are counted."""
KINDS = (
    *("layer_types", "attention_layers", "layers_block_type", "mlp_layer_types", "no_rope_layers", "attention_window"),
)
"""What the families call the list that says of each layer what it is."""


def _shape(config: dict[str, Any], where: str) -> Shape:
    def get(name: str, default: int | None = None) -> int:
        for key in (name, *ALIASES.get(name, ())):
            if config.get(key) is not None:
                return int(config[key])
        if default is None:
            raise ValueError(f"{where} does not say its {name}; it has {', '.join(sorted(config))}.")
        return default

    hidden, model_type = get("hidden_size"), str(config.get("model_type", where.partition("/")[2]))
    heads = get("num_attention_heads", 1)
    head_size = get("head_dim", hidden // heads)
    positions = get("max_position_embeddings", 1 << 20)
    return Shape(
        model_type=model_type,
        num_hidden_layers=get("num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=get("intermediate_size", 4 * hidden),
        vocab_size=get("vocab_size"),
        max_position_embeddings=positions,
        max_seq_len=positions - get("pad_token_id", 1) - 1 if model_type in OFFSET else positions,
        embedding_size=get("embedding_size", hidden),
        num_attention_heads=heads,
        attention_size=heads * head_size,
        key_value_size=get("num_key_value_heads", heads) * head_size,
        gated=model_type in GATED,
        sharing=_sharing(config),
        segments=get("type_vocab_size", 2 if model_type in SEGMENTED else 0) > 1,
        generator=_generator(config, where),
        unlisted=None if model_type in GATED + PLAIN else json.dumps({**config, "model_type": model_type}),
    )


def _sharing(config: dict[str, Any]) -> str:
    if "sharing" in config:
        return str(config["sharing"])
    groups = config.get("num_hidden_groups")
    return "all" if groups is not None and groups < config["num_hidden_layers"] else "none"


def _generator(config: dict[str, Any], where: str) -> Shape | None:
    if config.get("generator_fraction") is None:
        return None
    from plm.models.electra import generator_sizes

    names = ("hidden_size", "num_attention_heads", "intermediate_size", "generator_fraction")
    own = generator_sizes(*(config[name] for name in names))
    return _shape({**config, **own, "generator_fraction": None}, where)


def layers(model: PreTrainedModel) -> list[nn.Module]:
    """The model's layers, from the input side.

    Raises:
        ValueError: as `layer_list`.
    """
    return list(layer_list(model))


def layer_list(model: PreTrainedModel) -> nn.ModuleList:
    """Where the layers are kept: the one list of `num_hidden_layers` modules in the model's body.

    Of an ELECTRA with its generator they are the discriminator's.

    Raises:
        ValueError: the layers share weights (ALBERT), the model has several such lists (an encoder-decoder), or none.
    """
    from torch import nn

    count = model.config.num_hidden_layers
    lists = {
        name: m for name, m in model.base_model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count
    }
    outer = {name: m for name, m in lists.items() if not any(name.startswith(other + ".") for other in lists)}
    sharing = _sharing(vars(model.config))
    if sharing != "none":
        raise ValueError(shared_layers_message(type(model).__name__, count, sharing))
    if len(outer) != 1:
        raise ValueError(
            f"{type(model).__name__}: its {count} layers are not one list of modules "
            f"(found {sorted(outer) or 'none'}). Pass the encoder or the decoder alone."
        )
    return next(iter(outer.values()))


def with_layers(architecture: External | Model, count: int) -> Model:
    """An architecture with so many layers, else the same; of an external model, what its config.json says."""
    from plm.models.configured import Configured, canonical

    if isinstance(architecture, External) and is_stand_in(architecture):
        architecture = known_shape(architecture)
    if isinstance(architecture, Model) and not isinstance(architecture, Configured):
        return dataclasses.replace(architecture, num_hidden_layers=count)  # type: ignore[type-var]
    config = document(architecture)
    return Configured(canonical(config | shorter(config, count)))


def document(architecture: External | Model) -> dict[str, Any]:
    """The fields of a config.json."""
    if isinstance(architecture, External) and is_stand_in(architecture):
        return known_shape(architecture).sizes()
    if isinstance(architecture, Model):
        return architecture.sizes()
    return json.loads((Path(architecture.path) / "config.json").read_text())


def shorter(config: dict[str, Any], count: int) -> dict[str, Any]:
    """The fields of a config.json that differ when a model has its first `count` layers only."""
    names = [name for name in ("num_hidden_layers", *ALIASES["num_hidden_layers"]) if config.get(name) is not None]
    before = {config[name] for name in names}
    own_groups = ["num_hidden_groups"] if config.get("num_hidden_groups") in before else []
    spelled = {name: config[name][:count] for name in KINDS if isinstance(config.get(name), list | tuple)}
    if config.get("model_type") == "gpt_neo":  # which spells them as lists and how often each is repeated
        there = [kind for some, times in config.get("attention_types") or () for _ in range(times) for kind in some]
        spelled["attention_types"] = [[(there or ["global", "local"] * count)[:count], 1]]
    return dict.fromkeys([*names, *own_groups], count) | spelled


def shared_layers_message(name: str, count: int, sharing: str = "all") -> str:
    """Why a model whose layers share weights has none that could be treated alone, and what to do."""
    shared = {"all": "one group of weights", "attention": "one attention", "feed_forward": "one feed-forward"}[sharing]
    return (
        f"{name} shares {shared} among its {count} layers, so a single layer cannot be treated alone: "
        "redrawing one redraws that of all. Use a model whose layers have weights of their own (BERT, RoBERTa, ELECTRA, "
        f"GPT-2), or an ALBERT with num_hidden_groups={count} (sharing='none')."
    )
