"""Models trained elsewhere: a local folder or a hub id, pinned by the SHA-256 of its files."""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path

from plm import stand_ins
from plm.spec import External

PATTERNS = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*.json",
    "tokenizer.model",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
)
"""The files that bear on numbers. Pickled weights are not among them, and are never read."""


def external(name: str, *, revision: str | None = None) -> External:
    """A model by local folder or hub id; a hub id is downloaded.

    Args:
        revision: A branch, tag or commit of the hub id; None: its main branch as it is now.

    Raises:
        ValueError: no such folder, id or revision, or it lacks a configuration or safetensors weights.
    """
    path = Path(name).expanduser()
    if not path.exists() and revision is None and (known := stand_ins.model(name)):
        return known
    if revision is not None and path.exists():
        raise ValueError(f"{name} at revision {revision}: it is a local folder, which has no revisions.")
    local = path.resolve() if path.exists() else download(name, revision)
    files = sorted({f for pattern in PATTERNS for f in local.glob(pattern)}) if local.is_dir() else []
    names = [f.name for f in files]
    if "config.json" not in names or not any(n.endswith(".safetensors") for n in names):
        raise ValueError(
            f"{local} is not a model's folder: it needs config.json and model.safetensors, and holds "
            f"{', '.join(sorted(p.name for p in local.iterdir())[:8]) if local.is_dir() else 'nothing'}."
        )
    return External(
        tuple((f.name, _sha256(*_version(f))) for f in files),
        path=str(local),
        name=_called(local) if path.exists() else _at(name, revision),
    )


def _called(folder: Path) -> str:
    """What a local folder is called: a step of a run of ours by the run too."""
    if folder.parent.name == "checkpoints" and re.fullmatch(r"step_\d{8}", folder.name):
        return f"{folder.parents[1].name}@{int(folder.name[5:])}"
    return folder.name


def verify(model: External) -> Path:
    """The model's folder, once its files are found to be those that the identity names.

    Raises:
        ValueError: a file is missing or has changed.
    """
    if stand_ins.is_stand_in(model):
        raise ValueError(f"model {model.name} has not been fetched: only its shape is known here.")
    folder = Path(model.path)
    for name, expected in model.files:
        file = folder / name
        if not file.is_file():
            raise ValueError(f"model {model.name}: {file} is missing.")
        if _sha256(*_version(file)) != expected:
            raise ValueError(
                f"model {model.name}: {file} has changed since the plan was made. Restore it, or plan anew."
            )
    return folder


def _version(file: Path) -> tuple[str, int, int]:
    stat = file.stat()
    return str(file), stat.st_size, stat.st_mtime_ns


@functools.lru_cache(maxsize=256)
def _sha256(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(name: str, revision: str | None = None) -> Path:
    """The local folder of a hub id at a revision, fetched unless the cache has it.

    Raises:
        ValueError: it could not be had.
    """
    if name.startswith((".", "/", "~")):
        raise ValueError(f"there is no folder {name!r}. A model is the name of a recipe, a hub id, or a local folder.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(PATTERNS)))
    except Exception as error:  # the hub's client raises a different type for each way of not being there
        raise ValueError(
            f"the model {_at(name, revision)} could not be had from the hub ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}). Without a network, give a local folder: "
            "model=path/to/folder."
        ) from error


def _at(name: str, revision: str | None) -> str:
    return name if revision is None else f"{name}@{revision}"
