"""The objective `inherit`: a teacher that bears on training alone, is only read, and agrees with its student."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import pytest
import torch
import transformers
from test_parallel import NEVER, assert_close, numbers, together
from tiny import SIZES, WORDS, perturbed, save_model, stop_after

import plm
from plm import checkpoint, optim, probe, teachers
from plm.build import Cache, build
from plm.data import tokenizer as tokenizers
from plm.evaluate import evaluate
from plm.inheritance import Constant, Heaviside, Linear
from plm.models import shape
from plm.models.gpt2 import GPT2
from plm.objectives import total
from plm.objectives.clm import CausalLM
from plm.objectives.combined import Sum
from plm.objectives.inherit import Guided, Inherit
from plm.objectives.mlm import MaskedLM
from plm.objectives.nsp import NextSentence
from plm.objectives.sop import SentenceOrder
from plm.parallel import Scorer
from plm.spec import RunSpec, digest
from plm.step import train_step
from plm.store import Store
from plm.train import Execution, Stopped, open_stream, train

CPU = torch.device("cpu")
HALF = Constant(0.5)


@pytest.fixture(scope="session")
def teacher(make_bert):
    """A masked language model, with dropout, of another shape than its students'."""
    return plm.external(make_bert("teacher", head="BertForMaskedLM", num_hidden_layers=1, intermediate_size=48))


@pytest.fixture(scope="session")
def decoder(tmp_path_factory):
    """A causal one."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(**{**SIZES, "num_hidden_layers": 1}, bos_token_id=1, eos_token_id=1)
    model = perturbed(transformers.GPT2LMHeadModel(config))
    return plm.external(save_model(model, tmp_path_factory.mktemp("models") / "decoder"))


@pytest.fixture(scope="session")
def taught(pretrain, teacher):
    """Makes a run of four steps with a teacher."""

    def make(rate=HALF, base=None, by=None, temperature=2.0, top_k=0, **changes):
        objective = Inherit(base or MaskedLM(), by or teacher, rate, temperature, top_k)
        return pretrain(objective=objective, **changes)

    return make


def lines_of(spec, store, **options):
    """The lines of training metrics, by step, the trained run's result, and the hash of its weights."""
    train(spec, store=store, **options)
    run = Store.at(store).run(spec)
    lines = {line["step"]: line for line in run.metrics() if "train/loss" in line}
    return lines, run.result()


def weights_of(spec, store, **options):
    return lines_of(spec, store, **options)[1]["weights_sha256"]


def a_step(spec, store, execution=None, step=0):
    """One update of the run's weights: what it says of itself, its scorer, and the batch."""
    cache = Cache()
    batch, model = open_stream(spec, store, cache).batch(step), build(spec, store, cache).model.train()
    scorer, optimizer = (
        Scorer(model, spec.objective, teachers.of(spec, store, cache, CPU)),
        optim.build(model, spec.optim),
    )
    return train_step(scorer, optimizer, spec, batch, step, spec.optim.lr, execution or Execution()), scorer, batch


# What the teacher changes


def test_without_a_rate_the_run_is_a_plain_one(taught, pretrain, tmp_path):
    """To the bit: the teacher moves no random number. The same as from the step on at which a schedule ends."""
    plain, silent = (lines_of(spec, tmp_path)[1] for spec in (pretrain(), taught(Constant(0.0))))
    assert silent["weights_sha256"] == plain["weights_sha256"]
    assert silent["metrics"] == plain["metrics"]
    assert silent["flops"] == plain["flops"]


def test_everything_that_is_said_of_the_teacher_matters(taught, pretrain, make_bert, tmp_path):
    """No two of these runs make the same of their second batch."""
    runs = [
        pretrain(),
        taught(),
        taught(Constant(0.25)),
        taught(Linear(plm.steps(4))),
        taught(Linear(plm.steps(3))),
        taught(Heaviside(plm.steps(3))),
        taught(temperature=1.0),
        taught(top_k=5),
        taught(top_k=6),
        taught(by=plm.external(make_bert("other", head="BertForMaskedLM"))),
    ]
    store = Store.at(tmp_path)
    made = {(update.loss, update.grad_norm) for update, *_ in (a_step(spec, store, step=1) for spec in runs)}
    assert len({spec.run_id for spec in runs}) == len(runs) == len(made)


