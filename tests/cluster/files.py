"""The two cluster files that the project ships, as values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILES = ("cluster.yaml", "cluster-local.yaml")


def load(name: str) -> dict[str, Any]:
    """A shipped file."""
    return yaml.safe_load((ROOT / name).read_text())


def commands(config: dict[str, Any], word: str) -> str:
    """All commands of a file that hold a word, a line each."""
    lines = [c for name, value in config.items() if name.endswith("_commands") for c in value]
    return "\n".join(c for c in lines if word in c)
