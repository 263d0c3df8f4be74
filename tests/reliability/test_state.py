"""Spoilt files of the store: the command repairs what follows from the rest, or ends with status 2 and names the file.

What it must never do is answer otherwise than before, or train again in silence what was finished.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from answered import results
from reliability.conftest import ask

CASES_BY_DEFAULT, CASES = 3, 26


def spoilings(data: bytes, count: int, seed: str) -> Iterator[tuple[str, bytes | None]]:
    """Missing, empty, then cuts and flipped bits at random places."""
    draw = random.Random(seed)
    yield "missing", None
    yield "empty", b""
    for number in range(count):
        at = draw.randrange(len(data))
        if number % 2:
            yield f"cut at {at}", data[:at]
        else:
            yield f"a bit of byte {at}", data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]


def trained(store: Path) -> dict[str, int]:
    """How often each run was begun."""
    return {run.name: len(list(run.glob("attempts/*.json"))) for run in (store / "runs").iterdir()}


def check(copied: Callable[[], Path], question: tuple[str, ...], answered: Path, cases: int) -> int:
    """Spoil each file of one run in turn, ask again, and look."""
    (run, *_) = sorted((answered / "runs").iterdir())
    names = sorted(str(f.relative_to(answered)) for f in run.rglob("*") if f.is_file())
    names += ["sweeps/reinit_grid/results.parquet", "sweeps/reinit_grid/table.md"]
    checked = 0
    for name in names:
        for how, data in spoilings((answered / name).read_bytes(), cases, name):
            store = copied()
            (store / name).unlink() if data is None else (store / name).write_bytes(data)
            status, said = ask(store, *question, "--local")
            where = f"{name}, {how}: {status} {said}"
            assert "Traceback" not in said, where
            if status == 2:
                assert run.name in said, where
                # a check sum that was spoilt itself accuses the file that it is of
                assert Path(name).name in said or Path(name).name == "DONE", where
            else:
                assert status == 0, where
                assert results(store) == results(answered), where
                assert trained(store)[run.name] <= 1, f"{where}: trained again in silence"
            checked += 1
    return checked


def test_a_spoilt_file_is_repaired_or_named(
    copied: Callable[[], Path], question: tuple[str, ...], answered: Path
) -> None:
    assert check(copied, question, answered, CASES_BY_DEFAULT) >= 40


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_250_spoilt_files_are_repaired_or_named(
    copied: Callable[[], Path], question: tuple[str, ...], answered: Path
) -> None:
    assert check(copied, question, answered, CASES) >= 250


def test_names_in_a_spec_do_not_lead_out_of_the_store(
    copied: Callable[[], Path], question: tuple[str, ...], tmp_path: Path
) -> None:
    """A run's folder follows from what the run is; a folder that says otherwise is refused, and nothing is written."""
    store = copied()
    (run, *_) = sorted((store / "runs").iterdir())
    spec = json.loads((run / "spec.json").read_text())
    (run / "spec.json").write_text(json.dumps(spec | {"run_id": "../../../escaped"}))
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    status, said = ask(store, *question, "--local")
    assert status == 2
    assert run.name in said
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before
