"""Memory: the most that a process ever used, and what its allocator (glibc's, on a CPU) keeps and gives back too often.

A block of many megabytes is given back whenever it is freed, and each of its pages is cleared when it is next asked for: a
tenth of a small model's step, and with a teacher of all logits a quarter. Smaller blocks are kept, and as steps differ in
the number of tokens that are scored, they are asked for in ever other sizes: a process that needs one gigabyte grew past
five in a thousand steps. So all are kept, and given back now and then.
"""

from __future__ import annotations

import ctypes
import functools
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import torch

EVERY_SECONDS = 10.0
"""Giving back takes some tens of milliseconds."""
MMAP_MAX, TRIM_THRESHOLD = -4, -1
"""Parameters of `mallopt`."""


def peak_memory(device: torch.device) -> int:
    """Most bytes ever in use: of the device, or of this process where there is none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def hold() -> None:
    """Have freed blocks kept, whatever their size, until they are given back; of this process, once for all.

    Of threads only where all share one heap (`MALLOC_ARENA_MAX=1`): in one of its own a block is 64 MB at most.
    """
    _library()("mallopt", MMAP_MAX, 0)
    _library()("mallopt", TRIM_THRESHOLD, 2**31 - 1)


def give_back() -> None:
    """Give free memory back to the system."""
    _library()("malloc_trim", 0)


class Keeper:
    """Gives free memory back now and then."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def give_back(self) -> None:
        """Give back if it was not done lately."""
        now = time.monotonic()
        if now - self._last >= EVERY_SECONDS:
            self._last = now
            give_back()


@functools.cache
def _library() -> Callable[..., None]:
    """Calls a function of the C library by its name, where it has it."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # another system
        return lambda *_: None

    def call(name: str, *arguments: int) -> None:
        with suppress(AttributeError):  # another C library
            getattr(library, name)(*arguments)

    return call
