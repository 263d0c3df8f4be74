"""Several teachers of one student: each of its own text, or all as one; live and stored."""

from __future__ import annotations

import dataclasses
import math
import os

import pytest
import torch
from tiny import SIZES

import plm
from plm import lessons, optim, teachers
from plm.build import Cache, build
from plm.inheritance import Constant, Heaviside, Several, Uniform, inherit, smoothed
from plm.models import shape
from plm.objectives.inherit import Inherit
from plm.objectives.mlm import MaskedLM
from plm.parallel import Scorer
from plm.spec import RunSpec, digest
from plm.step import train_step
from plm.store import Store
from plm.train import Execution, open_stream, train

CPU = torch.device("cpu")
HALF = Constant(0.5)
pytestmark = pytest.mark.usefixtures("short_parts")


@pytest.fixture(scope="session")
def pair(make_bert):
    """Two teachers of different sizes."""
    return tuple(
        plm.external(make_bert(f"teacher{width}", head="BertForMaskedLM", num_hidden_layers=1, intermediate_size=width))
        for width in (48, 64)
    )


@pytest.fixture(scope="session")
def mixed(pretrain, toy_corpus, toy_documents):
    """Makes a run of four steps on two texts, of which the second is read three times as often."""

    def make(**changes):
        return pretrain(text=plm.mixture({toy_corpus: 1, toy_documents: 3}), **changes)

    return make


def said_of(spec, store, step=0):
    """The batch of a step, and what the live teachers of a run say of it."""
    store, cache = Store.at(store), Cache()
    batch = open_stream(spec, store, cache).batch(step)
    return batch, teachers.of(spec, store, cache, CPU).logits(batch)


def test_each_teacher_speaks_of_its_own_text(mixed, pair, tmp_path):
    plain = mixed()
    batch, together = said_of(inherit(plain, Several(pair), HALF), tmp_path)
    alone = [said_of(inherit(plain, teacher, HALF), tmp_path)[1] for teacher in pair]
    texts = batch["text"].tolist()
    assert sorted(texts) == [0, 1, 1, 1]
    ends = (batch["labels"] >= 0).sum(1).cumsum(0).tolist()
    for text, start, end in zip(texts, [0, *ends], ends, strict=False):
        assert end > start
        assert torch.allclose(together[start:end], alone[text][start:end], atol=1e-5)
        assert not torch.allclose(together[start:end], alone[1 - text][start:end], atol=1e-2)


def test_a_mean_is_of_distributions(mixed, pair, tmp_path):
    """Not of logits, which would let one confident teacher veto what another says."""
    plain = mixed()
    _, together = said_of(inherit(plain, Several(pair, "mean"), HALF), tmp_path)
    alone = [said_of(inherit(plain, teacher, HALF), tmp_path)[1].softmax(-1) for teacher in pair]
    assert torch.allclose(together.exp(), (alone[0] + alone[1]) / 2, atol=1e-6)


@pytest.mark.parametrize("by", ["text", "mean"])
@pytest.mark.parametrize(("top_k", "tail"), [(7, True), (0, False)])
def test_stored_lessons_say_what_live_teachers_say(mixed, pair, tmp_path, by, top_k, tail):
    spec = inherit(mixed(dropout=0.0), Several(pair, by), HALF, top_k=top_k, tail=tail)
    found = {}
    for how in ("live", "stored"):
        train(spec, store=tmp_path / how, execution=Execution(teacher=how))
        lines = Store.at(tmp_path / how).run(spec).metrics()
        found[how] = [line["train/inherit"] for line in lines if "train/inherit" in line]
    assert len(found["live"]) == 4
    assert found["stored"] == pytest.approx(found["live"], rel=2e-3)
    assert found["stored"] != found["live"]


def test_other_teachers_have_other_lessons(mixed, pair, tmp_path):
    """And the same in another order, where the order says whose text is whose."""
    store, plain = Store.at(tmp_path), mixed()
    both = (Several(pair), Several(pair[::-1]), Several(pair, "mean"), *pair)
    names = {lessons.Syllabus.of(s, lessons.weights_of(t, store)).name for t in both for s in [inherit(plain, t, HALF)]}
    assert len(names) == len(both)


