"""ELECTRA's two halves in one module, so that they are trained, saved and resumed together.

The discriminator lies where transformers looks for it: `AutoModel` and `AutoModelForPreTraining` read it out of the same
folder and leave the generator. The generator alone:
`ElectraForJointPreTraining.from_pretrained(folder).generator`, an ordinary `ElectraForMaskedLM`.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

from jaxtyping import Int
from torch import Tensor
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraModel
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.models.electra.modeling_electra import ElectraDiscriminatorPredictions, ElectraPreTrainedModel

from plm.models.electra import generator_sizes


class ElectraForJointPreTraining(ElectraPreTrainedModel):
    """A discriminator and a generator that share their token embeddings and nothing else.

    Source: Clark et al. 2020, section 3.2 (there the positions are shared too).
    """

    saved_as: ClassVar[str] = "ElectraForPreTraining"
    """What config.json calls the model: transformers' class that reads the discriminator."""
    _tied_weights_keys = {  # noqa: RUF012  # as transformers says it
        "generator.electra.embeddings.word_embeddings.weight": "electra.embeddings.word_embeddings.weight"
    }

    def __init__(self, config: ElectraConfig) -> None:
        super().__init__(config)
        self.electra = ElectraModel(config)
        self.discriminator_predictions = ElectraDiscriminatorPredictions(config)
        self.generator = ElectraForMaskedLM(generator_config(config))
        self.post_init()

    @classmethod
    def from_config(cls, config: ElectraConfig) -> ElectraForJointPreTraining:
        """A model with fresh weights, as transformers' automatic classes make one."""
        return cls._from_config(config)

    def forward(self, input_ids: Int[Tensor, "B T"], **inputs: Any) -> TokenClassifierOutput:
        """The discriminator's logits (B, T) that a token was replaced."""
        return TokenClassifierOutput(logits=self.discriminator_predictions(self.electra(input_ids, **inputs)[0]))


def generator_config(config: ElectraConfig) -> ElectraConfig:
    """The generator's configuration.

    Raises:
        ValueError: the configuration does not say how wide the generator is.
    """
    fraction = getattr(config, "generator_fraction", None)
    if fraction is None:
        raise ValueError(
            "the configuration has no generator_fraction: it is of a discriminator alone. "
            "Start from plm.architecture('electra-small') or set generator_fraction (the release: 1/4, base 1/3)."
        )
    own = copy.deepcopy(config)
    for name, value in generator_sizes(
        config.hidden_size, config.num_attention_heads, config.intermediate_size, fraction
    ).items():
        setattr(own, name, value)
    return own
