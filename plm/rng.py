"""Random streams: every random choice has its own, named by what it decides, so that none depends on another.

A stream is a pure function of (seed, purpose ...). Nothing is drawn from global state, which is why a process that has
run other trials before gives the same numbers as a fresh one, and why a resumed run needs no saved generator.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, such as `seed_of(0, "order", epoch)`."""
    text = "\x1f".join([str(int(seed)), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator for one purpose."""
    return np.random.Generator(np.random.PCG64(seed_of(seed, *purpose)))


def torch_stream(seed: int, *purpose: str | int) -> torch.Generator:
    """A torch generator on the CPU for one purpose."""
    import torch

    return torch.Generator().manual_seed(seed_of(seed, *purpose))
