"""Trajectories: schedules that say what they say, names that mean steps, and places that load."""

from __future__ import annotations

import dataclasses
import shutil
from types import SimpleNamespace

import huggingface_hub
import pytest
from hypothesis import given
from hypothesis import strategies as st

import plm
from plm.external import external
from plm.store import Store
from plm.train import Execution
from plm.trajectory import Revision, step_of

# Schedules


def test_dense_early():
    assert plm.dense_early(3500, dense=16, every=1000) == (0, 1, 2, 4, 8, 16, 1000, 2000, 3000, 3500)
    assert plm.dense_early(143_000)[:12] == (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
    assert len(plm.dense_early(143_000)) == 154  # as many as Pythia has
    assert plm.dense_early(100, dense=512) == (0, 1, 2, 4, 8, 16, 32, 64, 100)
    assert plm.dense_early(40, dense=16, every=8) == (0, 1, 2, 4, 8, 16, 24, 32, 40)


@given(st.integers(1, 5000), st.integers(1, 600), st.integers(1, 2000))
def test_dense_early_rises_from_0_to_the_last_step(last, dense, every):
    steps = plm.dense_early(last, dense=dense, every=every)
    assert (steps[0], steps[-1]) == (0, last)
    assert list(steps) == sorted(set(steps))
    assert set(range(every, last, every)) <= {*steps, *range(dense + 1)}


def test_intervals():
    assert plm.intervals([(10, 30), (100, 250)]) == (0, 10, 20, 30, 130, 230, 250)


@pytest.mark.parametrize(
    "wrong", [lambda: plm.dense_early(0), lambda: plm.intervals([(0, 5)]), lambda: plm.intervals([(1, 5), (2, 5)])]
)
def test_schedules_of_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=r"positive|at least 1"):
        wrong()


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("5", (5,)),
        ("0, 3,1", (0, 1, 3)),
        ("1,...,16", (1, 2, 4, 8, 16)),
        ("3,...,12,50", (3, 6, 12, 50)),
        ("0:6:2", (0, 2, 4, 6)),
        ("0:7:2", (0, 2, 4, 6)),
        ("0,last", (0, 40)),
        ("0,1,2,4,...,16,24:last:8", plm.dense_early(40, dense=16, every=8)),
    ],
)
def test_a_schedule_is_read(text, steps):
    assert plm.schedule(text, last=40) == steps


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,...,500", "doubling from 1 does not meet 500"),
        ("0,...,8", "doubling from 0 does not meet 8"),
        ("...,8", "stands between two steps"),
        ("1,...", "stands between two steps"),
        ("1:9", "is not from:to:stride"),
        ("1:9:0", "has no steps"),
        ("9:1:1", "has no steps"),
        ("-1", "'-1' is not a step"),
        ("1e3", "is not a step"),
        ("", "'' is not a step"),
        ("0,last", "the last step is not known here"),
    ],
)
def test_a_schedule_that_cannot_be_read(text, said):
    with pytest.raises(ValueError, match=said):
        plm.schedule(text)


# Names


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step_00000512", 512),
        ("step1000", 1000),
        ("checkpoint-500", 500),
        ("multiberts-seed_0-step_20k", 20_000),
        ("global_step64", 64),
        ("Step-8", 8),
        ("3000", 3000),
    ],
)
def test_a_name_says_its_step(name, step):
    assert step_of(name) == step


@pytest.mark.parametrize("name", ["seed_1", "bert-base-2", "step", "step_5_old", "logs", "misstep5"])
def test_a_name_that_says_none(name):
    with pytest.raises(ValueError, match="does not say its step"):
        step_of(name)


# Folders


@pytest.fixture
def folders(tmp_path, tiny_bert):
    def make(*names: str):
        for name in names:
            shutil.copytree(tiny_bert, tmp_path / "steps" / name)
        return tmp_path / "steps"

    return make


def test_a_folder_of_steps_is_ordered_by_number(folders):
    parent = folders("step_20k", "step_9", "step_100")
    (parent / "logs").mkdir()
    found = plm.trajectory(str(parent), tokens_per_step=64)
    assert found.steps == (9, 100, 20_000)
    assert found.source(100) == external(str(parent / "step_100"))
    assert [source.name for _, source in found] == ["step_9", "step_100", "step_20k"]
    assert (found.tokens(100), found.name, len(found)) == (6400, "steps", 3)


def test_a_list_of_folders(folders):
    parent = folders("a-step1", "b-step2")
    assert plm.trajectory([parent / "b-step2", parent / "a-step1"]).steps == (1, 2)


def test_only_the_steps_asked_for(folders):
    found = plm.trajectory(folders("step1", "step2", "step3"), [1, 3, 5])
    assert (found.steps, found.expected) == ((1, 3), (1, 3, 5))


