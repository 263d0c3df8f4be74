"""The seven figures of Tamkin et al. 2020, from the cells of `sweeps.transferability`: which cell stands where in which.

A cell may stand in several: the model as it is, is the end of one curve and a level in other figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from plm.recipes import NAMED
from search_spaces.masks import preserved
from search_spaces.transferability import FEW, MANY
from sweeps.engine.drawing import Mark, Panels
from sweeps.reinit_blocks import place as place_block

Cell = dict[str, Any]
KEPT = "preserved layers, from the input side"


def progressive(cell: Cell) -> Iterator[Mark]:
    """Layers redrawn from above, and probes of those below."""
    if cell["experiment"] == "progressive":
        yield Mark("fine-tuned", preserved(cell["change"]))
    elif cell["experiment"] == "probing":
        fresh = cell["model"] in NAMED  # masked language models of ours, which have no pooler
        yield Mark("probe, not linear (pooler trained too)" if fresh else "probe", _number(cell["change"]))


def seeds(cell: Cell) -> Iterator[Mark]:
    """The same at the fewest examples, for each seed."""
    if cell["experiment"] == "progressive" and cell["size"] <= FEW[cell["scale"]]:
        yield Mark("fine-tuned", preserved(cell["change"]))


def blocks(*experiments: str) -> Callable[[Cell], Iterator[Mark]]:
    """Blocks of layers, redrawn or preserved."""

    def place(cell: Cell) -> Iterator[Mark]:
        if cell["experiment"] in experiments:
            yield from place_block({"mask": cell["change"]})

    return place


def permutations(cell: Cell) -> Iterator[Mark]:
    """Permutations between all redrawn and none."""
    if cell["experiment"] == "permutation":
        levels = {"0": "layers in order", "1": "all layers redrawn"}
        yield Mark("permuted layers", 0) if ":" in cell["change"] else Mark(levels[cell["change"][0]])


def beside(experiment: str, name: str, otherwise: str) -> Callable[[Cell], Iterator[Mark]]:
    """A variant of the progressive curve, and that curve at as many examples."""

    def place(cell: Cell) -> Iterator[Mark]:
        if cell["experiment"] == experiment:
            yield Mark(name, preserved(cell["change"]))
        elif cell["experiment"] == "progressive" and _compared(cell):
            yield Mark(otherwise, preserved(cell["change"]))

    return place


def _compared(cell: Cell) -> bool:
    """Whether the progressive curve is there at as many examples as the variants are, or as the command line says."""
    size, few, many = cell["size"], FEW[cell["scale"]], MANY[cell["scale"]]
    return bool(size == many or (size < many and size != few))


def _number(change: str) -> float:
    """How many layers a probe has."""
    return float(change.rpartition(":")[2].partition("/")[0])


def _figure(
    name: str, place: Callable[[Cell], Iterator[Mark]], label: str, kind: str = "lines", **options: Any
) -> Panels:
    return Panels(name, place, reads=("experiment", "change"), label=label, control="scheme", kind=kind, **options)


FIGURES = (
    _figure("progressive", progressive, KEPT),
    _figure("blocks", blocks("blocks"), "first layer of the block (0: input side)"),
    _figure("permutations", permutations, "", kind="violins", named=lambda _: "permutations"),
    _figure("seeds", seeds, KEPT, kind="seeds"),
    _figure("singles", blocks("singles"), "layer (0: input side)"),
    _figure("faster", beside("faster", "redrawn layers five times as fast", "all at one rate"), KEPT),
    _figure("keep_layer_norm", beside("keep_layer_norm", "norms kept", "norms reset"), KEPT),
)
