"""So many layers, drawn at random by a seed."""

import random

from search_spaces.masks import bits


def masks(num_layers: int, size: int, seed: int) -> tuple[str, ...]:
    """One mask; all of that size are equally likely.

    Raises:
        ValueError: more layers than there are.
    """
    if size > num_layers:
        raise ValueError(f"subset:{size}:{seed}: the model has {num_layers} layers.")
    dice = random.Random(seed)  # of its methods only random() is promised to stay the same
    order = sorted(range(num_layers), key=lambda _: dice.random())
    return (bits(num_layers, tuple(order[:size])),)