@pytest.mark.parametrize("rate", [Linear(plm.steps(3)), Heaviside(plm.steps(2)), Constant(0.3)], ids=repr)
def test_each_step_is_mixed_at_its_rate(taught, tmp_path, rate):
    """Guided steps say both losses; the others are the base's own."""
    spec = taught(rate)
    lines, _ = lines_of(spec, tmp_path)
    assert sorted(lines) == [1, 2, 3, 4]
    for step, line in lines.items():
        share = rate.at(step - 1, batch_size=4, seq_len=16)
        assert ("train/inherit" in line) == ("train/mlm" in line) == (share > 0)
        if share:
            assert line["train/inherit"] > 0.01
            mixed = (1 - share) * line["train/mlm"] + share * line["train/inherit"]
            assert line["train/loss"] == pytest.approx(mixed, rel=1e-6)


def test_control_and_arm_begin_alike_and_see_the_same_batches(taught, pretrain, tmp_path):
    plain, arm = ((open_stream(s, Store.at(tmp_path), Cache()), s) for s in (pretrain(), taught()))
    for step in range(3):
        one, other = plain[0].batch(step), arm[0].batch(step)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    built = [build(spec, Store.at(tmp_path), Cache()).model for _, spec in (plain, arm)]
    assert checkpoint.weights_sha256(built[0]) == checkpoint.weights_sha256(built[1])


def test_perplexity_is_the_base_objectives(taught, tmp_path):
    """Whatever the teacher says."""
    spec, store = taught(Heaviside(plm.steps(4))), Store.at(tmp_path)
    _, result = lines_of(spec, tmp_path)
    plain = dataclasses.replace(spec, objective=MaskedLM(), init=plm.Load(spec.final))
    cache = Cache()
    stream, model = open_stream(plain, store, cache), build(plain, store, cache).model
    assert result["metrics"] == evaluate(Scorer(model, MaskedLM()), plain, stream).metrics
    assert math.log(result["metrics"]["val/perplexity"]) == pytest.approx(result["metrics"]["val/loss"])


# How it is read


@pytest.mark.parametrize("causal", [False, True])
def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it(taught, teacher, decoder, tmp_path, causal):
    """The same positions of the same text, without dropout, each token by its own number; to the last bit but rounding."""
    base, source = (CausalLM(), decoder) if causal else (MaskedLM(), teacher)
    objective = Inherit(base, source, HALF)
    spec = taught(base=base, by=source, architecture=GPT2(**SIZES, dropout=0.1) if causal else None)
    store, cache = Store.at(tmp_path), Cache()
    batch = open_stream(spec, store, cache).batch(0)
    itself = build(dataclasses.replace(spec, init=plm.Load(source)), store, cache).model.eval()
    said = teachers.of(spec, store, cache, CPU)
    alone = base.losses(itself, batch)[base.components[0]].loss
    scored = Guided(objective, 0.5).losses(itself, batch | said(batch))
    assert float(scored["inherit"].loss.detach().abs().max()) < 1e-5
    assert torch.equal(scored[base.components[0]].loss, alone)
    other = build(spec, store, cache).model.eval()
    assert float(Guided(objective, 0.5).losses(other, batch | said(batch))["inherit"].loss.detach().min()) > 0.01


def test_the_teacher_says_what_transformers_makes_it_say(taught, teacher, tmp_path):
    spec, store = taught(), Store.at(tmp_path)
    batch = open_stream(spec, store, Cache()).batch(0)
    model = transformers.AutoModelForMaskedLM.from_pretrained(teacher.path).eval()
    with torch.no_grad():
        theirs = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[batch["labels"] >= 0]
    said = teachers.of(spec, store, Cache(), CPU)(batch)
    assert said.keys() == {"teacher_logits"}
    assert torch.allclose(said["teacher_logits"], theirs, atol=1e-5)


def test_the_teacher_is_only_read(taught, tmp_path):
    """It is no part of what is trained, put into training mode, or spread over a group."""
    spec = taught()
    _, scorer, batch = a_step(spec, Store.at(tmp_path))
    (model,) = scorer.teacher.models
    before = checkpoint.weights_sha256(teachers.of(spec, Store.at(tmp_path), Cache(), CPU).models[0])
    assert not {id(p) for p in model.parameters()} & {id(p) for p in scorer.parameters()}
    assert not scorer.train().teacher.models[0].training
    assert all(p.grad is None for p in model.parameters())
    assert not scorer.teacher(batch)["teacher_logits"].requires_grad
    scorer(batch, spec.objective.at(0, batch_size=4, seq_len=16))["inherit"].loss.sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert checkpoint.weights_sha256(model) == before


