"""A small answered question, to be spoilt in many ways, and what a command says about it afterwards."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from sweeps.engine import launch
from sweeps.reinit_grid import sweep


class Answer(NamedTuple):
    """Of one call of the command line."""

    status: int
    said: str
    """On stderr."""


def ask(store: Path, *words: str) -> Answer:
    """`python -m sweeps.reinit_grid`, in this process."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = launch.main(sweep, ["--store", str(store), *words])
    return Answer(status, said.getvalue())


class Silent:
    """A pusher that shows nothing."""

    message = None

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture(autouse=True, scope="module")
def no_pictures() -> Iterator[None]:
    """Neither MLflow's view nor figures: both can be made again at any time, and take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.engine.figures.save", lambda *_: [])
        patch.setattr("sweeps.engine.tracking.Pusher", Silent)
        yield


@pytest.fixture(scope="session")
def question(tiny_bert: str, toy_task: str) -> tuple[str, ...]:
    """Two runs of two steps: no layer redrawn, and both."""
    return (f"model={tiny_bert}", f"task={toy_task}", "mask=00,11", "size=16", "seed=0", "duration=steps:2")


@pytest.fixture(scope="module")
def answered(no_pictures: None, question: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which it was answered; not to be changed."""
    store = tmp_path_factory.mktemp("answered") / "store"
    assert ask(store, *question, "--local").status == 0
    for file in store.glob("runs/*/attempts/*.json"):  # as if by another process, which has ended since
        record = json.loads(file.read_text())
        record["holder"]["ticks"] = "0"
        file.write_text(json.dumps(record))
    return store


@pytest.fixture
def copied(answered: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes copies of that store."""
    made = iter(range(10**6))

    def copy() -> Path:
        return Path(shutil.copytree(answered, tmp_path / f"copy{next(made)}"))

    return copy
