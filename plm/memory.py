"""Memory: the most that a process ever used, and what its allocator keeps for nothing.

Steps differ in the number of tokens that are scored, so blocks of a few megabytes are asked for in ever other sizes. On a
CPU glibc keeps them all: a process that needs one gigabyte grew past five in a thousand steps.
"""

from __future__ import annotations

import ctypes
import functools
import resource
import sys
import time
from collections.abc import Callable

import torch

EVERY_SECONDS = 10.0
"""Giving back takes some tens of milliseconds."""


def peak_memory(device: torch.device) -> int:
    """Most bytes ever in use: of the device, or of this process where there is none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Keeper:
    """Gives free memory back to the system now and then, where the C library can (glibc)."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def give_back(self) -> None:
        """Give back if it was not done lately."""
        now = time.monotonic()
        if now - self._last >= EVERY_SECONDS:
            self._last = now
            _trim()(0)


@functools.cache
def _trim() -> Callable[[int], int]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return lambda _: 0
