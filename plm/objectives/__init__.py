"""What is minimised: from a batch and a model to a loss.

An `Objective` says which head the model carries, what is hidden of clean text, and the loss of every prediction that is
scored. It may have several components (masked tokens, sentence order): each is normalised by its own count, so that the
loop can do it once however the batch was cut into micro-batches. What is measured downstream is a `Task`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from plm.data.corpus import Corpus
    from plm.data.tokenizer import Symbols
    from plm.models import Shape

    Batch = dict[str, torch.Tensor]

Arrays = dict[str, NDArray[Any]]
Sentences = list[NDArray[np.int64]]
"""Token ids of consecutive sentences."""

IGNORED = -100
"""The label of a position that is not scored."""


class Scored(NamedTuple):
    """What one component says of some sequences: K predictions, in order of sequence and position."""

    loss: torch.Tensor
    """(K,) of each prediction: nats, or squared error."""
    right: torch.Tensor | None = None
    """(K,) whether the largest output was the label; None where that makes no sense."""
    outputs: torch.Tensor | None = None
    """(K, C) what a task's predictions are read from."""
    positive: torch.Tensor | None = None
    """(K,) which labels are positive, where positives are so rare that accuracy alone says little; their scores are then
    `outputs` (K, 1)."""

    def cpu(self) -> Scored:
        """The same on the CPU."""
        return self._replace(**{name: tensor.cpu() for name, tensor in self._asdict().items() if tensor is not None})

    def shares(self, name: str) -> dict[str, tuple[int, int]]:
        """How many predictions are right, of how many, by the metric's name: of all, of the positive, of the others."""
        if self.right is None:
            return {}
        found = {f"{name}_accuracy": self.right}
        if self.positive is not None:
            found |= {f"{name}_recall": self.right[self.positive], f"{name}_specificity": self.right[~self.positive]}
        return {key: (int(right.sum()), len(right)) for key, right in found.items()}


class Objective(ABC):
    """A training objective. A file of this folder derives one frozen dataclass from it."""

    kind: ClassVar[str]
    version: ClassVar[int]
    taught: ClassVar[bool] = False
    """Whether its losses read what a teacher says of the batch."""

    @property
    @abstractmethod
    def components(self) -> tuple[str, ...]:
        """Names of the losses that are added up."""

    @property
    def pairs(self) -> bool:
        """Whether it reads two segments of sentences instead of packed text."""
        return False

    @property
    def static(self) -> bool:
        """Whether a sequence is corrupted the same way each time it is seen."""
        return False

    @property
    def language(self) -> str | None:
        """The component whose mean is a language model's nats per token, so that its exponential is a perplexity."""
        return None

    def check(self, model_type: str) -> None:  # noqa: B027  # most objectives take any family
        """Refuse, before anything is built, a family of models that cannot be trained so.

        Raises:
            ValueError: the family has no such head, or would see what it is to predict.
        """

    def check_text(self, model: Shape, data: Corpus, seq_len: int) -> None:  # noqa: B027  # most read any text
        """Refuse, before anything is built, text that a model cannot be trained on so.

        Raises:
            ValueError: what the objective reads beside the model does not agree with it.
        """

    def for_family(self, model_type: str) -> Objective:
        """The objective as a family needs it; for most it is the same."""
        return self

    def at(self, step: int, *, batch_size: int, seq_len: int) -> Objective:
        """What the update after `step` others minimises, where a schedule changes it; what is evaluated is always `self`."""
        return self

    def check_built(self, model: PreTrainedModel, seq_len: int) -> None:  # noqa: B027  # most objectives take any
        """Refuse, before it is trained, a model that does not read text as the objective needs; tried on a few tokens.

        Raises:
            ValueError: it sees what it is to predict, or cannot see what it is to predict from.
        """

    @abstractmethod
    def auto(self) -> Any:
        """transformers' automatic class for models with this objective's head, or a class of ours with its interface."""

    def configure(self, config: PreTrainedConfig) -> None:  # noqa: B027  # most heads need nothing
        """Set what the head needs in the configuration."""

    @property
    def weights(self) -> dict[str, float]:
        """The factor of each component in the loss."""
        return dict.fromkeys(self.components, 1.0)

    def pair(
        self, sentences: Sentences, elsewhere: Sentences, draw: np.random.Generator
    ) -> tuple[Sentences, Sentences, int]:
        """Two segments and their label, from consecutive sentences (two at least) and some of another document."""
        raise NotImplementedError(f"{self.kind} reads packed text")

    def corrupt(self, batch: Arrays, symbols: Symbols, draw: np.random.Generator) -> Arrays:
        """Hide of clean text what is to be predicted: adds labels, may change `input_ids` (B, T)."""
        raise NotImplementedError(f"{self.kind} reads a task's examples")

    def flops_per_token(self, model: Shape, seq_len: float) -> float:
        """Forward FLOPs per token that is read, of bodies and heads.

        Left out, in all objectives alike, is what is no product with a weight (norms, softmax, sampling), and a head
        that predicts once a sequence.
        """
        return model.flops_per_token(seq_len)

    def teaching_flops_per_token(self, data: Corpus, seq_len: float) -> float:
        """Forward FLOPs of teachers per token of a text; they have no backward pass."""
        return 0.0

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, int]:
        """Predictions that are scored in a batch, by component."""

    def losses(self, model: PreTrainedModel, batch: Batch) -> dict[str, Scored]:
        """The loss of every prediction, by component."""
        from plm.heads import encode

        return self.read(model, encode(model, batch), batch)

    def read(self, model: PreTrainedModel, encoded: Any, batch: Batch) -> dict[str, Scored]:
        """`losses`, from what the body already said of the batch: what parts of a `Sum` share."""
        raise NotImplementedError(f"{self.kind} computes its losses itself")

    def scores(self, model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits over the vocabulary (K, V) at the positions that are scored, and their labels (K,): what can be taught."""
        raise NotImplementedError(f"{self.kind} does not predict tokens alone")

    def predictions(self, batch: Batch, scored: dict[str, Scored]) -> list[dict[str, Any]]:
        """A record for each sequence of an evaluated batch: nats and number of predictions of the first component."""
        first = self.components[0]
        each = [
            self.counts({name: tensor[i : i + 1] for name, tensor in batch.items()})[first]
            for i in range(len(batch["ids"]))
        ]
        return [
            {"id": int(i), "label": float(n), "logits": [float(part.sum())]}
            for i, n, part in zip(batch["ids"], each, scored[first].loss.split(each), strict=True)
        ]


def predicting(model: Shape) -> float:
    """FLOPs of scoring the vocabulary at a position, after a map from the layers' width to the embeddings'."""
    return 2 * model.hidden_size * model.embedding_size + model.flops_per_prediction()


def judging(model: Shape) -> float:
    """FLOPs of saying yes or no at a position, after a map of the layers' width to itself."""
    return 2 * model.hidden_size * (model.hidden_size + 1)


def total(objective: Objective, scored: dict[str, Scored], counts: dict[str, int]) -> torch.Tensor:
    """The loss (a scalar): each component's sum by the count of the whole batch, times its weight."""
    weights = objective.weights
    return sum(scored[name].loss.sum() * (weights[name] / max(1, counts[name])) for name in objective.components)  # type: ignore[return-value]
