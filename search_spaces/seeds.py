"""Seeds: the axis that tables average over."""

from __future__ import annotations

from search_spaces.axis import Axis

MOST = 100_000
"""Values of one axis that a sweep takes."""


def seeds(count: int) -> Axis:
    """The seeds 0 to `count - 1`."""
    return Axis(tuple(range(count)), _parse, "whole numbers, or a half-open range such as 0:5")


def _parse(text: str) -> tuple[int, ...]:
    start, colon, end = text.partition(":")
    if not start.isdecimal() or (colon and not end.isdecimal()) or (colon and int(end) <= int(start)):
        raise ValueError(f"{text!r} is not a seed: write a whole number, or a half-open range such as 0:5.")
    if colon and int(end) - int(start) > MOST:
        raise ValueError(f"{text!r} are {int(end) - int(start):,} seeds: a sweep takes {MOST:,} at most.")
    return tuple(range(int(start), int(end))) if colon else (int(start),)
