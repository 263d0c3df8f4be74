"""So many masks out of all, each as likely as any other: what a layer is worth can be averaged over them without bias."""

import random

from search_spaces.masks import bits
from search_spaces.seeds import MOST


def masks(num_layers: int, count: int, seed: int = 0) -> tuple[str, ...]:
    """Masks drawn without repetition, in random order; all of them where there are no more.

    Raises:
        ValueError: more than can be run.
    """
    if min(count, 2**num_layers) > MOST:
        raise ValueError(
            f"uniform:{count} of {2**num_layers:,} masks of {num_layers} layers: a sweep takes {MOST:,} at most."
        )
    if count >= 2**num_layers:
        return tuple(f"{number:0{num_layers}b}" for number in range(2**num_layers))
    dice = random.Random(seed)  # of its methods only random() is promised to stay the same
    found: dict[str, None] = {}
    while len(found) < count:
        found[bits(num_layers, tuple(layer for layer in range(num_layers) if dice.random() < 0.5))] = None
    return tuple(found)
