"""From nothing redrawn to everything, one more layer at a time from the output side (Tamkin et al. 2020, section 3)."""

from search_spaces.masks import bits


def masks(num_layers: int) -> tuple[str, ...]:
    """One more mask than there are layers."""
    return tuple(bits(num_layers, range(kept, num_layers)) for kept in range(num_layers, -1, -1))
