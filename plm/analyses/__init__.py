"""Analyses: pure functions from a model and gold data to rows of numbers, a file of this folder each.

A task is what a model is trained for and then scored on; an analysis trains no weight of the model. Its `rows` keep every
scored thing, so that its `summary`, and any other, can be computed anew without the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from plm.models import Shape
    from plm.word_statistics import Read

Row: TypeAlias = dict[str, str | int | float | bool | None]

FIRST = "first"
"""The `Analysis.floor` that is what was read at the first step."""
HEADS = ("tokens", "body")
"""What of a model an analysis looks at: the head that predicts tokens too, or the body alone."""


@dataclass(frozen=True)
class Subject:
    """What an analysis looks at; `plm.read` makes one of a checkpoint."""

    model: PreTrainedModel
    """In evaluation mode, its weights in float32, on `device`; with the head that predicts tokens if `Analysis.head` is
    `tokens`, else the bare body (as `AutoModel` gives it)."""
    tokenizer: PreTrainedTokenizerFast
    seq_len: int
    """The longest sequence the model reads, in tokens, special ones included."""
    causal: bool
    """Whether it reads from left to right only."""
    device: torch.device
    text: Read | None = None
    """What it was trained on, where that is known."""


class Unit(NamedTuple):
    """Where a number of the summary comes from, so that it can be computed anew from rows that are drawn anew."""

    value: str
    """The column whose mean over a group it is; rows where it is None do not count."""
    by: tuple[str, ...]
    """Columns whose values name groups: the number of a group is `<family>/<value>`. An empty value is no group."""
    cluster: str
    """The column of what is drawn together: words of a sentence, pairs of a paradigm."""


class Analysis(ABC):
    """What is asked of a model. A file of this folder derives one frozen dataclass from it, whose fields all bear on the rows.

    Gold data is a field, a value by content fingerprint. Where the data is large, `size` (None: all of it) and `seed` are
    fields that choose a nested subset.
    """

    kind: ClassVar[str]
    version: ClassVar[int]
    head: ClassVar[str]
    """One of `HEADS`."""
    usual: ClassVar[int] = 200
    """The `size` that is taken where nobody says one."""
    curves: ClassVar[tuple[str, ...]] = ("accuracy",)
    """Families of the summary (what stands before `/`) that are drawn over the steps of a training, the first in most
    detail."""
    baseline: ClassVar[str | None] = None
    """The family that is drawn beside the first of `curves`: what scores as much without the ability."""
    unit: ClassVar[Unit | None] = None
    """Of the first of `curves`; None: it is no mean over rows, and has no interval over them."""
    floor: ClassVar[str | None] = None
    """From what shares of a plateau are counted. None: zero; a family of the summary, such as `chance`; or `FIRST`, as of a
    probe, which tells much from random vectors too, or of a choice among a relation's objects."""
    anecdotal: ClassVar[bool] = False
    """Whether its things are few and chosen: they are shown for themselves, and are no ability beside others."""

    @classmethod
    @abstractmethod
    def of(cls, data: str, *, size: int | None = None, seed: int = 0) -> Analysis:
        """The analysis of gold data by name: `world` (the generated language), or a local file or folder.

        Raises:
            ValueError: there is no such data, or it lacks what the analysis needs.
        """

    def check(self, shape: Shape) -> None:  # noqa: B027  # most read any model
        """Refuse, before anything is spent, a model that cannot be looked at so.

        That a model lacks the head it needs is found out by whoever makes the subject.

        Raises:
            ValueError: with what is asked for, what the model is, and what to do.
        """

    @abstractmethod
    def flops(self, shape: Shape) -> float:
        """FLOPs of one reading, about: for a plan's cost, and to scale what a small reading takes to a large one."""

    def fewer(self, size: int) -> Analysis:
        """The same analysis of at most so many things: to try it, and to time it."""
        import dataclasses

        own: Any = self
        now = getattr(self, "size", None)
        return dataclasses.replace(own, size=size if now is None else min(now, size)) if hasattr(own, "size") else own

    @abstractmethod
    def rows(self, subject: Subject) -> list[Row]:
        """One flat record for each scored thing, in an order that is always the same, told apart by its column `id`."""

    @abstractmethod
    def summary(self, rows: list[Row]) -> dict[str, float]:
        """All that curves show, from the rows alone; finite numbers, named like `accuracy` or `accuracy/DET`."""

    @classmethod
    def told(cls, read: Mapping[int, Sequence[Row]]) -> str:
        """What the rows of each step say that no number does, as Markdown; nothing, for most."""
        return ""


def check_size(size: int | None, what: str) -> None:
    """Refuse a number of things that is none.

    Raises:
        ValueError: it is not positive.
    """
    if size is not None and size < 1:
        raise ValueError(f"{size} {what}: it must be at least 1, or None for all.")


def analysis(name: str, data: str, *, size: int | None = None, seed: int = 0) -> Analysis:
    """The analysis of that name, of gold data by name.

    Args:
        data: After it may stand fields of the analysis, each with its `@`: `world@layers=0:4:8@description_length`.
            (A path that is there is taken whole, an `@` in its name too.)

    Raises:
        ValueError: an unknown analysis; the message names the nearest. It has no such field, or it
            is given twice or no value. Or as `Analysis.of`.
    """
    import dataclasses

    from plm import registry
    from plm.names import parted

    found: type[Analysis] = registry.member("analyses", name)
    data, *given = parted(data, "@")
    fields: dict[str, Any] = {}
    for field, value in (_field(found, one) for one in given):
        if field in fields:
            raise ValueError(
                f"{field} of {found.kind} is given twice: say it once; several values are joined by a colon."
            )
        fields[field] = value
    own: Any = found.of(data, size=size, seed=seed)
    return dataclasses.replace(own, **fields) if fields else own


def _field(of: type[Analysis], said: str) -> tuple[str, Any]:
    """A field and its value, as written: `layers=0:4:8`; of what is true or false the name alone makes it true."""
    import dataclasses

    from plm.registry import unknown

    name, equals, text = said.partition("=")
    own: Any = of
    types = {f.name: str(f.type) for f in dataclasses.fields(own) if str(f.type).split(" |")[0] in _READ}
    types = {known: type for known, type in types.items() if known not in ("size", "seed")}
    if not types:
        raise ValueError(f"unknown field of {of.kind} {name!r}: it has none. Leave out what stands behind the @.")
    if name not in types:
        raise unknown(f"field of {of.kind}", name, types)
    kind = types[name].split(" |")[0]
    if not equals and kind != "bool":
        raise ValueError(f"{name} of {of.kind} has no value: it is {types[name]}. Write {name}=VALUE.")
    try:
        return name, _READ[kind](text if equals else "true")
    except (ValueError, KeyError):
        raise ValueError(f"{name}={text!r} of {of.kind}: it is {types[name]}; several are joined by a colon.") from None


_READ: dict[str, Callable[[str], Any]] = {
    "bool": {"true": True, "false": False}.__getitem__,
    "int": int,
    "tuple[int, ...]": lambda text: tuple(map(int, text.split(":"))),
    "tuple[str, ...]": lambda text: tuple(text.split(":")),
}
"""Type of a field -> how it is read."""