def test_micro_batches_add_up(mixed, pair, tmp_path):
    """One of them may hold no sequence of a teacher's text."""
    spec, store = inherit(mixed(dropout=0.0), Several(pair), HALF), Store.at(tmp_path)
    updates = []
    for size in (None, 1):
        cache = Cache()
        batch, model = open_stream(spec, store, cache).batch(0), build(spec, store, cache).model.train()
        scorer = Scorer(model, spec.objective, teachers.of(spec, store, cache, CPU))
        optimizer = optim.build(model, spec.optim)
        updates.append(train_step(scorer, optimizer, spec, batch, 0, 1e-3, Execution(micro_batch=size)))
    assert updates[1].parts == pytest.approx(updates[0].parts, rel=1e-5)


def test_each_teacher_reads_its_share(mixed, pair, tmp_path):
    """A quarter and three quarters of two guided steps; in a mean each reads all."""
    plain = train(mixed(), store=tmp_path)
    forward = [MaskedLM().flops_per_token(shape(teacher), 16) for teacher in pair]
    expected = {"text": forward[0] / 4 + 3 * forward[1] / 4, "mean": sum(forward)}
    done = {}
    for by in expected:
        spec = inherit(mixed(), Several(pair, by), Heaviside(plm.steps(2)))
        train(spec, store=tmp_path)
        done[by] = Store.at(tmp_path).run(spec).result()["flops"]
    without = Store.at(tmp_path).run(mixed()).result()["flops"]
    assert {by: (flops - without) / (2 * 4 * 16) for by, flops in done.items()} == pytest.approx(expected)
    assert plain.metrics.keys() >= {"val/perplexity/lines", "val/perplexity/documents"}


def test_teachers_are_parents_and_a_value(mixed, pretrain, pair):
    small = [pretrain(architecture=plm.Bert(**{**SIZES, "num_hidden_layers": 1}, dropout=0.1), seed=s) for s in (3, 4)]
    spec = inherit(mixed(), Several(tuple(run.final for run in small)), HALF)
    assert spec.parents() == tuple(run.final for run in small)
    assert RunSpec.from_json(spec.to_json()) == spec


def test_the_order_counts_only_by_text(pair):
    def name(members, by):
        return digest(Inherit(MaskedLM(), Several(members, by), HALF))

    assert name(pair, "mean") == name(pair[::-1], "mean")
    assert len({name(pair, "mean"), name(pair, "text"), name(pair[::-1], "text")}) == 3


@pytest.mark.parametrize(
    ("members", "by", "said"),
    [
        ((0,), "text", "1 teachers, 1 of them different: a single one is given as it is"),
        ((0, 0), "text", "2 teachers, 1 of them different"),
        ((0, 1, 0), "mean", "3 teachers, 2 of them different: .* in a mean each stands once"),
        ((0, 1), "vote", "several teachers by 'vote': there are text, mean"),
    ],
)
def test_what_are_not_several_is_refused(pair, members, by, said):
    with pytest.raises(ValueError, match=said):
        Several(tuple(pair[i] for i in members), by)


def test_each_text_has_a_teacher(mixed, pretrain, pair):
    for spec, teachers_of_it, texts in ((pretrain(), pair, 1), (mixed(), (*pair, pair[0]), 2)):
        with pytest.raises(ValueError, match=f"{len(teachers_of_it)} teachers, each for .* and {texts} texts"):
            inherit(spec, Several(teachers_of_it), HALF)
    assert inherit(pretrain(), Several(pair, "mean"), HALF).parents() == ()


def test_every_one_is_checked(mixed, pair, make_bert, finetune):
    """The second as the first."""
    other = plm.external(make_bert("larger", head="BertForMaskedLM", vocab_size=66))
    with pytest.raises(ValueError, match="the teacher scores 66 tokens and the student 65"):
        inherit(mixed(), Several((pair[0], other)), HALF)
    with pytest.raises(ValueError, match="predicts no tokens"):
        Inherit(MaskedLM(), Several((pair[0], finetune().final)), HALF)
    with pytest.raises(ValueError, match="a teacher 'bert'"):
        Inherit(MaskedLM(), Several((pair[0], "bert")), HALF)


