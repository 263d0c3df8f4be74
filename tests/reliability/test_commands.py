"""Commands that nobody planned for: each is understood, or refused with status 2 and a reason; none ends in a traceback."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sweeps import (
    graft_map,
    inheritance,
    inheritance_data,
    inheritance_domains,
    inheritance_downstream,
    inheritance_effect,
    inheritance_ladder,
    inheritance_smoothing,
    inheritance_top_k,
    layer_permutation,
    pretrain_search,
    probing,
    reinit_grid,
    reinit_search,
)
from sweeps.engine import launch
from sweeps.engine.sweep import Sweep

SWEEPS: dict[str, Sweep] = {
    module.__name__.rpartition(".")[2]: module.sweep
    for module in (
        *(reinit_grid, reinit_search, graft_map, layer_permutation, probing, pretrain_search),
        *(inheritance, inheritance_data, inheritance_domains, inheritance_downstream, inheritance_effect),
        *(inheritance_ladder, inheritance_smoothing, inheritance_top_k),
    )
}
ITEMS = (
    *("0", "1", "3:5", "5:3", "-1", "0:", ":", "1e-4", "1e999", "nan", "-inf", "0x10", "1_000", "٣", "²", "9" * 30),
    *(
        "all",
        "none",
        "progressive",
        "upward:2",
        "blocks",
        "blocks:9",
        "subset:1:0",
        "0011",
        "01",
        "2",
        "preserved_blocks",
    ),
    *("bert", "matched", "true", "None", "world-bert", "sentiment", "glue/sst2", "glue/none", "..", "/", "~", "."),
    *(
        "bert-2x64@600",
        "bert-2x64",
        "bert-2x64@0",
        "a>b",
        "bert-2x64>bert-2x64",
        "linear:0",
        "constant:10+tail",
        "1/16",
    ),
    *("1/0", "1/1", "B", "10+tail", "teacher", "0.1", "1.5", "world", "world:home", "world:none", "world:home:field"),
    *(
        "steps:3",
        "epochs:0",
        "tokens:-1",
        "steps:1e3",
        "minutes:1",
        "a=b",
        "=",
        "%s%n",
        "$(id)",
        "'",
        '"',
        "\n",
        "\x00",
    ),
)
FLAGS = ("--cpus", "--gpus", "--workers", "--max-concurrent", "--num-trials", "--rate", "--tracking-uri", "--state")
SWITCHES = ("--smoke", "--local", "--shard", "--keep-weights", "--table", "--dry-run", "--help", "--nothing", "--")


def values() -> st.SearchStrategy[str]:
    """Items of an axis, known ones and any text."""
    item = st.one_of(st.sampled_from(ITEMS), st.text(max_size=8), st.integers().map(str), st.floats().map(str))
    return st.lists(item, max_size=3).map(",".join)


@st.composite
def commands(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A sweep, and words that follow its name; nothing that would begin to train."""
    name = draw(st.sampled_from(sorted(SWEEPS)))
    axis = st.tuples(st.sampled_from(sorted(SWEEPS[name].axes)), values()).map("=".join)
    flag = st.tuples(st.sampled_from(FLAGS), values()).map("=".join)
    word = st.one_of(axis, axis, flag, st.sampled_from(SWITCHES), values())
    words = draw(st.lists(word, max_size=4))
    return name, ["--table", *(w for w in words if w != "--dry-run")]


def answer(name: str, words: list[str], store: Path) -> tuple[int, str]:
    """Exit status and what was said on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = launch.main(SWEEPS[name], ["--store", str(store), *words])
        except SystemExit as end:  # argparse
            status = end.code if isinstance(end.code, int) else 1
    return status, said.getvalue()


def understood_or_refused(command: tuple[str, list[str]], folder: Path) -> None:
    store = folder / "store"
    status, said = answer(*command, store)
    assert status in (0, 2), said
    assert "Traceback" not in said
    assert (status == 2) == bool(said.strip()), said
    assert not store.exists(), "looking writes nothing"
    assert list(folder.iterdir()) == []


def fuzz(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        derandomize=examples < 1000,
    )


@example(command=("reinit_grid", ["--table", f"seed=0:{10**15}"]))
@given(command=commands())
@fuzz(15)
def test_a_command_is_understood_or_refused(command: tuple[str, list[str]], tmp_path: Path) -> None:
    understood_or_refused(command, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(100_000)
@given(command=commands())
@fuzz(10_000)
def test_ten_thousand_commands_are_understood_or_refused(command: tuple[str, list[str]], tmp_path: Path) -> None:
    understood_or_refused(command, tmp_path)


def test_a_wrong_command_is_refused_quickly(tmp_path: Path) -> None:
    answer("reinit_grid", ["--table", "mask=0"], tmp_path / "store")  # imports
    began = time.process_time()
    for word in ("mask=01", "seed=x", "size=0", "duration=3", "nothing=1"):
        assert answer("reinit_grid", ["--table", word], tmp_path / "store")[0] == 2
    assert time.process_time() - began < 5 * 0.05
