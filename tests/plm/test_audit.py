"""The audit: every planted defect is found where it was planted, and nothing else is accused."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import RevisionNotFoundError
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny import SIZES

import plm
from plm import kinship
from plm.audit import holes
from plm.shards import Damaged, sample, stored
from plm.store import Store
from plm.train import Execution
from plm.verdict import DEFECTS

STEPS = plm.dense_early(48, dense=16, every=8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, toy_corpus, tiny_bert):
    """The folders of two trainings of one recipe from two seeds."""
    store = tmp_path_factory.mktemp("store")

    def train(seed: int):
        spec = plm.pretrain(
            plm.Bert(**SIZES, dropout=0.1),
            toy_corpus,
            vocabulary=tiny_bert,
            duration=plm.steps(48),
            batch_size=8,
            seq_len=16,
            lr=3e-3,
            warmup_steps=4,
            dtype="float32",
            seed=seed,
        )
        return plm.train(spec, store=store, execution=Execution(keep=STEPS)).path

    return train(0), train(1)


class Steps:
    """A copy of a trajectory to spoil, a folder a step, without what the store wrote beside the weights."""

    def __init__(self, root, run, other):
        self.root, self.other = root, other
        for folder in sorted((run / "checkpoints").iterdir()):
            named = shutil.ignore_patterns("manifest.json", "progress.json", "optimizer*", "vocab*", "tokenizer*")
            shutil.copytree(folder, root / folder.name, ignore=named)

    def __getitem__(self, step: int):
        return self.root / f"step_{step:08d}"

    def copy(self, source: int, to: int) -> None:
        shutil.copy(self[source] / "model.safetensors", self[to])

    def stranger(self, step: int) -> None:
        """The same step of the other training."""
        shutil.copy(self.other / "checkpoints" / self[step].name / "model.safetensors", self[step])

    def exchange(self, one: int, other: int) -> None:
        spare = self.root / "spare"
        for source, to in ((self[one], spare), (self[other], self[one]), (spare, self[other])):
            source.rename(to)

    def edit(self, step: int, change) -> None:
        """Write a checkpoint's tensors anew."""
        tensors = load_file(self[step] / "model.safetensors")
        change(tensors)
        save_file(tensors, self[step] / "model.safetensors")

    def mix(self, step: int, source, where: str = "layer.1.") -> None:
        """The upper layer of another checkpoint."""
        other = load_file(source / "model.safetensors")
        self.edit(step, lambda tensors: tensors.update({n: t for n, t in other.items() if where in n}))

    def foreign(self, step: int):
        return self.other / "checkpoints" / self[step].name

    def shard(self, step: int) -> None:
        """The same weights in two files with an index."""
        tensors = load_file(self[step] / "model.safetensors")
        (self[step] / "model.safetensors").unlink()
        placed = {name: f"model-{1 + ('layer.1.' in name)}.safetensors" for name in tensors}
        for file in set(placed.values()):
            save_file({n: t for n, t in tensors.items() if placed[n] == file}, self[step] / file)
        (self[step] / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))

    def configure(self, step: int, **changes) -> None:
        config = json.loads((self[step] / "config.json").read_text())
        (self[step] / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.fixture
def steps(runs, tmp_path):
    return Steps(tmp_path / "steps", *runs)


def defects(verdict):
    """Step -> its defects."""
    return {s: {f.defect for f in verdict.of(s)} for s in verdict.steps if verdict.of(s)}


# Clean


def test_a_clean_run(runs):
    for run in runs:
        verdict = plm.audit(plm.trajectory(run))
        assert verdict.clean, str(verdict)
        assert (verdict.steps, verdict.good, verdict.compared) == (STEPS, STEPS, "weights")
        assert str(verdict) == f"audit of {run.name}: 10 checkpoints, compared by weights: no defect."
        assert 0.9 < min(verdict.correlation.values()) < 0.999, "it moved"


def test_parts_of_a_clean_run(steps):
    draw = random.Random(0)
    for _ in range(12):
        some = sorted(draw.sample(STEPS, draw.randint(2, len(STEPS))))
        verdict = plm.audit(plm.trajectory([steps[s] for s in some], some))
        assert verdict.clean, str(verdict)


def test_copying_changes_nothing(steps):
    """Other files, the same tensors; and what transformers writes differently from version to version."""
    for step in STEPS[::2]:
        steps.shard(step)
        steps.configure(step, transformers_version="4.0.0", _name_or_path="somewhere")
    assert plm.audit(plm.trajectory(steps.root)).clean


def test_a_layer_that_is_frozen_at_first_is_no_copy(steps):
    for step in (1, 2, 4):
        steps.mix(step, steps[0], "layer.0.")
    verdict = plm.audit(plm.trajectory(steps.root))
    assert verdict.clean, str(verdict)


# Planted

PLANTED = {
    "a copy of a far step": (lambda s: s.copy(2, 24), {24: {"identical"}}),
    "a copy of the step before": (lambda s: s.copy(24, 32), {32: {"identical"}}),
    "the last step everywhere early": (
        lambda s: [s.copy(48, step) for step in (0, 1, 2)],
        {step: {"identical"} for step in (0, 1, 2)},
    ),
    "step 0 of another training": (lambda s: s.stranger(0), {0: {"unrelated"}}),
    "a middle step of another training": (lambda s: s.stranger(16), {16: {"unrelated"}}),
    "the last step of another training": (lambda s: s.stranger(48), {48: {"unrelated"}}),
    "a shard of another training": (lambda s: s.mix(24, s.foreign(24)), {24: {"mixed"}}),
    "a shard of another training at step 0": (lambda s: s.mix(0, s.foreign(0)), {0: {"mixed"}}),
    "a shard of another training at step 1": (lambda s: s.mix(1, s.foreign(1)), {1: {"mixed"}}),
    "a shard of another training at the end": (lambda s: s.mix(48, s.foreign(48)), {48: {"mixed"}}),
    "a shard of a far step": (lambda s: s.mix(32, s[4]), {32: {"mixed"}}),
    "a shard of the step before": (lambda s: s.mix(32, s[24]), {32: {"mixed"}}),
    "a shard of the last step at step 0": (lambda s: s.mix(0, s[48]), {0: {"mixed"}}),
    "a step that is gone": (lambda s: shutil.rmtree(s[32]), {32: {"missing"}}),
    "two neighbours exchanged": (lambda s: s.exchange(24, 32), {24: {"misnamed"}, 32: {"misnamed"}}),
    "two far ones exchanged": (lambda s: s.exchange(4, 40), {4: {"misnamed"}, 40: {"misnamed"}}),
    "a tensor too few": (lambda s: s.edit(8, lambda t: t.popitem()), {8: {"different"}}),
    "another shape": (
        lambda s: s.edit(8, lambda t: t.update({n: x[:-1].contiguous() for n, x in t.items() if "word" in n})),
        {8: {"different"}},
    ),
    "half precision": (
        lambda s: s.edit(8, lambda t: t.update({n: x.bfloat16() for n, x in t.items()})),
        {8: {"different"}},
    ),
    "another configuration": (lambda s: s.configure(8, num_attention_heads=2), {8: {"different"}}),
    "another step's counter": (
        lambda s: (s[8] / "trainer_state.json").write_text('{"global_step": 9}'),
        {8: {"misnamed"}},
    ),
    "no weights": (lambda s: (s[8] / "model.safetensors").unlink(), {8: {"damaged"}}),
    "not a number": (lambda s: s.edit(8, lambda t: [x.fill_(torch.nan) for x in t.values()]), {8: {"damaged"}}),
    "no configuration": (lambda s: (s[8] / "config.json").unlink(), {8: {"damaged"}}),
    "a broken index": (
        lambda s: [s.shard(8), (s[8] / "model.safetensors.index.json").write_text("{")],
        {8: {"damaged"}},
    ),
    "a shard too few": (lambda s: [s.shard(8), (s[8] / "model-2.safetensors").unlink()], {8: {"damaged"}}),
    "the other shard's tensors": (
        lambda s: [s.shard(8), shutil.copy(s[8] / "model-1.safetensors", s[8] / "model-2.safetensors")],
        {8: {"damaged"}},
    ),
    "all at once": (
        lambda s: [s.stranger(0), s.copy(8, 32), s.mix(16, s.foreign(16)), shutil.rmtree(s[40])],
        {0: {"unrelated"}, 16: {"mixed"}, 32: {"identical"}, 40: {"missing"}},
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defect_is_found_and_nobody_else_is_accused(steps, name):
    plant, expected = PLANTED[name]
    plant(steps)
    verdict = plm.audit(plm.trajectory(steps.root, STEPS))
    assert defects(verdict) == expected, str(verdict)


def test_what_is_said_of_a_copy_and_of_a_shard(steps):
    steps.copy(2, 24)
    steps.mix(40, steps[8])
    said = str(plm.audit(plm.trajectory(steps.root)))
    assert "2 with defects" in said
    assert "step 24: identical: its weights are those of step 2, all of them" in said
    assert "matrices are those of step 8 (bert.encoder.layer.1)" in said


def test_a_step_that_the_schedule_promises(steps):
    verdict = plm.audit(plm.trajectory(steps.root, [*STEPS, 50]))
    assert defects(verdict) == {50: {"missing"}}


# A run of ours knows more of itself


@pytest.fixture
def run(runs, tmp_path):
    """A copy of a run's folder in a store of its own."""
    return shutil.copytree(runs[0], tmp_path / "runs" / runs[0].name)


def checkpoint(run, step):
    return run / f"checkpoints/step_{step:08d}"


def test_every_file_cut_or_flipped_is_noticed(run):
    trajectory = plm.trajectory(run)
    trajectory = dataclasses.replace(trajectory, places=trajectory.places[3:6], expected=None)  # 4, 8, 16
    for file in sorted(checkpoint(run, 8).iterdir()):
        whole = file.read_bytes()
        for spoilt in (
            whole[:-1],
            bytes([whole[0] ^ 1]) + whole[1:],
            whole[:-9] + bytes([whole[-9] ^ 64]) + whole[-8:],
        ):
            file.write_bytes(spoilt)
            verdict = plm.audit(trajectory)
            assert "damaged" in defects(verdict).get(8, ()), (file.name, str(verdict))
            assert set(defects(verdict)) == {8}
        file.write_bytes(whole)
    assert plm.audit(trajectory).clean


def test_a_kept_step_that_is_gone_or_half_written(run):
    shutil.rmtree(checkpoint(run, 1))
    (checkpoint(run, 24) / "manifest.json").unlink()
    verdict = plm.audit(plm.trajectory(run))
    assert defects(verdict) == {1: {"missing"}, 24: {"damaged"}}
    assert "it was not written to its end" in str(verdict)


def test_the_weights_that_the_run_ended_with(run):
    """Small enough a change that the neighbours say nothing, and the manifest agrees."""
    weights = checkpoint(run, 48) / "model.safetensors"
    tensors = load_file(weights)
    for tensor in tensors.values():
        tensor += 1e-6
    files = {p.name: p.read_bytes() for p in checkpoint(run, 48).iterdir() if p.name != "manifest.json"}
    save_file(tensors, weights, metadata={"format": "pt"})
    folder = dataclasses.replace(plm.trajectory(run)).run
    folder.put_checkpoint(48, {**files, "model.safetensors": weights.read_bytes()})
    verdict = plm.audit(plm.trajectory(run))
    assert defects(verdict) == {48: {"misnamed"}}
    assert "not those that the run ended with" in str(verdict)


def test_a_run_that_has_kept_nothing(pretrain, tmp_path):
    with pytest.raises(ValueError, match="has no checkpoint to look at"):
        plm.audit(plm.trajectory(pretrain(), store=tmp_path))
    verdict = plm.audit(plm.trajectory(pretrain(), [0, 2], store=Store.at(tmp_path)))
    assert defects(verdict) == {0: {"missing"}, 2: {"missing"}}


# The hub, asked for hashes


@pytest.fixture
def hub(monkeypatch):
    """A repository whose revisions hold the files that are put here: revision -> name -> hash."""
    revisions: dict[str, dict[str, str]] = {}

    def model_info(self, repo, *, revision, files_metadata):
        if revision not in revisions:
            raise RevisionNotFoundError("404", response=SimpleNamespace(headers={}, request=None))
        return SimpleNamespace(
            siblings=[
                SimpleNamespace(rfilename=name, blob_id=f"blob-{sha}", lfs=SimpleNamespace(sha256=sha))
                for name, sha in revisions[revision].items()
            ]
        )

    def list_repo_refs(self, repo):
        return SimpleNamespace(branches=[SimpleNamespace(name=name) for name in (*revisions, "main")])

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_refs", list_repo_refs)
    return revisions


def test_hashes_on_the_hub(hub):
    """The defects of Pythia: step 0 and 1 the same, and a late shard in a middle step."""
    for step in (0, 1, 1000, 2000, 4000, 5000):
        hub[f"step{step}"] = {f"model-{n}.safetensors": f"{step}.{n}" for n in (1, 2, 3)} | {"README.md": "same"}
    hub["step1"] = hub["step0"]
    hub["step2000"] = hub["step2000"] | {"model-1.safetensors": "5000.1"}
    hub["step5000"] = hub["step5000"]
    verdict = plm.audit(plm.trajectory("EleutherAI/pythia-12b"))
    assert verdict.compared == "hashes"
    assert defects(verdict) == {1: {"identical"}, 3000: {"missing"}, 5000: {"mixed"}}
    assert "1 of 3 files are those of step 2000 (model-1.safetensors)" in str(verdict)


def test_revisions_that_are_not_there_or_are_pickled(hub):
    hub["step0"] = {"model.safetensors": "a"}
    hub["step1"] = {"pytorch_model.bin": "b"}
    verdict = plm.audit(dataclasses.replace(plm.trajectory("owner/model@step{step}"), expected=(0, 1, 2)))
    assert defects(verdict) == {1: {"damaged"}, 2: {"missing"}}
    del hub["step0"]
    assert defects(plm.audit(plm.trajectory("owner/m-{step}@step0", [3]))) == {3: {"missing"}}


def test_downloaded_weights_are_compared(hub, steps, monkeypatch):
    steps.mix(24, steps.foreign(24))
    for step in STEPS:
        hub[f"step{step}"] = {"model.safetensors": str(step)}
    downloaded = lambda repo, *, revision, allow_patterns: str(steps[int(revision.removeprefix("step"))])  # noqa: E731
    monkeypatch.setattr(huggingface_hub, "snapshot_download", downloaded)
    assert plm.audit(plm.trajectory("owner/model")).clean, "hashes alone do not tell"
    verdict = plm.audit(plm.trajectory("owner/model"), fetch=True)
    assert (defects(verdict), verdict.compared) == ({24: {"mixed"}}, "weights")


def test_a_hub_that_does_not_answer(hub, monkeypatch):
    hub["step0"] = {}
    trajectory = plm.trajectory("owner/model")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: 1 / 0)
    with pytest.raises(ValueError, match="owner/model@step0 could not be looked up on the hub"):
        plm.audit(trajectory)


# Holes in regular series


@given(st.integers(600, 9000), st.sampled_from([16, 64, 512]), st.sampled_from([50, 64, 100, 250, 512, 1000]))
def test_schedules_have_no_holes(last, dense, every):
    assert not holes(plm.dense_early(last, dense=dense, every=every))


@pytest.mark.parametrize(
    ("steps", "missing"),
    [
        ((0, 1, 2, 4, 16, 32, 64), {8}),
        ((0, 100, 200, 400, 500), {300}),
        ((0, 100, 200, 500, 600, 700), {300, 400}),
        ((0, 100, 200, 400, 600, 700, 800), {300, 500}),
        ((100, 300, 400, 500), {200}),
        ((0, 20, 40, 60, 100, 200, 300, 400), {80}),  # as MultiBERTs: by 20, then by 100
        ((0, 20, 40, 60, 80, 100, 200, 300, 400), set()),
        ((0, 1000, 2000, 2500), set()),
        ((0, 7, 100), set()),
        ((5,), set()),
    ],
)
def test_holes(steps, missing):
    assert {step for _, _, between in holes(steps) for step in between} == missing


# Distances


def walk(seed, n=12, size=4000, drift=1.0, noise=0.5):
    """Weights that drift and jitter, from an initialisation as large as the way they go."""
    draw = np.random.default_rng(seed)
    way = draw.standard_normal(size) * drift
    moves = draw.standard_normal((n, size)).cumsum(axis=0) * noise
    return (draw.standard_normal(size) * n + np.arange(n)[:, None] * way + moves).astype("f4")


def found(values):
    relations = kinship.relate(values)
    return kinship.odd(relations, np.eye(len(values), dtype=bool))


@given(st.integers(0, 999), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.1, 1.0]), st.integers(2, 12))
def test_a_walk_has_no_odd_member(seed, drift, noise, n):
    assert not found(walk(seed, n, 600, drift, noise))


