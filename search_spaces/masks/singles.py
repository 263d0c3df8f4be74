"""One layer alone."""

from search_spaces.masks import blocks


def masks(num_layers: int) -> tuple[str, ...]:
    """A mask for each layer, from the input side."""
    return blocks.masks(num_layers, 1)
