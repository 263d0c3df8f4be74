"""A checkpoint with its layers in another order (Tamkin et al. 2020): every weight is there, none where it was learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.inits import Init, treatable
from plm.kinds import check_kinds
from plm.spec import Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plm.inits import Read


@dataclass(frozen=True)
class Permute(Init):
    """Pretrained weights whose layers were re-ordered. `plm.permute` makes one."""

    kind: ClassVar[str] = "inits/permute"
    version: ClassVar[int] = 1
    origin: Source
    order: tuple[int, ...]
    """From the input side: layer i of the model is layer `order[i]` of the origin."""

    def __post_init__(self) -> None:
        count = treatable(self.origin).num_hidden_layers
        if sorted(self.order) != list(range(count)):
            raise ValueError(f"order {self.order}: name each of the layers 0 to {count - 1} once.")
        if self.order == tuple(range(count)):
            raise ValueError(
                "the layers in their own order: that is Load(origin). plm.permute chooses between the two."
            )
        check_kinds(self.architecture(), self.order)

    def apply(self, model: PreTrainedModel, read: Read) -> list[str]:
        """Move the layers' weights; the names of the parameters that changed."""
        from plm.rearrange import permute_layers

        return permute_layers(model, self.order)


LARGEST = 2**32 - 1
"""The largest seed of a permutation, which is NumPy's."""


def permutation(seed: int, num_layers: int) -> tuple[int, ...]:
    """A random order of the layers, the one that Tamkin et al. 2020 drew with this seed (1 to 10 in the paper).

    Raises:
        ValueError: a seed that NumPy does not take.
    """
    import numpy as np

    if not 0 <= seed <= LARGEST:
        raise ValueError(f"a permutation of seed {seed}: its seeds are 0 to {LARGEST}.")
    return tuple(int(layer) for layer in np.random.RandomState(seed).permutation(num_layers))
