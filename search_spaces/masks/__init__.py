"""Masks of layers: bit strings, a character a layer from the input side, `1` = drawn afresh.

A mask has one spelling, its bit string. A family is a word that stands for the masks of one kind at whatever depth a
model has: each file of this folder is a family of the file's name, a function `masks` from the number of layers, and
from whole numbers that follow the word after colons (`blocks:3`), to bit strings.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable

from search_spaces.axis import Axis, Point

WORDS = ("none", "all")
"""Nothing redrawn, everything redrawn."""
Family = Callable[..., tuple[str, ...]]


def masks(*values: str) -> Axis:
    """An axis of masks, by bit string or by family."""
    form = f"bit strings such as 000111 (1 = redrawn), {', '.join(WORDS)}, or a family: {', '.join(families())}"
    return Axis(values, _parse, form, _expand)


def families() -> list[str]:
    """The families there are, by file name."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def spelled(word: str, num_layers: int) -> tuple[str, ...]:
    """The masks that a word means for a model of so many layers.

    Raises:
        ValueError: an unknown word, numbers that the family does not take, or a mask of another length.
    """
    from plm.recipes import masked

    if word in WORDS:
        return ("01"[word == "all"] * num_layers,)
    if _is_bits(word):
        masked(word, num_layers)  # refuses a mask of another length
        return (word,)
    family, numbers = _read(word)
    found = tuple(dict.fromkeys(family(num_layers, *numbers)))
    for mask in found:
        masked(mask, num_layers)
    return found


def bits(num_layers: int, redrawn: range | tuple[int, ...]) -> str:
    """The bit string that redraws some layers."""
    return "".join("01"[layer in redrawn] for layer in range(num_layers))


def inverse(mask: str) -> str:
    """The mask that redraws what this one preserves."""
    return mask.translate({ord("0"): "1", ord("1"): "0"})


def preserved(mask: str) -> float:
    """Layers that keep their pretrained weights."""
    return float(mask.count("0"))


def unablated(mask: str) -> str:
    """The mask of the same model with nothing redrawn."""
    return "0" * len(mask)


def is_uniform(word: str) -> bool:
    """Whether a word's masks are drawn uniformly, or are the two that stand beside such a draw: none and all."""
    return word in WORDS or len(set(word)) == 1 or word.partition(":")[0] == "uniform"


def run_of(mask: str, bit: str) -> range | None:
    """The layers that bear a bit, if they lie side by side; None: there are none, or gaps between them."""
    there = [layer for layer, own in enumerate(mask) if own == bit]
    adjacent = bool(there) and there[-1] - there[0] + 1 == len(there)
    return range(there[0], there[-1] + 1) if adjacent else None


def quarter(num_layers: int) -> int:
    """How long a block is where nobody says: a quarter of the layers, as 3 of 12; two at least, and never all."""
    return max(1, min(max(2, round(num_layers / 4)), num_layers - 1))


def _is_bits(text: str) -> bool:
    return bool(text) and not set(text) - {"0", "1"}


def _read(word: str) -> tuple[Family, tuple[int, ...]]:
    """A family and the numbers that were given to it."""
    from plm.registry import unknown

    name, *numbers = word.split(":")
    if name not in families():
        raise unknown("mask", name, (*WORDS, *families(), "a bit string such as 000111"))
    family: Family = importlib.import_module(f"{__name__}.{name}").masks
    takes = list(inspect.signature(family).parameters.values())[1:]
    needed = sum(parameter.default is parameter.empty for parameter in takes)
    if not all(number.isdecimal() for number in numbers) or not needed <= len(numbers) <= len(takes):
        form = "".join(f":{p.name}" if p.default is p.empty else f"[:{p.name}]" for p in takes)
        raise ValueError(f"mask {word!r}: write {name}{form.upper()}, in whole numbers.")
    return family, tuple(map(int, numbers))


def _parse(text: str) -> tuple[str, ...]:
    if text not in WORDS and not _is_bits(text):
        _read(text)
    return (text,)


def _expand(value: str, point: Point) -> tuple[str, ...]:
    from plm.models import shape
    from plm.recipes import model

    return spelled(value, shape(model(point["model"])).num_hidden_layers)
