"""Partial re-initialisation: a checkpoint with some parts drawn afresh (Tamkin et al. 2020, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.inits import Init, check_layers, treatable
from plm.registry import unknown
from plm.spec import Source, neutral

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plm.inits import Read

SCHEMES = ("bert", "matched", "shuffle", "released", "family")
BIASES = ("keep", "zero")
LAYER_NORMS = ("reset", "keep")
PARTS = ("keep", "redraw")
POOLED = ("albert", "albert-sharing", "bert", "ernie", "megatron-bert", "rembert")
"""Families that classify from a pooler which belongs to the body."""


def check_options(scheme: str, bias: str, layer_norm: str, pooler: str, embeddings: str) -> None:
    """Refuse an option that is not known.

    Raises:
        ValueError: with the nearest one that is.
    """
    for what, given, allowed in (
        ("scheme", scheme, SCHEMES),
        ("bias", bias, BIASES),
        ("layer_norm", layer_norm, LAYER_NORMS),
        ("pooler", pooler, PARTS),
        ("embeddings", embeddings, PARTS),
    ):
        if given not in allowed:
            raise unknown(what, given, allowed)


@dataclass(frozen=True)
class Reinit(Init):
    """Pretrained weights with some layers redrawn. `plm.reinit` makes one from a mask."""

    kind: ClassVar[str] = "inits/reinit"
    version: ClassVar[int] = 1
    redraws: ClassVar[bool] = True
    origin: Source
    layers: tuple[int, ...]
    """0-based from the input side, ascending."""
    scheme: str
    """One of `SCHEMES`; `plm.reinitialize` says what each draws."""
    seed: int
    """Of the noise. One layer draws the same noise whichever other layers are redrawn."""
    bias: str = "keep"
    layer_norm: str = "reset"
    pooler: str = neutral("keep")
    embeddings: str = neutral("keep")

    def __post_init__(self) -> None:
        check_options(self.scheme, self.bias, self.layer_norm, self.pooler, self.embeddings)
        origin = treatable(self.origin)
        if not self.layers and self.pooler == self.embeddings == "keep":
            raise ValueError("no layer to redraw: that is Load(origin). plm.reinit chooses between the two.")
        check_layers(self.layers, origin.num_hidden_layers)
        if self.pooler == "redraw" and origin.model_type not in POOLED:
            raise ValueError(
                f"pooler='redraw': a classifier on {origin.model_type} reads no pooler of the pretrained body. Leave it "
                f"out; families that have one: {', '.join(POOLED)}."
            )

    def apply(self, model: PreTrainedModel, read: Read) -> list[str]:
        """Redraw in place; the names of the parameters touched."""
        from plm.redraw import reinitialize

        return reinitialize(
            model,
            self.layers,
            scheme=self.scheme,
            bias=self.bias,
            layer_norm=self.layer_norm,
            pooler=self.pooler,
            embeddings=self.embeddings,
            seed=self.seed,
        )

    def afresh(self, model: PreTrainedModel) -> list[str]:
        """All parameters of the redrawn layers, pooler and embeddings."""
        from plm.redraw import chosen, names_in

        return names_in(model, chosen(model, self.layers, self.pooler, self.embeddings))
