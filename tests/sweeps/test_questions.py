"""Every question is built and smoke-run, and says in its docstring what it asks and where that comes from."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest

import sweeps
from sweeps.engine import launch

QUESTIONS = sorted(m.name for m in pkgutil.iter_modules(sweeps.__path__) if not m.ispkg)


@pytest.mark.parametrize(
    "name", [name if name == "reinit_grid" else pytest.param(name, marks=pytest.mark.slow) for name in QUESTIONS]
)
def test_a_question_smoke_runs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"sweeps.{name}")
    assert launch.main(module.sweep, ["--smoke", "--local", "--store", str(tmp_path)]) == 0
    assert list(tmp_path.glob(f"sweeps/{name}-smoke/figures/*/*.png"))
    assert (tmp_path / f"sweeps/{name}-smoke/table.md").read_text()


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_a_lab_note(name: str) -> None:
    module = importlib.import_module(f"sweeps.{name}")
    assert module.__doc__ is not None
    assert module.__doc__.splitlines()[0].endswith("?")
    assert "Source:" in module.__doc__
    assert "Hypothesis:" in module.__doc__
    assert Path(str(module.__file__)).read_text().count("\n") <= 80
