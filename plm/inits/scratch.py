"""Fresh weights: the model as its family draws it, from the run's `seeds.fresh`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.inits import Init
from plm.models import Model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plm.inits import Read


@dataclass(frozen=True)
class Scratch(Init):
    """An untrained model."""

    kind: ClassVar[str] = "inits/scratch"
    version: ClassVar[int] = 1
    origin: Model

    def apply(self, model: PreTrainedModel, read: Read) -> list[str]:
        """Nothing to change: the builder draws every weight that no checkpoint gives."""
        return []
