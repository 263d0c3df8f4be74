"""Names of several things: texts joined by `+`, data and what an analysis does with them behind an `@`."""

from __future__ import annotations

import os


def parted(data: str, mark: str) -> list[str]:
    """What stands before a mark, and between it and the next ones.

    A path that is there is not cut, whatever its name, nor are several such with a `+` between them.
    """
    first, *rest = data.split(mark)
    for end in range(len(rest), 0, -1):
        path = mark.join([first, *rest[:end]])
        if _is_there(path) or (mark != "+" and all(map(_is_there, parted(path, "+")))):
            return [path, *rest[end:]]
    return [first, *rest]


def _is_there(path: str) -> bool:
    return os.path.exists(os.path.expanduser(path))
