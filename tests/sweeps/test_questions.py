"""Every question is built and smoke-run, and says in its docstring what it asks and where that comes from."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest

import sweeps
from sweeps.engine import launch

QUESTIONS = sorted(m.name for m in pkgutil.iter_modules(sweeps.__path__) if not m.ispkg)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all questions, as a user has: texts and parents that they share are made once."""
    return tmp_path_factory.mktemp("store")


@pytest.mark.parametrize(
    "name", [name if name == "reinit_grid" else pytest.param(name, marks=pytest.mark.slow) for name in QUESTIONS]
)
def test_a_question_smoke_runs(name: str, store: Path) -> None:
    module = importlib.import_module(f"sweeps.{name}")
    assert launch.main(module.sweep, ["--smoke", "--local", "--store", str(store)]) == 0
    assert list(store.glob(f"sweeps/{name}-smoke/figures/*/*.png"))
    assert (store / f"sweeps/{name}-smoke/table.md").read_text()


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_a_lab_note(name: str) -> None:
    module = importlib.import_module(f"sweeps.{name}")
    assert module.__doc__ is not None
    assert module.__doc__.splitlines()[0].endswith("?")
    assert "Source:" in module.__doc__
    assert "Hypothesis:" in module.__doc__
    assert Path(str(module.__file__)).read_text().count("\n") <= 80
