"""Names of several things: texts joined by `+`, data and what an analysis does with them behind an `@`."""

from __future__ import annotations

import os


def parted(data: str, mark: str) -> list[str]:
    """What stands before a mark, and between it and the next ones.

    A path that is there is not cut, whatever its name, nor are several such with a `+` between them.
    """
    parts = data.split(mark)
    for end in range(len(parts), 1, -1):
        path = mark.join(parts[:end])
        if _is_there(path) or (mark != "+" and all(map(_is_there, parted(path, "+")))):
            return [path, *(parted(mark.join(parts[end:]), mark) if parts[end:] else [])]
    return [parts[0], *(parted(mark.join(parts[1:]), mark) if parts[1:] else [])]


def _is_there(path: str) -> bool:
    return os.path.exists(os.path.expanduser(path))
