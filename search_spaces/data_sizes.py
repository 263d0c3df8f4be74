"""How many labelled examples to fine-tune on."""

from __future__ import annotations

from typing import Any

from search_spaces.axis import Axis, Point, suited


def data_sizes(*values: Any) -> Axis:
    """An axis of sizes; `all` is the whole training split of the task."""
    return Axis(values, _parse, "whole numbers, or all", _expand)


def _expand(value: Any, point: Point) -> tuple[int, ...]:
    from plm.tasks import resolve

    return tuple(resolve(point["task"]).counts[0] if size == "all" else size for size in suited(value, point))


def _parse(text: str) -> tuple[int | str, ...]:
    if text == "all":
        return (text,)
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"{text!r} is not a data size: write a positive whole number, or all.")
    return (int(text),)