def test_a_run_goes_on_with_the_lessons_it_began_with(pretrain, pair, tmp_path):
    """Also where narrower ones have been made since, whose rest is added up in another order."""
    spec = inherit(pretrain(), pair[0], HALF, top_k=7, tail=True)
    wide, narrow = Execution(teacher="stored", stored_top_k=30), Execution(teacher="stored")
    train(spec, store=tmp_path, execution=wide)
    (folder,) = (tmp_path / "teachers").iterdir()
    assert folder.name.endswith("-top30")
    (narrower := folder.with_name(folder.name.replace("top30", "top7"))).mkdir()
    train(spec, store=tmp_path, execution=dataclasses.replace(narrow, keep=(2,)))
    assert not list(narrower.iterdir())


def test_as_many_logits_as_there_are_is_all(pretrain, pair, tmp_path):
    spec = inherit(pretrain(duration=plm.steps(1)), pair[0], HALF, top_k=7)
    train(spec, store=tmp_path, execution=Execution(teacher="stored", stored_top_k=1000))
    (folder,) = (tmp_path / "teachers").iterdir()
    assert folder.name.endswith("-all")
    with pytest.raises(ValueError, match="stored_top_k -1"):
        Execution(stored_top_k=-1)


def test_what_killed_makers_left_is_removed(tmp_path):
    """Not what one at work is writing."""

    found = lessons.Lessons.find(tmp_path, lessons.Syllabus({"format": 0}, 50), 5, 0)
    old, new = (found.folder / f".0000000{i}-logits.arrow.{'0' * 32}" for i in (0, 2))
    for path in (old, new, part := found.folder / "00000000-logits.arrow"):
        path.write_bytes(b"")
    for path in (old, part):
        os.utime(path, (0, 0))
    found.tidy()
    assert sorted(p for p in found.folder.iterdir() if p.name != "lessons.json") == [new, part]


def test_a_slow_maker_keeps_its_files(tmp_path):
    """Whoever opens the same lessons meanwhile: an hour and more may lie between two things that a teacher says."""
    found = lessons.Lessons.find(tmp_path, lessons.Syllabus({"format": 0, "batch": [1, 8]}, 50), 5, 0)
    batch = {"input_ids": torch.zeros(1, 8, dtype=torch.long), "labels": torch.zeros(1, 8, dtype=torch.long)}

    def slowly():
        for _ in range(2):
            yield batch, [torch.randn(8, 50)]
            found.tidy()
            for path in found.folder.glob(".*.arrow.*"):
                os.utime(path, (0, 0))

    found.write(0, slowly())
    assert found.measured()["bytes_per_token"] > 0


def test_a_uniform_teacher_smooths_labels(mixed, tmp_path):
    """The gradient of cross-entropy with smoothed targets; its value but for the entropy of what is uniform."""
    draw = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(9, 65, generator=draw), torch.randint(65, (9,), generator=draw)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    spec = smoothed(mixed(), 0.3)
    guided = spec.objective.at(0, batch_size=4, seq_len=16)
    batch, zeros = said_of(spec, tmp_path)
    assert zeros.shape == (int((batch["labels"] >= 0).sum()), 65)
    assert not zeros.any()
    assert guided.weights == {"mlm": 0.7, "inherit": 0.3}
    loss = plm.inheritance_loss(ours, torch.zeros_like(logits), labels, temperature=1.0, rate=0.3)
    expected = torch.nn.functional.cross_entropy(theirs, labels, label_smoothing=0.3)
    assert float((expected - loss).detach()) == pytest.approx(0.3 * math.log(65), rel=1e-5)
    loss.backward()
    expected.backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-7)


def test_smoothed_labels_bear_on_training_alone(mixed, tmp_path):
    """Perplexity is of the labels as they are; there is no teacher that costs or could be stored."""
    plain, spec = mixed(), smoothed(mixed(), 0.3)
    assert smoothed(mixed(), 0.0) == plain
    assert spec.parents() == ()
    assert RunSpec.from_json(spec.to_json()) == spec
    train(plain, store=tmp_path)
    train(spec, store=tmp_path)
    results = [Store.at(tmp_path).run(s).result() for s in (plain, spec)]
    assert results[0]["flops"] == results[1]["flops"]
    assert results[0]["metrics"].keys() == results[1]["metrics"].keys()
    assert results[0]["weights_sha256"] != results[1]["weights_sha256"]
    with pytest.raises(ValueError, match="a uniform teacher says the same of everything"):
        train(smoothed(mixed(seed=1), 0.3), store=tmp_path, execution=Execution(teacher="stored"))
    with pytest.raises(ValueError, match="top_k 5 of a uniform teacher"):
        inherit(plain, Uniform(), HALF, top_k=5)