@pytest.mark.parametrize("top_k", [0, 7])
def test_micro_batches_add_up(taught, tmp_path, top_k):
    spec, store = taught(top_k=top_k, dropout=0.0), Store.at(tmp_path)
    whole, parts = (a_step(spec, store, Execution(micro_batch=size))[0] for size in (None, 1))
    assert parts.parts == pytest.approx(whole.parts, rel=1e-5)
    assert (parts.loss, parts.grad_norm) == pytest.approx((whole.loss, whole.grad_norm), rel=1e-5)


def test_a_guided_step_is_the_public_loss(taught, tmp_path):
    spec, store = taught(Constant(0.25), dropout=0.0), Store.at(tmp_path)
    step, scorer, batch = a_step(spec, store)
    fresh = build(spec, store, Cache()).model
    logits, labels = MaskedLM().scores(fresh, batch)
    theirs = scorer.teacher(batch)["teacher_logits"]
    assert step.loss == pytest.approx(
        float(plm.inheritance_loss(logits.detach(), theirs, labels, temperature=2.0, rate=0.25)), rel=1e-5
    )


def test_a_component_of_its_own_is_counted_as_the_base_is(taught, tmp_path):
    """The conformance of the objective of a guided step."""
    spec, store = taught(), Store.at(tmp_path)
    guided = spec.objective.at(0, batch_size=4, seq_len=16)
    cache = Cache()
    batch, model = open_stream(spec, store, cache).batch(0), build(spec, store, cache).model.eval()
    scored = guided.losses(model, batch | teachers.of(spec, store, cache, CPU)(batch))
    counts = guided.counts(batch)
    assert set(counts) == set(scored) == set(guided.components) == set(guided.weights) == {"mlm", "inherit"}
    assert all(len(scored[name].loss) == counts[name] > 0 for name in counts)
    assert sum(guided.weights.values()) == 1
    total(guided, scored, counts).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_causal_student_has_a_causal_teacher(taught, pretrain, decoder, tmp_path):
    architecture = GPT2(**SIZES, dropout=0.1)
    runs = [
        pretrain(architecture=architecture, objective=CausalLM()),
        *(taught(r, CausalLM(), decoder, architecture=architecture) for r in (HALF, Constant(0.0))),
    ]
    plain, arm, silent = (a_step(spec, Store.at(tmp_path))[0] for spec in runs)
    assert plain == silent
    assert arm.parts["clm"] == plain.parts["clm"]
    assert arm.loss != plain.loss
    assert arm.grad_norm != plain.grad_norm


def test_a_stopped_run_goes_on_to_the_same_bits(taught, tmp_path):
    """Its rates go by the steps of the whole run."""
    spec = taught(Linear(plm.steps(3)))
    with pytest.raises(Stopped):
        train(spec, store=tmp_path / "parts", should_stop=stop_after(2))
    assert weights_of(spec, tmp_path / "parts") == weights_of(spec, tmp_path / "whole")


def test_a_cooled_down_run_goes_on_with_its_schedule(taught, tmp_path):
    """Its steps are counted from the beginning of the run that it goes on from."""
    trunk = taught(Heaviside(plm.steps(3)), schedule="constant")
    train(trunk, store=tmp_path, execution=Execution(keep=(2,), keep_state=(2,)))
    lines, _ = lines_of(trunk.annealed(2, over=2), tmp_path)
    assert ["train/inherit" in line for _, line in sorted(lines.items())] == [True, False]


def test_two_processes_are_taught_what_one_is(taught, tmp_path):
    """Each by a teacher of its own, their weights whole or sharded."""
    spec = taught(Heaviside(plm.steps(2)), dropout=0.0, duration=plm.steps(3))
    train(spec, store=tmp_path / "one")
    together([(spec, tmp_path / name, NEVER, {"shard": name == "sharded"}) for name in ("two", "sharded")], tmp_path)
    alone = numbers(spec, tmp_path / "one")
    assert ["train/inherit" in line for line in alone[2] if "train/loss" in line] == [True, True, False]
    for name in ("two", "sharded"):
        assert_close(alone, numbers(spec, tmp_path / name))


