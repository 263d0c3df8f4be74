"""Everything but some layers side by side (Tamkin et al. 2020: the block that is preserved)."""

from search_spaces.masks import blocks, inverse


def masks(num_layers: int, size: int | None = None) -> tuple[str, ...]:
    """A mask for each place of the preserved block, from the input side; without a size, a quarter of the layers."""
    return tuple(inverse(mask) for mask in blocks.masks(num_layers, size))
