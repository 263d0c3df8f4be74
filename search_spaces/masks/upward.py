"""Everything from one layer upward."""

from search_spaces.masks import bits


def masks(num_layers: int, layer: int) -> tuple[str, ...]:
    """One mask; `layer` is the lowest that is redrawn, 0-based.

    Raises:
        ValueError: there is no such layer.
    """
    if layer >= num_layers:
        raise ValueError(f"upward:{layer}: the model has layers 0 to {num_layers - 1}.")
    return (bits(num_layers, range(layer, num_layers)),)