# What it costs


def test_a_teachers_forward_passes_are_counted_while_it_teaches(taught, pretrain, teacher, tmp_path):
    """Two steps of four."""
    spec = taught(Heaviside(plm.steps(2)))
    plain, arm = (lines_of(s, tmp_path)[1]["flops"] for s in (pretrain(), spec))
    reading = 2 * 4 * 16 * MaskedLM().flops_per_token(shape(teacher), 16)
    assert arm - plain == pytest.approx(reading)


def test_a_run_is_timed_before_its_teacher_exists(taught, pretrain, tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.02)
    spec = taught(by=pretrain(seed=7).final)
    assert probe.probe(spec, Execution(), store=Store.at(tmp_path)).step > 0


# Lineage


def test_a_teacher_is_a_parent(taught, pretrain, tmp_path):
    """Of the plan and of the identity; a run of ours teaches at any step that it keeps."""
    small = pretrain(architecture=plm.Bert(**{**SIZES, "num_hidden_layers": 1}, dropout=0.1), seed=3)
    arms = [taught(by=small.at(step)) for step in (2, 4)]
    assert [arm.parents() for arm in arms] == [(small.at(2),), (small.at(4),)]
    assert arms[0].run_id.startswith("inherit-")
    assert RunSpec.from_json(arms[0].to_json()) == arms[0]
    with pytest.raises(ValueError, match="has no complete checkpoint at step 2; it keeps: none"):
        train(arms[0], store=tmp_path)
    train(small, store=tmp_path, execution=Execution(keep=(2,)))
    one, other = (a_step(arm, Store.at(tmp_path))[0].parts for arm in arms)
    assert one["mlm"] == other["mlm"]
    assert one["inherit"] != other["inherit"]


def test_generations(taught, pretrain):
    """A student teaches in its turn, and its teacher is known of."""
    first = pretrain()
    second = taught(by=first.final)
    third = taught(by=second.final, temperature=1.0)
    assert third.parents() == (second.final,)
    assert third.parents()[0].run.parents() == (first.final,)


IDS = {
    Linear(plm.steps(35)): "e829a6b5ddd3",
    Heaviside(plm.steps(35)): "1a81b7b6eafb",
    Constant(): "7f72655e3bd7",
}


@pytest.mark.parametrize("rate", IDS, ids=repr)
def test_identities_are_for_ever(rate):
    """A new field must be `neutral`, and no default may change."""
    architecture = plm.Bert(**{**SIZES, "vocab_size": 9000}, dropout=0.1)
    run = plm.pretrain(architecture, "world", duration=plm.steps(100), seq_len=16, dtype="float32")
    assert digest(Inherit(MaskedLM(), run.final, rate))[:12] == IDS[rate]
    assert digest(Inherit(MaskedLM(), run.final, rate, 2, 0)) == digest(Inherit(MaskedLM(), run.final, rate))


# What does not fit


def test_a_teacher_of_another_vocabulary_is_refused(taught, teacher):
    with pytest.raises(ValueError, match=r"the teacher scores 65 tokens and the student 66: .* vocab_size=65"):
        taught(architecture=plm.Bert(**{**SIZES, "vocab_size": 66}, dropout=0.1))


@pytest.fixture(scope="session")
def shuffled(make_bert):
    """The teacher's weights with a tokenizer that numbers two of the words the other way."""
    folder = Path(make_bert("shuffled", head="BertForMaskedLM"))
    words = (*WORDS[:-2], WORDS[-1], WORDS[-2])
    for name, data in tokenizers.files(tokenizers.word_level(words)).items():
        (folder / name).write_bytes(data)
    return plm.external(str(folder))


def test_a_teacher_that_numbers_tokens_differently_is_refused(taught, shuffled):
    """As many tokens, other meanings."""
    said = (
        r"do not agree on the vocabulary: token 63 is 'w59' to the teacher and 'w58' to the student \(2 tokens differ\)"
    )
    with pytest.raises(ValueError, match=said):
        taught(by=shuffled)


def test_an_equal_tokenizer_of_another_name_agrees(taught, make_bert):
    assert taught(by=plm.external(make_bert("renamed", head="BertForMaskedLM", hidden_size=16))).parents() == ()


