"""Partial re-initialisation: a checkpoint with some layers drawn afresh (Tamkin et al. 2020, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.inits import Init
from plm.models import shape, shared_layers_message
from plm.registry import unknown
from plm.spec import Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCHEMES = ("bert", "matched", "shuffle")
BIASES = ("keep", "zero")
LAYER_NORMS = ("reset", "keep")


@dataclass(frozen=True)
class Reinit(Init):
    """Pretrained weights with some layers redrawn. `plm.reinit` makes one from a mask."""

    kind: ClassVar[str] = "inits/reinit"
    version: ClassVar[int] = 1
    origin: Source
    layers: tuple[int, ...]
    """0-based from the input side, ascending."""
    scheme: str
    """One of `SCHEMES`; `plm.reinitialize` says what each draws."""
    seed: int
    """Of the noise. One layer draws the same noise whichever other layers are redrawn."""
    bias: str = "keep"
    layer_norm: str = "reset"

    def __post_init__(self) -> None:
        origin = shape(self.origin)
        if origin.shared:
            raise ValueError(shared_layers_message(origin.model_type, origin.num_hidden_layers, origin.sharing))
        if not self.layers:
            raise ValueError("no layer to redraw: that is Load(origin). plm.reinit chooses between the two.")
        if list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"layers {self.layers}: name each once, in ascending order.")
        if not (self.layers[0] >= 0 and self.layers[-1] < origin.num_hidden_layers):
            raise ValueError(
                f"layers {self.layers}: the model has {origin.num_hidden_layers} layers, "
                f"0 to {origin.num_hidden_layers - 1} from the input side."
            )
        for what, given, allowed in (
            ("scheme", self.scheme, SCHEMES),
            ("bias", self.bias, BIASES),
            ("layer_norm", self.layer_norm, LAYER_NORMS),
        ):
            if given not in allowed:
                raise unknown(what, given, allowed)

    def apply(self, model: PreTrainedModel) -> list[str]:
        """Redraw the layers in place; the names of the parameters touched."""
        from plm.redraw import reinitialize

        return reinitialize(
            model, self.layers, scheme=self.scheme, bias=self.bias, layer_norm=self.layer_norm, seed=self.seed
        )
