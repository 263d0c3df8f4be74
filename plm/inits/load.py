"""A checkpoint's weights as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.inits import Init
from plm.spec import Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plm.inits import Read


@dataclass(frozen=True)
class Load(Init):
    """Pretrained weights, unchanged."""

    kind: ClassVar[str] = "inits/load"
    version: ClassVar[int] = 1
    origin: Source

    def apply(self, model: PreTrainedModel, read: Read) -> list[str]:
        """Nothing to change."""
        return []
