"""Models and tasks that are known by their numbers, to count what a plan costs where they have not been fetched.

A stand-in has the shape of a model, or the rows of a task, and none of its content: its identity is its name, so a run of
it is never the run that will be made, and nothing can be trained on it. It is made within `allowed()` only, and only where
the real thing is not on this machine. What is known stands in the files of the families (`HUB`) and of the tasks.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plm import registry
from plm.spec import External

if TYPE_CHECKING:
    from plm.models import Model
    from plm.tasks import Definition, Task

MARK = "unresolved"
_allowed: ContextVar[bool] = ContextVar("stand_ins", default=False)


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Within, what is known and not on this machine is not fetched: a stand-in is given."""
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)


def model(name: str) -> External | None:
    """The stand-in of a hub id; None: it is not known, it is on this machine, or none is wanted."""
    if not _allowed.get() or name not in _hub_ids() or _is_cached(name):
        return None
    return External(((MARK, name),), path="", name=name)


def task(name: str) -> Task | None:
    """The stand-in of a registered task; None: its rows are not known, or on this machine, or none is wanted."""
    if not _allowed.get():
        return None
    full, definition = _registered(name)
    if definition is None or definition.counts is None or _is_prepared(definition):
        return None
    from plm.tasks import Task

    return Task(
        rows=f"{MARK} {full}",
        num_labels=definition.num_labels or 0,
        metrics=definition.metrics,
        counts=definition.counts,
        name=full.partition("/")[2],
        path=full,
    )


def is_stand_in(value: Any) -> bool:
    """Whether a model or a task is known by its numbers alone."""
    if isinstance(value, External):
        return any(name == MARK for name, _ in value.files)
    return str(getattr(value, "rows", "")).startswith(f"{MARK} ")


@functools.cache
def architecture(stand_in: External) -> Model:
    """The architecture that a stand-in has."""
    from plm import models

    return models.architecture(_hub_ids()[stand_in.name])


def mean_tokens(stand_in: Task) -> float:
    """Tokens of a training example in BERT's word pieces, special ones included."""
    _, definition = _registered(stand_in.path)
    tokens = definition.tokens if definition else None
    assert tokens is not None, stand_in
    return tokens


@functools.cache
def _registered(name: str) -> tuple[str, Definition | None]:
    """A task's full name and its definition; None: there is none of that name."""
    from plm.tasks import definitions

    known = definitions()
    full = {registered.partition("/")[2]: registered for registered in known}.get(name, name)
    return full, known.get(full)


@functools.cache
def _hub_ids() -> dict[str, str]:
    """Hub id -> the name of its size."""
    families = (importlib.import_module(f"plm.models.{family}") for family in registry.names("models"))
    return {hub: size for family in families for hub, size in getattr(family, "HUB", {}).items()}


@functools.cache
def _is_cached(name: str) -> bool:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return bool(list(Path(snapshot_download(name, local_files_only=True)).glob("*.safetensors")))
    except LocalEntryNotFoundError:
        return False


@functools.cache
def _is_prepared(definition: Definition) -> bool:
    """Whether the datasets library has a task's tables in its cache."""
    if definition.hub is None:
        return True
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface"))
    cache = Path(os.environ.get("HF_DATASETS_CACHE", home / "datasets")).expanduser()
    return (cache / definition.hub[0].replace("/", "___") / definition.hub[1]).is_dir()
