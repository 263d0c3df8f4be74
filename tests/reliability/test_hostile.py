"""Names and files made to do harm: nothing is unpickled, and nothing is written outside the store."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path

import pytest
from reliability.conftest import ask
from tiny import sentence, write_task

ROOT = Path(__file__).parents[2]
LOADS_CODE = re.compile(
    r"pickle\.loads?\(|torch\.load\(|joblib\.load|dill\.|yaml\.load\(|allow_pickle\s*=\s*True|weights_only\s*=\s*False"
    r"|trust_remote_code\s*=\s*True|\beval\(|\bexec\(|\bTuner\.restore|load_state_dict\(torch\.load"
)
EVAL_MODE = re.compile(r"\.eval\(\)")


class Trap:
    """What runs a command when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self._sprung = sprung

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (f"touch {self._sprung}",)


def test_the_trap_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("beside", [True, False], ids=["beside safetensors", "alone"])
def test_a_pickle_in_a_models_folder_is_never_opened(
    tmp_path: Path, tiny_bert: str, toy_task: str, beside: bool
) -> None:
    model = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "model.pt", "tokenizer.pkl"):
        (model / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    if not beside:
        (model / "model.safetensors").unlink()
    words = (f"model={model}", f"task={toy_task}", "size=4", "seed=0", "mask=00", "duration=steps:1", "--local")
    status, said = ask(tmp_path / "store", *words)
    assert status == (0 if beside else 2), said
    assert not (tmp_path / "sprung").exists()


def test_no_code_of_ours_loads_code() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("plm", "sweeps", "search_spaces")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if LOADS_CODE.search(EVAL_MODE.sub("", line))
    ]
    assert found == []


NAMES = (
    "..a",
    "a b",
    "a;touch x",
    "$(touch x)",
    "-rf",
    "a\nb",
    "ä" * 60,
    "%2e%2e%2f",
    "..\\..\\a",
    "<script>",
    "n" * 200,
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_does_not_lead_out_of_the_store(tmp_path: Path, tiny_bert: str, name: str) -> None:
    given = tmp_path / "given"
    write_task(given / name, lambda i: {"sentence": sentence(i), "label": i % 2}, train=12, validation=12)
    model = Path(shutil.copytree(tiny_bert, given / "models" / name))
    before = sorted(given.rglob("*"))
    words = (f"model={model}", f"task={given / name}", "size=8", "seed=0:2", "duration=steps:1", "--local")
    status, said = ask(tmp_path / "store", *words)
    assert status == 0, said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["given", "store"]
    assert sorted(given.rglob("*")) == before
    assert (tmp_path / "store/sweeps/reinit_grid/table.md").is_file()


@pytest.mark.parametrize("value", ["../../x", "/etc/passwd", "x/../../y", "~root", "\x00", "con\nfig"])
@pytest.mark.parametrize("axis", ["model", "task"])
def test_a_path_that_is_no_model_or_task_is_refused(tmp_path: Path, axis: str, value: str) -> None:
    assert ask(tmp_path / "store", f"{axis}={value}", "--table").status == 2
    assert list(tmp_path.iterdir()) == []
