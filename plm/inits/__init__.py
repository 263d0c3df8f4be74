"""Where a run's weights come from, as values: from nothing, from a checkpoint, or from a checkpoint with a change.

An `Init` may point at a checkpoint of another run, so lineage is part of the value and a parent is known before it
exists. The head that an objective adds is no init's matter: it is drawn from the run's own `seeds.fresh`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from plm.models import Model
from plm.spec import Checkpoint, External, Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Init(ABC):
    """Starting weights. A file of this folder derives one frozen dataclass from it."""

    kind: ClassVar[str]
    version: ClassVar[int]
    origin: Source | Model
    """What the architecture (and the weights, if it has any) are read from."""

    def architecture(self) -> External | Model:
        """The model that is built, followed through the lineage to where it is spelt out."""
        return self.origin.run.init.architecture() if isinstance(self.origin, Checkpoint) else self.origin

    @abstractmethod
    def apply(self, model: PreTrainedModel) -> list[str]:
        """Change the loaded weights in place; the names of the parameters changed."""