def test_tokenizers_still_to_be_trained_agree_if_they_are_made_alike(taught, pretrain, toy_documents, tmp_path):
    """Others are refused before a teacher is trained for nothing."""
    architecture, store = plm.Bert(**{**SIZES, "vocab_size": 120}, dropout=0.1), Store.at(tmp_path)
    reads = {"architecture": architecture, "vocabulary": "wordpiece:120"}
    same, other = pretrain(**reads), pretrain(**{**reads, "vocabulary": f"wordpiece:120@{toy_documents}"})
    assert taught(by=same.final, **reads).parents() == (same.final,)
    said = r"to be trained on documents \(wordpiece:120:uncased\) and the student's trained on lines \(wordpiece"
    with pytest.raises(ValueError, match=said):
        taught(by=other.final, **reads)
    with pytest.raises(ValueError, match="has no complete checkpoint"):
        train(taught(by=same.final, **reads), store=store)


def test_a_tokenizer_to_be_trained_is_compared_with_a_finished_one_before_a_teacher_is(
    taught, pretrain, make_bert, toy_corpus, tmp_path
):
    """Trained for it, and in memory: planning writes nothing. An external teacher is compared when it teaches."""
    trained = plm.Bert(**{**SIZES, "vocab_size": 120}, dropout=0.1)
    finished = plm.external(make_bert("finished", head="BertForMaskedLM", vocab_size=120))
    own = pretrain(architecture=trained, vocabulary="wordpiece:120")
    theirs = pretrain(architecture=trained, vocabulary=finished)
    for teacher, student in ((own.final, theirs), (theirs.final, own)):
        with pytest.raises(ValueError, match="do not agree on the vocabulary: token"):
            plm.inherit(student, teacher, HALF)
    mismatched = plm.inherit(own, finished, HALF)
    with pytest.raises(ValueError, match="do not agree on the vocabulary: token"):
        train(mismatched, store=tmp_path)
    assert Store.at(tmp_path).run(mismatched).metrics() == []


def test_a_teacher_must_read_as_long_as_its_student(taught, make_bert):
    short = plm.external(make_bert("short", head="BertForMaskedLM", max_position_embeddings=12))
    with pytest.raises(ValueError, match="seq_len 16: the teacher reads 12 tokens at most"):
        taught(by=short)


def test_a_teacher_without_a_head_is_refused(taught, tiny_bert, tmp_path):
    with pytest.raises(
        ValueError, match=r"has no head that predicts tokens as objectives/mlm does: cls\.\S+ is missing"
    ):
        train(taught(by=plm.external(tiny_bert)), store=tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": NextSentence()}, "a base of objectives/nsp: a teacher of tokens goes with"),
        ({"base": Sum((MaskedLM(), SentenceOrder()))}, "a base of objectives/combined"),
        ({"teacher": "bert"}, "a teacher 'bert': give a checkpoint"),
        ({"base": CausalLM()}, "bert reads in both directions"),
        ({"temperature": 0.0}, "a temperature of 0.0"),
        ({"top_k": 65}, "top_k 65: the teacher has 65 logits"),
        ({"top_k": -1}, "top_k -1"),
    ],
)
def test_what_cannot_teach_is_refused(teacher, changes, said):
    given = {"base": MaskedLM(), "teacher": teacher, "rate": HALF, **changes}
    with pytest.raises(ValueError, match=said):
        Inherit(**given)


def test_a_fine_tuned_model_teaches_no_tokens(finetune):
    with pytest.raises(ValueError, match=r"trained by objectives/classify and predicts no tokens"):
        Inherit(MaskedLM(), finetune().final, HALF)


def test_a_schedule_that_leaves_the_shares_is_refused(teacher):
    """Whoever adds one hears of it at the first step."""

    @dataclasses.dataclass(frozen=True)
    class Rising(Linear):
        kind = "inheritance:rising"

        def at(self, step, *, batch_size, seq_len):
            return 1.0 + step

    objective = Inherit(MaskedLM(), teacher, Rising(plm.steps(2)))
    with pytest.raises(ValueError, match=r"an inheritance rate of 2\.0"):
        list(itertools.islice((objective.at(s, batch_size=4, seq_len=16) for s in itertools.count()), 2))
