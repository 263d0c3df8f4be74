"""Go on from a checkpoint as if never stopped: its weights, its optimizer state, its place in the data.

`Load` takes the weights alone and begins a new training. This begins where the other run stood, usually to lower the
learning rate from there: a checkpoint in the middle of a schedule is handicapped by its rate, one that was cooled down
is not (Hägele et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.inits import Init
from plm.spec import Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plm.inits import Read


@dataclass(frozen=True)
class Resume(Init):
    """The state of training at a checkpoint of a run of ours."""

    kind: ClassVar[str] = "inits/resume"
    version: ClassVar[int] = 1
    origin: Checkpoint

    @property
    def position(self) -> int:
        return self.origin.step + self.origin.run.init.position

    def apply(self, model: PreTrainedModel, read: Read) -> list[str]:
        """Nothing to change."""
        return []
