"""The embryology of a training: its steps are read, each once; more steps or analyses compute only what is new."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import SIZES, WORDS, perturbed, save_model

from plm import Reading, Store
from plm.recipes import world_bert
from sweeps.embryology import sweep
from sweeps.engine import launch
from sweeps.engine.plan import plan
from sweeps.engine.worker import run_trial


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folders of a tiny masked LM, named after three steps."""
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("trainings") / "tiny"
    for step in (0, 4, 16):
        save_model(perturbed(BertForMaskedLM(BertConfig(**SIZES)), seed=step), folder / f"step{step}")
    return str(folder)


@pytest.fixture(scope="module")
def gold(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Thirty tagged sentences of the tiny model's words."""
    file = tmp_path_factory.mktemp("gold") / "tags.conllu"
    lines = []
    for i in range(30):
        for j in range(1, 6):
            tag = ("DET", "NOUN", "VERB")[(i + j) % 3]
            word = WORDS[(7 * i + 3 * j) % (5 if tag == "DET" else 40)]
            lines.append("\t".join([str(j), word, "_", tag, "VB" if tag == "VERB" else "_", "_", "0", "_", "_", "_"]))
        lines.append("")
    file.write_text("\n".join(lines))
    return str(file)


def asked(store: Path, steps: str, gold: str, *more: str) -> list[str]:
    given = [f"trajectory={steps}", f"analysis=reconstruction:{gold},prediction:{gold}", "size=20", *more]
    return [*given, "--local", "--store", str(store)]


def test_a_recipe_is_pretrained_once_with_all_steps(store: Store) -> None:
    planned = plan(sweep, store, {"analysis": "reconstruction", "step": "dense"})
    (parent,) = planned.keep
    assert parent == world_bert().run_id
    assert planned.keep[parent] == (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000, 4000)
    assert len(planned.cells) == 15
    seeds = plan(sweep, store, {"analysis": "reconstruction", "step": "0,last", "seed": "0:2"})
    assert len(seeds.keep) == 2
    assert {cell.point["step"] for cell in seeds.cells} == {0, 4000}


def test_a_training_is_read_at_each_step_once(
    steps: str, gold: str, tmp_path: Path, no_view: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.main(sweep, asked(tmp_path, steps, gold, "step=0,16")) == 0
    assert "0 finished before, 4 to run" in capsys.readouterr().out
    assert launch.main(sweep, asked(tmp_path, steps, gold)) == 0
    assert "4 finished before, 2 to run" in capsys.readouterr().out
    assert launch.main(sweep, asked(tmp_path, steps, gold)) == 0
    printed = capsys.readouterr().out
    assert "6 finished before, 0 to run" in printed
    assert "3 steps (0 to 16)" in printed
    there = {path.parent.name for path in tmp_path.glob("sweeps/embryology/figures/*/*.png")}
    assert there == {"reconstruction-tags", "prediction-tags", "tiny"}
    text = (tmp_path / "sweeps/embryology/table.md").read_text()
    assert "## reconstruction:tags of tiny (size 20)" in text
    assert json.loads((tmp_path / "sweeps/embryology/sweep.json").read_text())["steps"] == "step"
    before = {run.name for run in (tmp_path / "runs").iterdir()}
    assert all(name.startswith(("reconstruction-", "prediction-")) for name in before)
    assert launch.main(sweep, [*asked(tmp_path, steps, gold), "--table"]) == 0
    assert "DET" in capsys.readouterr().out


def test_what_it_costs_is_known_before(
    steps: str, gold: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.main(sweep, [*asked(tmp_path, steps, gold), "--dry-run", "--rate", "1e9"]) == 0
    printed = capsys.readouterr().out
    assert "6 cells, 6 runs: 0 finished, 6 to run" in printed
    assert "FLOPs" in printed
    assert not (tmp_path / "runs").exists()


def test_a_worker_reads_what_it_is_told(steps: str, gold: str, tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    cell = plan(sweep, store, {"trajectory": steps, "analysis": f"prediction:{gold}", "step": "4"}).cells[0]
    assert isinstance(cell.spec, Reading)
    config = {"spec": cell.spec.to_json(), "store": str(tmp_path), "gpus": 0, "execution": {"keep": []}, "rungs": None}
    outcome = run_trial(config)
    assert (outcome.status, outcome.run_id) == ("done", cell.spec.run_id)
    assert outcome.metrics == store.run(cell.spec).result()["metrics"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"analysis": "reconstruction"}, r"say on which gold data, as in reconstruction:path/to/data"),
        ({"analysis": "probng:x"}, "unknown analysis 'probng'. Did you mean 'probing'"),
        ({"step": "5"}, "tiny has no step 5; it has 0, 4, 16"),
        ({"step": "soon"}, "'soon' is not a step"),
        ({"size": "0"}, "'0' is not a size"),
        ({"seed": "1"}, r"seed 1 of .*tiny: it is one training. Write \{seed\}"),
    ],
)
def test_what_means_nothing_is_refused(
    given: dict[str, str], message: str, steps: str, gold: str, store: Store
) -> None:
    with pytest.raises(ValueError, match=message):
        plan(sweep, store, {"trajectory": steps, "analysis": f"reconstruction:{gold}", **given})


def test_a_body_alone_is_refused_before_anything_is_read(encoder: str, gold: str, store: Store, tmp_path: Path) -> None:
    (tmp_path / "bodies").mkdir()
    (tmp_path / "bodies/step1").symlink_to(encoder)
    with pytest.raises(ValueError, match="a BertModel, has no head for that"):
        plan(sweep, store, {"trajectory": str(tmp_path / "bodies"), "analysis": f"prediction:{gold}"})


def test_seeds_may_stand_in_a_name(steps: str, gold: str, store: Store, tmp_path: Path) -> None:
    for seed, step in ((0, 0), (1, 16)):
        (tmp_path / f"run{seed}").mkdir()
        (tmp_path / f"run{seed}/step1").symlink_to(f"{steps}/step{step}")
    given = {"trajectory": f"{tmp_path}/run{{seed}}", "analysis": f"prediction:{gold}", "seed": "0:2"}
    assert len({cell.spec.run_id for cell in plan(sweep, store, given).cells}) == 2
