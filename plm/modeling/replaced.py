"""ELECTRA's encoder as a masked language model that reads a generator's text instead of masks.

Unlike `ElectraForJointPreTraining` it has a vocabulary head where that one has a binary head; both hold the generator the
same way, and share its token embeddings.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Int
from torch import Tensor, nn
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraModel
from transformers.modeling_outputs import MaskedLMOutput
from transformers.models.electra.modeling_electra import (
    ElectraDiscriminatorPredictions,
    ElectraGeneratorPredictions,
    ElectraPreTrainedModel,
)

from plm.modeling.electra import generator_config


class ElectraForReplacedLM(ElectraPreTrainedModel):
    """An encoder with a vocabulary head, and a generator that writes the tokens it is asked about.

    Where the configuration says `copies`, a binary head (named as ELECTRA's) judges for each token whether it is the
    original, so that what was not replaced need not be predicted from the vocabulary.

    Source: Clark et al. 2020, section 3.4 (Replace MLM and All-Tokens MLM).
    """

    saved_as: ClassVar[str] = "ElectraForMaskedLM"
    """What config.json calls the model: transformers' class that reads the encoder and its vocabulary head."""
    _tied_weights_keys = {  # noqa: RUF012  # as transformers says it
        "generator_lm_head.weight": "electra.embeddings.word_embeddings.weight",
        "generator.electra.embeddings.word_embeddings.weight": "electra.embeddings.word_embeddings.weight",
    }

    def __init__(self, config: ElectraConfig) -> None:
        super().__init__(config)
        self.electra = ElectraModel(config)
        self.generator_predictions = ElectraGeneratorPredictions(config)
        self.generator_lm_head = nn.Linear(config.embedding_size, config.vocab_size)
        if getattr(config, "copies", False):
            self.discriminator_predictions = ElectraDiscriminatorPredictions(config)
        self.generator = ElectraForMaskedLM(generator_config(config))
        self.post_init()

    @classmethod
    def from_config(cls, config: ElectraConfig) -> ElectraForReplacedLM:
        """A model with fresh weights, as transformers' automatic classes make one."""
        return cls._from_config(config)

    def get_output_embeddings(self) -> nn.Linear:
        return self.generator_lm_head

    def forward(self, input_ids: Int[Tensor, "B T"], **inputs: Any) -> MaskedLMOutput:
        """The logits (B, T, V) of the original tokens, copying aside."""
        hidden = self.generator_predictions(self.electra(input_ids, **inputs)[0])
        return MaskedLMOutput(logits=self.generator_lm_head(hidden))
