"""What runs below a process: who it is, how much memory it holds, and whether it is still there."""

from __future__ import annotations

import os
from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """Of all processes below one the command lines."""
    found: dict[int, str] = {}
    for entry in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in map(int, entry.read_text().split()):
                found[child] = Path(f"/proc/{child}/cmdline").read_text(errors="replace").strip("\0")
                found |= descendants(child)
        except OSError:
            continue
    return found


def is_actor(name: str) -> bool:
    """Whether a process is one of Ray's that trains."""
    return name.startswith("ray::") and not name.startswith(("ray::IDLE", "ray::Dashboard", "ray::RuntimeEnv"))


def started(pid: int) -> str | None:
    """When a process started, in ticks; None if it is gone."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else fields[18]


def resident(pid: int) -> float:
    """Resident memory of a process in bytes; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0.0
