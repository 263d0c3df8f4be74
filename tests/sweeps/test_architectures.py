"""Sharing and embedding sizes: what the cells are, that parents are shared, and a tiny one run for real."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from plm import Store
from plm.models.albert import Albert
from plm.store import RunFolder
from search_spaces.architectures import architecture
from search_spaces.texts import reading
from sweeps.architectures import sweep
from sweeps.engine import launch
from sweeps.engine.pivot import pretraining
from sweeps.engine.plan import plan

TINY = ["model=albert-2x32", "duration=steps:2", "size=16", "seed=0"]


def test_a_model_is_pretrained_once_for_all_tasks(store: Store) -> None:
    planned = plan(sweep, store, {"seed": "0,1", "sharing": "all,none", "embedding_size": "32"})
    parents = Counter(pretraining(cell.spec).run_id for cell in planned.cells)
    assert set(parents.values()) == {2}
    assert (len(planned.cells), len(parents), len(planned.runs)) == (8, 4, 12)


def test_arms_differ_in_the_architecture_alone() -> None:
    axes = {"text": "world:stories", "model": "albert-4x128", "duration": "steps:9", "task": "sentiment", "size": 16}
    one, other = (
        pretraining(sweep.run(**axes, embedding_size=size, sharing=sharing, seed=0))  # type: ignore[arg-type]
        for size, sharing in ((128, "all"), (32, "attention"))
    )
    changed = one.init.architecture()
    assert isinstance(changed, Albert)
    assert replace(changed, embedding_size=32, sharing="attention") == other.init.architecture()
    assert replace(one, init=other.init) == other


def test_a_seed_is_a_pretraining_and_its_fine_tuning() -> None:
    axes = {"text": "world:stories", "model": "albert-4x128", "duration": "steps:9", "task": "sentiment", "size": 16}
    spec = sweep.run(**axes, embedding_size=32, sharing="all", seed=3)
    assert spec is not None
    for run in (spec, pretraining(spec)):
        assert (run.seeds.fresh, run.seeds.order, run.seeds.noise) == (3, 3, 3)


def test_text_decides_what_it_is_read_with() -> None:
    assert reading("world:stories:home").vocabulary is None
    assert reading("some/folder").vocabulary == "wordpiece:8192"
    assert architecture("albert-2x64", "world", embedding_size=16, sharing="all").config().num_attention_heads == 2


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sharing=al", "Did you mean 'all'"),
        ("embedding_size=0", "positive whole number"),
        ("model=albert-4x100", "multiple of 32"),
        ("model=bert-4x128", "write albert-LAYERSxWIDTH"),
        ("text=./nowhere", "no file or folder"),
        ("duration=epochs:3", "epochs"),
    ],
)
def test_what_cannot_be_run_is_refused(
    store: Store, capsys: pytest.CaptureFixture[str], word: str, message: str
) -> None:
    assert launch.main(sweep, [word, "--local", "--store", str(store.root)]) == 2
    assert message in capsys.readouterr().err
    assert not store.root.exists()


def test_a_tiny_one_runs_and_answers(store: Store, prose: str, toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, f"text={prose}", "sharing=attention,none", "embedding_size=16", f"task={toy}"]
    assert launch.main(sweep, [*words, "--local", "--store", str(store.root)]) == 0
    said = (store.root / "sweeps/architectures/table.md").read_text()
    table, others = said.split("## toy, albert-2x32")
    assert table.startswith("## albert-2x32\n\n| embedding_size | sharing |")
    assert "minus baseline" in others
    result = next(RunFolder(store, run.name).result() for run in store.root.glob("runs/combined-*"))
    assert f"{result['metrics']['val/sop_accuracy']:.3f}" in table
    assert list(store.root.glob("sweeps/architectures/figures/albert-2x32/tasks.png"))
    assert launch.main(sweep, [*words, "--table", "--store", str(store.root)]) == 0
    assert "parameters" in capsys.readouterr().out
