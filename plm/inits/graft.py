"""A checkpoint with some layers of another: of another step, another seed, another model of the same shape.

Re-initialisation is the graft whose donor is noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.inits import Init, architecture, check_layers, treatable
from plm.kinds import unlike
from plm.spec import Source, digest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plm.inits import Read

FITTING = (
    "model_type",
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "attention_size",
    "key_value_size",
    "intermediate_size",
    "gated",
)
"""What two models must agree on for a layer to mean the same in both, besides `plm.kinds.unlike`; vocabularies may differ."""


@dataclass(frozen=True)
class Graft(Init):
    """Pretrained weights with some layers of a donor. `plm.graft` makes one from a mask."""

    kind: ClassVar[str] = "inits/graft"
    version: ClassVar[int] = 1
    origin: Source
    layers: tuple[int, ...]
    """0-based from the input side, ascending; each is taken from the same place of the donor."""
    donor: Source

    def __post_init__(self) -> None:
        origin, donor = treatable(self.origin), treatable(self.donor)
        both = [(name, getattr(donor, name), getattr(origin, name)) for name in FITTING]
        self._refuse([f"{name} {theirs} and {own}" for name, theirs, own in both if theirs != own])
        check_layers(self.layers, origin.num_hidden_layers)
        self._refuse(unlike(architecture(self.donor), architecture(self.origin), self.layers))
        if not self.layers or digest(self.donor) == digest(self.origin):
            raise ValueError("nothing comes from elsewhere: that is Load(origin). plm.graft chooses between the two.")

    def _refuse(self, differing: list[str]) -> None:
        if differing:
            raise ValueError(
                f"the donor's layers do not fit the model: {', '.join(differing)}. Choose a donor of the same shape, whose "
                "layers do the same."
            )

    def apply(self, model: PreTrainedModel, read: Read) -> list[str]:
        """Copy the donor's layers; the names of the parameters that changed."""
        from plm.rearrange import graft_layers

        return graft_layers(model, self.layers, read(self.donor))
