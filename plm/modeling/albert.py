"""ALBERT whose layers share all their weights, their attention, their feed-forward, or nothing.

A shared part exists once, in the encoder; what a layer has of its own lies in the layer. Unlike in transformers' ALBERT
no map follows embeddings that are as wide as the layers.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    AlbertForMultipleChoice,
    AlbertForPreTraining,
    AlbertForQuestionAnswering,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
    AlbertModel,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.albert.modeling_albert import AlbertAttention, AlbertPreTrainedModel


class AlbertSharingConfig(AlbertConfig):
    """An ALBERT's configuration that says what the layers share."""

    model_type = "albert-sharing"

    def __init__(self, *, sharing: str = "all", **fields: Any) -> None:
        super().__init__(**fields)
        self.sharing = sharing


class FeedForward(nn.Module):
    """The second half of a layer: two maps with an activation between, then the residual and its norm."""

    def __init__(self, config: AlbertSharingConfig) -> None:
        super().__init__()
        self.ffn = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.ffn_output = nn.Linear(config.intermediate_size, config.hidden_size)
        self.full_layer_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return self.full_layer_layer_norm(self.ffn_output(self.activation(self.ffn(hidden))) + hidden)


HALVES = {"attention": AlbertAttention, "feed_forward": FeedForward}
"""What a layer consists of, in order."""
SHARED = {
    "all": ("attention", "feed_forward"),
    "attention": ("attention",),
    "feed_forward": ("feed_forward",),
    "none": (),
}
"""The halves that all layers share, by the kind of sharing."""


class Layer(nn.Module):
    """One layer: the halves that are its own; the others are handed to it."""

    def __init__(self, config: AlbertSharingConfig) -> None:
        super().__init__()
        shared = SHARED[config.sharing]
        self.own = nn.ModuleDict({name: half(config) for name, half in HALVES.items() if name not in shared})

    def forward(
        self, hidden: Float[Tensor, "B T D"], mask: Tensor | None, shared: nn.ModuleDict, **kwargs: Any
    ) -> Float[Tensor, "B T D"]:
        attention, feed_forward = ((self.own if name in self.own else shared)[name] for name in HALVES)
        return feed_forward(attention(hidden, mask, **kwargs)[0])


class Encoder(nn.Module):
    """All layers, and the halves that they share."""

    def __init__(self, config: AlbertSharingConfig) -> None:
        super().__init__()
        narrow = config.embedding_size != config.hidden_size
        self.embedding_hidden_mapping_in = (
            nn.Linear(config.embedding_size, config.hidden_size) if narrow else nn.Identity()
        )
        self.shared = nn.ModuleDict({name: HALVES[name](config) for name in SHARED[config.sharing]})
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(
        self, hidden: Float[Tensor, "B T E"], attention_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutput:
        hidden = self.embedding_hidden_mapping_in(hidden)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask, self.shared, **kwargs)
        return BaseModelOutput(last_hidden_state=hidden)


class AlbertSharingModel(AlbertModel):
    """The body."""

    config_class = AlbertSharingConfig
    _can_record_outputs = {"hidden_states": Layer, "attentions": AlbertAttention}  # noqa: RUF012  # as transformers says it

    def __init__(self, config: AlbertSharingConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config, add_pooling_layer)
        self.encoder = Encoder(config)  # type: ignore[assignment]
        self.post_init()


class _WithHead(AlbertPreTrainedModel):
    """Puts this file's body under the head of one of transformers' ALBERT classes."""

    config_class = AlbertSharingConfig

    def __init__(self, config: AlbertSharingConfig) -> None:
        super().__init__(config)
        pooled = getattr(self.base_model, "pooler", None) is not None
        setattr(self, self.base_model_prefix, AlbertSharingModel(config, add_pooling_layer=pooled))
        self.post_init()


class AlbertSharingForPreTraining(_WithHead, AlbertForPreTraining):
    """With the heads of masked language modelling and of sentence order."""


class AlbertSharingForMaskedLM(_WithHead, AlbertForMaskedLM):
    """With the head of masked language modelling."""


class AlbertSharingForSequenceClassification(_WithHead, AlbertForSequenceClassification):
    """With a head for whole texts."""


class AlbertSharingForTokenClassification(_WithHead, AlbertForTokenClassification):
    """With a head for each token."""


class AlbertSharingForQuestionAnswering(_WithHead, AlbertForQuestionAnswering):
    """With a head for spans."""


class AlbertSharingForMultipleChoice(_WithHead, AlbertForMultipleChoice):
    """With a head for choices."""


AutoConfig.register(AlbertSharingConfig.model_type, AlbertSharingConfig)
for _auto, _class in (
    (AutoModel, AlbertSharingModel),
    (AutoModelForPreTraining, AlbertSharingForPreTraining),
    (AutoModelForMaskedLM, AlbertSharingForMaskedLM),
    (AutoModelForSequenceClassification, AlbertSharingForSequenceClassification),
    (AutoModelForTokenClassification, AlbertSharingForTokenClassification),
    (AutoModelForQuestionAnswering, AlbertSharingForQuestionAnswering),
    (AutoModelForMultipleChoice, AlbertSharingForMultipleChoice),
):
    _auto.register(AlbertSharingConfig, _class)
