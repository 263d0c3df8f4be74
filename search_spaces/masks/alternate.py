"""Every second layer."""

from search_spaces.masks import bits


def masks(num_layers: int) -> tuple[str, ...]:
    """Two masks: from the lowest layer on, and from the one above it."""
    return tuple(bits(num_layers, range(first, num_layers, 2)) for first in range(min(2, num_layers)))
