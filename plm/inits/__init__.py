"""Where a run's weights come from, as values: from nothing, from a checkpoint, or from a checkpoint with a change.

An `Init` may point at checkpoints of other runs, so lineage is part of the value and a parent is known before it
exists. The head that an objective adds is no init's matter: it is drawn from the run's own `seeds.fresh`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from plm.models import Model, Shape, shape, shared_layers_message
from plm.outline import check_one_list
from plm.spec import Checkpoint, External, Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Read: TypeAlias = Callable[[Source], PreTrainedModel]
    """The model of another source, with the run's objective; to be looked at only."""


class Init(ABC):
    """Starting weights. A file of this folder derives one frozen dataclass from it."""

    kind: ClassVar[str]
    version: ClassVar[int]
    redraws: ClassVar[bool] = False
    """Whether layers are drawn afresh, so that `AdamW.redrawn_lr` has something to act on."""
    origin: Source | Model
    """What the architecture (and the weights, if it has any) are read from."""

    def architecture(self) -> External | Model:
        """The model that is built, followed through the lineage to where it is spelt out."""
        return architecture(self.origin)

    @property
    def position(self) -> int:
        """Steps of the data and of the noise that were used up before."""
        return 0

    @abstractmethod
    def apply(self, model: PreTrainedModel, read: Read) -> list[str]:
        """Change the loaded weights in place; the names of the parameters changed."""

    def afresh(self, model: PreTrainedModel) -> list[str]:
        """The names of all parameters of what was drawn afresh, those that kept their values included."""
        return []


def architecture(source: Source | Model) -> External | Model:
    """The architecture of a source of weights."""
    return source.run.init.architecture() if isinstance(source, Checkpoint) else source


def treatable(source: Source) -> Shape:
    """The shape of a model whose layers can be treated one by one.

    Raises:
        ValueError: its layers share weights, or are not one list.
    """
    found = shape(source)
    check_one_list(found.unlisted)
    if found.shared:
        raise ValueError(shared_layers_message(found.model_type, found.num_hidden_layers, found.sharing))
    return found


def check_layers(layers: tuple[int, ...], count: int) -> None:
    """Refuse layers that are not there, or not spelt in the one way.

    Raises:
        ValueError: out of range, named twice, or out of order.
    """
    if list(layers) != sorted(set(layers)):
        raise ValueError(f"layers {layers}: name each once, in ascending order.")
    if layers and not (layers[0] >= 0 and layers[-1] < count):
        raise ValueError(f"layers {layers}: the model has {count} layers, 0 to {count - 1} from the input side.")
