"""What is minimised: from a batch and a model to a loss.

An `Objective` says which head the model carries, what a batch holds, and the loss *summed* over what is predicted with
the count of it, so that the loop can normalise once however the batch was cut into micro-batches. What is measured
downstream is a `Task`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    Batch = dict[str, torch.Tensor]


class Objective(ABC):
    """A training objective. A file of this folder derives one frozen dataclass from it."""

    kind: ClassVar[str]
    version: ClassVar[int]

    @abstractmethod
    def auto(self) -> Any:
        """transformers' automatic class for models with this objective's head."""

    def configure(self, config: PreTrainedConfig) -> None:  # noqa: B027  # most heads need nothing
        """Set what the head needs in the configuration."""

    @abstractmethod
    def count(self, batch: Batch) -> int:
        """Predictions that are scored in a batch: tokens or examples."""

    @abstractmethod
    def loss(self, model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss summed over the scored predictions (a scalar), and the outputs that predictions are read from."""

    @abstractmethod
    def predictions(self, batch: Batch, outputs: torch.Tensor) -> list[dict[str, Any]]:
        """A record for each sequence of an evaluated batch."""
