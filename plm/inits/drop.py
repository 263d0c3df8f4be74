"""A checkpoint with layers taken out: a shorter model, whereas a redrawn layer is still there to be learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.inits import Init, check_layers, treatable
from plm.kinds import check_kinds
from plm.models import Model, with_layers
from plm.spec import Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plm.inits import Read


@dataclass(frozen=True)
class Drop(Init):
    """Pretrained weights of fewer layers. `plm.drop` makes one from a mask."""

    kind: ClassVar[str] = "inits/drop"
    version: ClassVar[int] = 1
    origin: Source
    layers: tuple[int, ...]
    """Those taken out: 0-based from the input side, ascending."""

    def __post_init__(self) -> None:
        count = treatable(self.origin).num_hidden_layers
        check_layers(self.layers, count)
        if not self.layers:
            raise ValueError("no layer to drop: that is Load(origin). plm.drop chooses between the two.")
        if len(self.layers) == count:
            raise ValueError(f"all {count} layers would be dropped: keep one at least.")
        check_kinds(super().architecture(), self.kept, self.architecture())

    @property
    def kept(self) -> tuple[int, ...]:
        """The layers that stay."""
        return tuple(i for i in range(treatable(self.origin).num_hidden_layers) if i not in self.layers)

    def architecture(self) -> Model:
        """The shorter model."""
        return with_layers(super().architecture(), len(self.kept))

    def apply(self, model: PreTrainedModel, read: Read) -> list[str]:
        """Move the kept layers together and take the rest away; the names of the parameters that changed."""
        from plm.rearrange import keep_layers

        return keep_layers(model, self.kept)