def test_what_is_not_a_trajectory(folders, tmp_path):
    parent = folders("step1", "checkpoint-1")
    with pytest.raises(ValueError, match=r"has step 1 twice: .*checkpoint-1 and .*step1"):
        plm.trajectory(parent)
    with pytest.raises(ValueError, match="holds no folder that is named after a step"):
        plm.trajectory(parent / "step1")
    with pytest.raises(ValueError, match="there is no folder"):
        plm.trajectory(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="'steps' does not say its step"):
        plm.trajectory([parent])
    with pytest.raises(ValueError, match=r"has no step 7; it has 1\."):
        plm.trajectory([parent / "step1"]).source(7)


# Runs of ours


def test_a_run_of_ours(pretrain, tmp_path):
    import transformers

    spec = pretrain()
    plm.train(spec, store=tmp_path, execution=Execution(keep=(0, 1, 3)))
    found = plm.trajectory(spec, store=tmp_path)
    assert found.steps == found.expected == (0, 1, 3, 4)  # the last one is kept always
    assert found.source(3) == spec.at(3)
    assert found.tokens(3) == 3 * 4 * 16
    folder = Store.at(tmp_path).run(spec).path
    assert dataclasses.replace(plm.trajectory(folder), run=None) == dataclasses.replace(found, run=None)
    for step in found.steps:
        transformers.AutoModel.from_pretrained(folder / f"checkpoints/step_{step:08d}")
    shutil.rmtree(folder / "checkpoints/step_00000001")
    assert plm.trajectory(folder).steps == (0, 1, 3, 4), "a step that was to be kept is still of the trajectory"
    assert plm.trajectory(spec, [0, 2], store=tmp_path).expected == (0, 2)


def test_a_run_folder_that_was_moved_or_renamed(pretrain, tmp_path):
    spec = pretrain()
    for name, said in (("elsewhere/" + spec.run_id, "outside a store"), ("runs/other", "the folder was renamed")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "spec.json").write_text(spec.to_json())
        with pytest.raises(ValueError, match=said):
            plm.trajectory(tmp_path / name)


# The hub, played by local folders


@pytest.fixture
def hub(monkeypatch, folders):
    """A repository whose branches are steps; what was asked of it."""
    asked = []

    def list_repo_refs(self, repo):
        names = ("main", "step0", "step512", "stage1-step3000-tokens13B", "stage2-step3000-tokens13B")
        return SimpleNamespace(branches=[SimpleNamespace(name=name) for name in names])

    def snapshot_download(repo, *, revision, allow_patterns):
        asked.append((repo, revision))
        return str(folders(f"{repo.replace('/', '-')}-{revision}") / f"{repo.replace('/', '-')}-{revision}")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_refs", list_repo_refs)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_revisions_that_are_steps(hub, tiny_bert):
    found = plm.trajectory("EleutherAI/pythia-70m")
    assert found.places == tuple((s, Revision("EleutherAI/pythia-70m", f"step{s}")) for s in (0, 512))
    assert not hub, "naming fetches nothing"
    source = found.source(512)
    assert hub == [("EleutherAI/pythia-70m", "step512")]
    assert source.name == "EleutherAI/pythia-70m@step512"
    assert source == dataclasses.replace(external(tiny_bert), path=source.path, name=source.name)


def test_a_pattern_of_revisions(hub):
    found = plm.trajectory("allenai/OLMo@stage1-step{step}-*")
    assert found.places == ((3000, Revision("allenai/OLMo", "stage1-step3000-tokens13B")),)
    with pytest.raises(ValueError, match="no revision that is named after a step like epoch"):
        plm.trajectory("allenai/OLMo@epoch{step}")
    with pytest.raises(ValueError, match=r"write \{step\} where the step stands"):
        plm.trajectory("allenai/OLMo@main")


def test_a_pattern_of_repositories(hub):
    found = plm.trajectory("google/multiberts-seed_0-step_{step}k", plm.schedule("0:40000:20000"))
    assert [str(place) for _, place in found.places] == [f"google/multiberts-seed_0-step_{k}k" for k in (0, 20, 40)]
    found.source(20_000)
    assert hub == [("google/multiberts-seed_0-step_20k", None)]
    with pytest.raises(ValueError, match="which steps there are cannot be listed; say them"):
        plm.trajectory("google/multiberts-seed_0-step_{step}k")
    with pytest.raises(ValueError, match="step 500 is not a number of thousands"):
        plm.trajectory("google/multiberts-seed_0-step_{step}k", [500])


def test_without_a_network():
    with pytest.raises(ValueError, match=r"revisions of owner/model could not be had .* give local folders"):
        plm.trajectory("owner/model")


def test_a_local_folder_has_no_revisions(tiny_bert):
    with pytest.raises(ValueError, match="a local folder, which has no revisions"):
        external(tiny_bert, revision="step1")
