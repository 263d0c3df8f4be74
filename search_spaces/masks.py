"""Masks of layers: bit strings, a character a layer from the input side, `1` = drawn afresh."""

from __future__ import annotations

from search_spaces.axis import Axis, Point

SYMBOLS = ("progressive", "none", "all")


def masks(*values: str) -> Axis:
    """An axis of masks; `progressive` stands for all that redraw from some layer upward, none and all included."""
    return Axis(values, _parse, "bit strings such as 000111 (1 = redrawn), or progressive, none, all", _expand)


def progressive(num_layers: int) -> tuple[str, ...]:
    """From nothing redrawn to everything, one more layer at a time from the output side (Tamkin et al. 2020, section 3)."""
    return tuple("0" * kept + "1" * (num_layers - kept) for kept in range(num_layers, -1, -1))


def preserved(mask: str) -> float:
    """Layers that keep their pretrained weights."""
    return float(mask.count("0"))


def unablated(mask: str) -> str:
    """The mask of the same model with nothing redrawn."""
    return "0" * len(mask)


def _parse(text: str) -> tuple[str, ...]:
    from plm.registry import unknown

    if text and not set(text) - {"0", "1"}:
        return (text,)
    if text not in SYMBOLS:
        raise unknown("mask", text, (*SYMBOLS, "a bit string such as 000111"))
    return (text,)


def _expand(value: str, point: Point) -> tuple[str, ...]:
    from plm.models import shape
    from plm.recipes import masked, model

    num_layers = shape(model(point["model"])).num_hidden_layers
    if value == "progressive":
        return progressive(num_layers)
    if value in ("none", "all"):
        return ("01"[value == "all"] * num_layers,)
    masked(value, num_layers)  # refuses a mask of another length
    return (value,)
