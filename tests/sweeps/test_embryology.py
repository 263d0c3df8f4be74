"""The embryology of a training: its steps are read, each once; more steps or analyses compute only what is new."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import WORDS

from plm import Reading, RunSpec, Store, recipes, registry
from plm.duration import steps as so_many
from plm.objectives.sop import SentenceOrder
from plm.recipes import world_bert
from search_spaces.analyses import read_by
from search_spaces.axis import label
from sweeps.embryology import sweep
from sweeps.engine import launch
from sweeps.engine.embryo import Growth
from sweeps.engine.embryo_collect import ever, ever_asked
from sweeps.engine.plan import Plan, plan
from sweeps.engine.shown import read_child
from sweeps.engine.sweep import points
from sweeps.engine.worker import run_trial


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


def found_ever(planned: Plan, store: Store) -> list[Growth]:
    return ever(planned, ever_asked(planned, store), store)


def test_a_recipe_is_pretrained_once_with_all_steps(store: Store) -> None:
    planned = plan(sweep, store, {"analysis": "reconstruction", "step": "dense"})
    (parent,) = planned.keep
    assert parent == world_bert().run_id
    assert planned.keep[parent] == (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000, 4000)
    assert len(planned.cells) == 15
    seeds = plan(sweep, store, {"analysis": "reconstruction", "step": "0,last", "seed": "0:2"})
    assert len(seeds.keep) == 2
    assert {cell.point["step"] for cell in seeds.cells} == {0, 4000}


@pytest.mark.parametrize("name", registry.names("analyses"))
def test_the_view_shows_readings_of_each_analysis(name: str, store: Store) -> None:
    reading = Reading(read_by(name, 3), world_bert().at(4))
    run = store.run(reading)
    with run.claim(reading):
        child = read_child(run, reading, "shown", {"analysis": name})
    assert child is not None
    assert child.params["analysis"] == name
    assert (child.dataset is None) == (name == "evolution")  # whose sentences are its own


def test_a_training_that_a_file_describes_is_done_for_each_seed_and_read(
    pretrain: Callable[..., RunSpec], gold: str, tmp_path: Path, no_view: None, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = pretrain(duration=so_many(5), seed=7)
    (tmp_path / "mine.json").write_text(spec.to_json())
    given = asked(tmp_path / "runs", f"{tmp_path}/mine.json", gold, "seed=0:2")
    assert launch.main(sweep, given) == 0
    said = capsys.readouterr().out
    assert "22 to run" in said  # two seeds, each a pretraining and two analyses of steps 0, 1, 2, 4 and 5
    assert "22/22 done" in said
    specs = [RunSpec.from_json(file.read_text()) for file in tmp_path.glob("runs/runs/mlm-*/spec.json")]
    assert sorted(run.seeds.fresh for run in specs) == [0, 1]
    assert {replace(run, seeds=spec.seeds) for run in specs} == {spec}


def test_a_description_that_was_changed_is_refused(
    pretrain: Callable[..., RunSpec], store: Store, gold: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.json"
    file.write_text(pretrain().to_json().replace('"batch_size"', '"batch_sise"'))
    with pytest.raises(ValueError, match=r"mine\.json: "):
        plan(sweep, store, {"trajectory": str(file), "analysis": f"prediction:{gold}"})


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


def test_the_page_of_a_training_has_all_that_was_ever_read_of_it(
    steps: str, gold: str, tmp_path: Path, no_view: None
) -> None:
    both = [f"trajectory={steps}", "size=20", "--local", "--store", str(tmp_path)]
    assert launch.main(sweep, [*both, f"analysis=reconstruction:{gold}"]) == 0
    assert launch.main(sweep, [*both, f"analysis=prediction:{gold}", "step=0,16"]) == 0
    page = (tmp_path / "sweeps/embryology/figures/tiny/glance.svg").read_text()
    assert "reconstruction:tags (accuracy" in page
    assert "prediction:tags (accuracy" in page
    store = Store.at(tmp_path)
    asked_now = {"trajectory": steps, "analysis": f"prediction:{gold}", "size": "20", "step": "0"}
    assert [(one.analysis, one.steps) for one in found_ever(plan(sweep, store, asked_now), store)] == [
        ("prediction:tags", (0, 16)), ("reconstruction:tags", (0, 4, 16)),
    ]  # fmt: skip
    # of the same name, and another model at a step: it is no longer this training's
    other = shutil.copytree(steps, tmp_path / "elsewhere" / Path(steps).name)
    shutil.rmtree(other / "step16")
    shutil.copytree(other / "step4", other / "step16")
    found = found_ever(plan(sweep, store, asked_now | {"trajectory": str(other)}), store)
    assert [(one.analysis, one.steps) for one in found] == [
        ("prediction:tags", (0,)), ("reconstruction:tags", (0, 4)),
    ]  # fmt: skip
    # of the same name, and other gold data: two curves are not spliced into one, and what is asked for now is shown
    changed = tmp_path / "changed" / Path(gold).name
    changed.parent.mkdir()
    changed.write_text(Path(gold).read_text().replace("DET", "ADJ"))
    assert launch.main(sweep, [*both, f"analysis=reconstruction:{changed}", "step=0,16"]) == 0
    now = plan(sweep, store, asked_now | {"analysis": f"reconstruction:{changed}", "step": "0,16"})
    (shown,) = (one for one in found_ever(now, store) if one.analysis.startswith("reconstruction"))
    assert shown.steps == (0, 16)
    assert {run.run_id for run in shown.runs.values()} == {*now.runs}


def test_a_training_whose_steps_lie_apart_is_one(steps: str, gold: str, tmp_path: Path, no_view: None) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for step in (0, 4, 16):
        far = shutil.copytree(Path(steps, f"step{step}"), tmp_path / f"far{step}" / "model")
        (linked / f"step{step}").symlink_to(far)
    given = {"trajectory": str(linked), "analysis": f"reconstruction:{gold}", "size": "20"}
    words = [f"{name}={value}" for name, value in given.items()]
    assert launch.main(sweep, [*words, "--local", "--store", str(tmp_path)]) == 0
    store = Store.at(tmp_path)
    (found,) = found_ever(plan(sweep, store, given | {"step": "16"}), store)
    assert found.steps == (0, 4, 16)


def test_gold_data_without_a_known_word_are_a_failed_reading(
    steps: str, gold: str, tmp_path: Path, no_view: None, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = tmp_path / "strange.conllu"
    strange.write_text(re.sub(r"(?m)^(\d+\t)[^\t]+", r"\1漢字", Path(gold).read_text()))
    words = [f"trajectory={steps}", f"analysis=prediction:{strange}", "step=16", "--local", "--store", str(tmp_path)]
    assert launch.main(sweep, words) == 1
    assert "there was nothing to score" in capsys.readouterr().out
    assert not list(tmp_path.glob("runs/prediction-*/DONE"))


def test_a_text_in_which_nothing_recurs_has_a_table_and_no_figure_of_what_recurs(
    steps: str, tmp_path: Path, no_view: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "validation"):
        (tmp_path / "text").mkdir(exist_ok=True)
        (tmp_path / "text" / f"{split}.txt").write_text("".join(f"{WORDS[i]} {WORDS[i + 9]}\n" for i in range(6)))
    words = [f"trajectory={steps}", f"analysis=similarity:{tmp_path}/text", "--local", "--store", str(tmp_path)]
    assert launch.main(sweep, words) == 0
    assert "3/3 done" in capsys.readouterr().out
    assert (tmp_path / "sweeps/embryology/table.md").exists()


def test_a_local_copy_of_a_hub_model_with_its_revisions(
    steps: str, gold: str, tmp_path: Path, no_view: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Laid out as the hub's client does: branches that name commits, whose files are links to blobs."""
    copy = tmp_path / "models--someone--tiny"
    for number, step in enumerate((0, 4, 16)):
        commit = f"{number:040x}"
        for file in Path(steps, f"step{step}").iterdir():
            blob, link = copy / f"blobs/{commit}-{file.name}", copy / f"snapshots/{commit}/{file.name}"
            blob.parent.mkdir(parents=True, exist_ok=True)
            link.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(file.read_bytes())
            link.symlink_to(f"../../blobs/{blob.name}")
        for name in (f"step{step}", "main"):
            (copy / "refs").mkdir(exist_ok=True)
            (copy / "refs" / name).write_text(commit)
    words = [f"analysis=reconstruction:{gold}", "size=20", "--local", "--store", str(tmp_path / "store")]
    assert launch.main(sweep, [f"trajectory={copy}", *words]) == 0
    printed = capsys.readouterr().out
    assert "0 finished before, 3 to run" in printed
    assert "## reconstruction:tags of someone/tiny" in (tmp_path / "store/sweeps/embryology/table.md").read_text()
    assert (tmp_path / "store/sweeps/embryology/figures/someone--tiny/glance.png").exists()
    assert launch.main(sweep, [f"trajectory={steps}", *words]) == 0  # the same files by another way
    assert "3 finished before, 0 to run" in capsys.readouterr().out
    for step in (0, 4, 16):
        (copy / f"refs/step{step}").unlink()
    assert launch.main(sweep, [f"trajectory={copy}", *words]) == launch.WRONG
    assert "of its revisions (main) none is named after a step" in capsys.readouterr().err


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


