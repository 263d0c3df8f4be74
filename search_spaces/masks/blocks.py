"""Some layers side by side, the block at each place where it fits (Tamkin et al. 2020: 3 of 12 layers)."""

from search_spaces.masks import bits, quarter


def masks(num_layers: int, size: int | None = None) -> tuple[str, ...]:
    """A mask for each place, from the input side; without a size, a quarter of the layers.

    Raises:
        ValueError: a block of no layer, or of more than there are.
    """
    length = quarter(num_layers) if size is None else size
    if not 1 <= length <= num_layers:
        raise ValueError(f"blocks of {length}: the model has {num_layers} layers; choose from 1 to {num_layers}.")
    return tuple(bits(num_layers, range(first, first + length)) for first in range(num_layers - length + 1))
