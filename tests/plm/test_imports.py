"""The arrows of the tree: who may import whom, what a plan may wait for, and no cycles."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "ray", "mlflow", "optuna", "datasets", "sklearn", "scipy", "matplotlib"}
FORBIDDEN = {
    "plm": {"ray", "mlflow", "optuna", "sweeps", "search_spaces"},
    "search_spaces": {"torch", "ray", "mlflow", "sweeps", "transformers"},
    "sweeps": {"ray", "mlflow"},
}
"""What a folder must not import, inside functions or out; `sweeps/engine` is where Ray and MLflow live."""


def imported(source: str, package: str) -> Iterator[str]:
    """Full names of all that a module's code imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        yield from _names(node, package)


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        yield from (f"{base}.{alias.name}" for alias in node.names)


def modules(folder: str) -> dict[str, Path]:
    """Module name -> file."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def package_of(name: str, path: Path) -> str:
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


def crossings(folder: str) -> list[str]:
    """Imports against the arrows."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for module, path in modules(folder).items()
        if not module.startswith("sweeps.engine")
        for name in imported(path.read_text(), package_of(module, path))
        if name.partition(".")[0] in FORBIDDEN[folder]
    ]


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_follow_the_arrows(folder):
    assert len(modules(folder)) > 3
    assert not crossings(folder)


@pytest.mark.parametrize(
    "line",
    [
        "import ray",
        "from ray import tune",
        "import ray.tune as t",
        "def f():\n    import ray",
        "if TYPE_CHECKING:\n    from ray.tune import Tuner",
        "try:\n    import ray\nexcept ImportError: pass",
    ],
)
def test_the_check_can_fail(line):
    assert any(name.partition(".")[0] == "ray" for name in imported(line, "plm"))


def test_relative_imports_are_resolved():
    assert list(imported("from . import a\nfrom .b import c\nfrom ..d import e", "plm.data")) == [
        "plm.data.a",
        "plm.data.b.c",
        "plm.d.e",
    ]


# Cycles


def at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements that run when the module is imported."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def graph(sources: dict[str, tuple[str, str]]) -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports at once; `sources` is name -> (package, code)."""
    found = {}
    for module, (package, code) in sources.items():
        names = {n for node in at_import(ast.parse(code)) for n in _names(node, package)}
        found[module] = {next((m for m in (n, n.rpartition(".")[0]) if m in sources), "") for n in names} - {"", module}
    return found


def test_there_are_no_cycles():
    sources = {m: (package_of(m, p), p.read_text()) for folder in FORBIDDEN for m, p in modules(folder).items()}
    tuple(graphlib.TopologicalSorter(graph(sources)).static_order())


def test_cycles_would_be_found():
    sources = {"plm.a": ("plm", "from plm.b import x"), "plm.b": ("plm", "from plm import a")}
    with pytest.raises(graphlib.CycleError):
        tuple(graphlib.TopologicalSorter(graph(sources)).static_order())
    sources["plm.b"] = ("plm", "def f():\n    from plm import a\nif TYPE_CHECKING:\n    from plm import a")
    assert graph(sources) == {"plm.a": {"plm.b"}, "plm.b": set()}


# What is waited for


def fresh(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LOADED = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


@pytest.mark.parametrize(
    "statement",
    [
        "import plm",
        "from plm import finetune, reinit, pretrain, steps",
        "import search_spaces.masks, search_spaces.finetuning",
    ],
)
def test_a_plan_does_not_wait_for_torch(statement):
    assert not HEAVY & set(fresh(f"{statement}; {LOADED}").split())


@pytest.mark.parametrize("module", ["plm.spec", "plm.duration", "plm.registry"])
def test_the_nouns_are_standard_library_only(module):
    third = set(fresh(f"import {module}; {LOADED}").split()) - set(sys.stdlib_module_names) - {"plm"}
    before = set(fresh(LOADED).split())
    assert not third - before


@pytest.mark.parametrize(
    ("first", "name"),
    [("import plm.train", "train"), ("import plm.external", "external"), ("import plm; plm.finetune", "external")],
)
def test_functions_are_not_shadowed_by_modules_of_their_name(first, name):
    """`plm.train` is a function and a file; importing the file must not hide the function."""
    assert fresh(f"{first}\nimport plm; print(plm.{name}.__name__)") == name


def test_the_package_offers_what_it_lists():
    import plm

    assert all(hasattr(plm, name) for name in plm.__all__)
    assert dir(plm) == sorted(plm.__all__)
    with pytest.raises(AttributeError, match="module 'plm' has no attribute 'trian'"):
        _ = plm.trian