def test_odd_members_by_kind():
    values = walk(0)
    assert found(np.concatenate([values[:5], walk(1)[:1], values[6:]]))[5].why == "unrelated"
    assert found(values[[0, 1, 2, 8, 4, 5, 6, 7, 9, 10]]) == {3: kinship.Odd("misplaced", 8)}
    exchanged = found(values[[0, 1, 2, 4, 3, 5, 6]])
    assert exchanged == {3: kinship.Odd("exchanged", 4), 4: kinship.Odd("exchanged", 3)}
    odd = values.copy()
    odd[6] += walk(2)[0]
    assert found(odd) == {6: kinship.Odd("unlike")}


def test_what_does_not_move_has_no_relations():
    still = np.ones((3, 100), "f4") * np.arange(100, dtype="f4")
    assert kinship.relate(still) is None
    assert kinship.relate(np.zeros((3, 100), "f4")) is None


# Files


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_sample_is_of_the_tensor(tmp_path, dtype):
    tensor = torch.randn(30, 40).to(dtype)
    save_file({"odd": torch.zeros(3, dtype=torch.uint8), "w": tensor}, tmp_path / "model.safetensors")
    held = stored(tmp_path)["w"]
    assert held.shape == (30, 40)
    assert np.array_equal(sample(held, 1200), tensor.float().flatten().numpy())
    few = sample(held, 100)
    assert len(few) == 100
    assert set(few.tolist()) <= set(tensor.float().flatten().tolist())
    assert np.array_equal(few, sample(held, 100)), "the same elements every time"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda b: b[:4], "within its header"),
        (lambda b: b[:-1], "bytes where its header names"),
        (lambda b: b + b"0", "bytes where its header names"),
        (lambda b: b.replace(b"F32", b"F99"), "broken header"),
        (lambda b: b.replace(b"[2,3]", b"[2,4]"), "broken header"),
        (lambda b: b.replace(b"{", b"[", 1), "broken header"),
    ],
)
def test_a_file_that_is_not_whole(tmp_path, spoil, said):
    save_file({"w": torch.zeros(2, 3)}, tmp_path / "model.safetensors")
    stored(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(spoil((tmp_path / "model.safetensors").read_bytes()))
    with pytest.raises(Damaged, match=said):
        stored(tmp_path)


# What is said


def test_the_verdict_as_table_and_json(steps):
    steps.stranger(0)
    verdict = plm.audit(plm.trajectory(steps.root))
    lines = verdict.table().splitlines()
    assert len(lines) == 1 + len(STEPS)
    assert lines[1].split()[:2] == ["0", "unrelated:"]
    assert [line.split()[-1] for line in lines[2:]] == ["ok"] * (len(STEPS) - 1)
    read = json.loads(verdict.to_json())
    assert (read["clean"], read["findings"][0]["step"], read["findings"][0]["defect"]) == (False, 0, "unrelated")
    assert set(DEFECTS) >= {f["defect"] for f in read["findings"]}
