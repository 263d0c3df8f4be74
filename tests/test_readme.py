"""What the README shows works as it is printed."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.engine import launch
from sweeps.reinit_grid import sweep

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.partition("#")[0].strip()
    for kind, text in BLOCKS
    if kind == "bash"
    for line in text.splitlines()
    if line.strip()
]


@pytest.mark.parametrize("command", [c for c in COMMANDS if "sweeps.reinit_grid" in c])
def test_a_command_is_understood(command: str) -> None:
    words = shlex.split(command.rpartition("&&")[2])
    assert words[:3] == ["python", "-m", "sweeps.reinit_grid"]
    given = launch.parser(sweep).parse_intermixed_args(words[3:])
    for name, values in (item.split("=") for item in given.axes):
        sweep.axis(name).read(values)


def test_every_module_that_a_command_names_is_there() -> None:
    named = {m for c in COMMANDS for m in re.findall(r"python -m ([\w.]+)", c)}
    assert {"sweeps.reinit_grid", "sweeps.engine.tracking", "benchmarks.overhead"} <= named
    assert all((ROOT / (m.replace(".", "/") + ".py")).is_file() for m in named)


def test_the_new_question_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = next(text for kind, text in BLOCKS if kind == "python" and "Sweep(" in text)
    assert code.count("\n") <= 35
    file = tmp_path / "warmth.py"
    file.write_text(code)
    spec = importlib.util.spec_from_file_location("sweeps.warmth", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["sweeps.warmth"] = module
    spec.loader.exec_module(module)
    assert launch.main(module.sweep, ["--smoke", "--local", "--store", str(tmp_path / "s")]) == 0
    assert list(tmp_path.glob("s/sweeps/warmth-smoke/figures/*/curve.png"))


def test_the_map_names_what_is_there() -> None:
    tree = next(text for kind, text in BLOCKS if text.startswith("plm/"))
    for line in tree.splitlines():
        for name in re.findall(r"[\w/]+\.py|\w+/", line.split("  ")[0 if line[0] != " " else 1]):
            assert (
                list(ROOT.glob(name.rstrip("/")))
                or list((ROOT / "plm").glob(name.rstrip("/")))
                or list((ROOT / "sweeps").glob(name.rstrip("/")))
            ), name


def test_the_words_for_masks_are_all_there() -> None:
    from search_spaces.masks import WORDS, families

    said = README.partition("**A mask** is")[2].partition("**A model** is")[0]
    assert {*WORDS, *families()} <= set(re.findall(r"`(\w+)[:\w]*`", said))


def test_the_new_masks_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from search_spaces import masks

    (tmp_path / "ends.py").write_text(next(text for kind, text in BLOCKS if kind == "python" and "def masks(" in text))
    monkeypatch.setattr(masks, "__path__", [*masks.__path__, str(tmp_path)])
    axis = sweep.axis("mask").read("ends,ends:2")
    found = [mask for word in axis.values for mask in axis.expand(word, {"model": "world-bert"})]
    assert found == ["1001", "1111"]


def test_the_new_task_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plm import finetune, tasks

    (tmp_path / "lengths.py").write_text(next(text for kind, text in BLOCKS if kind == "python" and "TASKS =" in text))
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    spec = finetune("long_sentences", init="world-bert", size=16)
    train, held_out = tasks.load(spec.data.task)
    for split in (train, held_out):
        assert all(label == (len(text.split()) > 6) for (text,), label in zip(split.texts, split.labels, strict=True))
        assert 0.1 < sum(split.labels) / len(split.labels) < 0.9


def test_what_is_done_to_layers_is_spelt_as_it_is_printed(make_bert: Callable[..., str], toy_task: str) -> None:
    code = next(text for kind, text in BLOCKS if kind == "python" and "plm.permute(" in text)
    assert {"permute", "graft", "drop", "reinit"} <= set(re.findall(r"plm\.(\w+)\(", code))
    encoder = make_bert("six", num_hidden_layers=6)
    exec("import plm\n" + code.replace("path/to/encoder", encoder).replace("path/to/task", toy_task), {})