def test_seeds_may_stand_in_a_name_and_have_steps_of_their_own(
    steps: str, gold: str, store: Store, tmp_path: Path
) -> None:
    for seed, here in ((0, (0, 4)), (1, (0, 16))):
        (tmp_path / f"run{seed}").mkdir()
        for step in here:
            (tmp_path / f"run{seed}/step{step}").symlink_to(f"{steps}/step{step}")
    given = {"trajectory": f"{tmp_path}/run{{seed}}", "analysis": f"prediction:{gold}", "seed": "0:2"}

    def asked(step: str) -> list[tuple[int, int]]:
        cells = plan(sweep, store, given | {"step": step}).cells
        return [(cell.point["seed"], cell.point["step"]) for cell in cells]

    assert asked("each") == [(0, 0), (0, 4), (1, 0), (1, 16)]
    assert asked("last") == [(0, 4), (1, 16)]
    assert asked("log:2") == [(0, 0), (0, 4), (1, 0), (1, 16)]


def test_without_arguments_everything_is_read() -> None:
    from plm.registry import names

    asked = points(sweep, {})
    assert {point["analysis"] for point in asked} == {*names("analyses")}
    assert len({point["step"] for point in asked}) == 15


def test_what_cannot_be_answered_is_left_out_unless_it_was_asked_for_by_name(
    store: Store, gold: str, toy_corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = registry.names
    data = {"reconstruction": gold, "similarity": toy_corpus}
    monkeypatch.setattr(registry, "names", lambda of: [*data] if of == "analyses" else there(of))
    monkeypatch.setattr("sweeps.embryology.read_by", lambda name, size: read_by(f"{name}:{data[name]}", size))
    sop = replace(world_bert(), objective=SentenceOrder())  # trains no head that predicts tokens
    monkeypatch.setitem(recipes.NAMED, "world-sop", lambda: sop)
    given = {"trajectory": "world-sop", "step": "last"}
    planned = plan(sweep, store, given)
    assert [cell.point["analysis"] for cell in planned.cells] == ["similarity"]
    (line,) = planned.left_out
    assert re.fullmatch("reconstruction of world-sop is left out: .* has no head for that.*", line)
    with pytest.raises(ValueError, match="has no head for that"):
        plan(sweep, store, given | {"analysis": "reconstruction"})
    assert plan(sweep, store, given | {"trajectory": "world-bert"}).left_out == ()


def test_a_run_of_ours_on_the_generated_language_needs_no_gold_data(store: Store) -> None:
    store.run(world_bert()).claim(world_bert()).note(keep=[0, 4000])
    folder = f"{store.root}/runs/{world_bert().run_id}"
    planned = plan(sweep, store, {"trajectory": folder, "analysis": "reconstruction"})
    assert [cell.point["step"] for cell in planned.cells] == [0, 4000]
    with pytest.raises(ValueError, match=r"is a run of another store, and would be trained anew.*\(--store .*/store\)"):
        plan(sweep, Store.at(f"{store.root}-other"), {"trajectory": folder, "analysis": "reconstruction"})


def test_several_places_of_gold_data_have_short_names(steps: str, gold: str, tmp_path: Path) -> None:
    axis = sweep.axis("analysis").read(f"probing:{tmp_path}+{gold}")
    assert label(axis.values[0]) == f"probing:{tmp_path.name}+tags"
