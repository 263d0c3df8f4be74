"""Open folders: a file in `analyses/`, `inits/`, `models/`, `objectives/` or `tasks/` is a member, named like the file.

A member's module defines one public dataclass derived from the folder's base; nothing is registered by hand.
Looking a name up imports that one file, never the whole folder.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable

FOLDERS = ("analyses", "inits", "models", "objectives", "tasks")


def unknown(what: str, given: str, known: Iterable[str]) -> ValueError:
    """The error for a name that does not exist: the nearest match and the list."""
    known = sorted(known)
    near = difflib.get_close_matches(given, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {what} {given!r}.{hint} There are: {', '.join(known)}.")


def names(folder: str) -> list[str]:
    """The members of an open folder, by file name."""
    package = importlib.import_module(f"plm.{folder}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def member(folder: str, name: str) -> type:
    """The class that `plm/<folder>/<name>.py` defines.

    Raises:
        ValueError: no such file; the message names the nearest one and all that exist.
    """
    if folder not in FOLDERS:
        raise unknown("open folder", folder, FOLDERS)
    if name not in names(folder):
        raise unknown(f"member of plm/{folder}", name, names(folder))
    module = importlib.import_module(f"plm.{folder}.{name}")
    found = [
        c for _, c in inspect.getmembers(module, inspect.isclass) if getattr(c, "kind", None) == f"{folder}/{name}"
    ]
    if len(found) != 1:
        raise AssertionError(f"plm/{folder}/{name}.py must define exactly one class of kind {folder}/{name}")
    return found[0]
