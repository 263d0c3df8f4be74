"""The loss of every objective beside transformers' own, or beside its definition where transformers has none."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from tiny import SIZES, perturbed
from torch.nn import functional as F

from plm.modeling.electra import ElectraForJointPreTraining
from plm.modeling.replaced import ElectraForReplacedLM
from plm.objectives import IGNORED, total
from plm.objectives.classify import Classify
from plm.objectives.clm import CausalLM
from plm.objectives.combined import Sum
from plm.objectives.mlm import MaskedLM
from plm.objectives.nsp import NextSentence, about
from plm.objectives.replaced import ReplacedLM, copying_loss
from plm.objectives.rtd import ReplacedTokens, sample
from plm.objectives.sop import SentenceOrder


def mean(objective, model, batch):
    return total(objective, objective.losses(model, batch), objective.counts(batch))


def of_family(name, head, **changes):
    """A model without dropout, its weights as if trained."""
    torch.manual_seed(0)
    config = getattr(transformers, name + "Config")(**{**SIZES, "pad_token_id": 0, **changes})
    return perturbed(getattr(transformers, name + head)(config)).eval()


def batch_of(rows=4, width=11, rate=0.3):
    """Token sequences of which the last is shorter; some of them are to be predicted."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 60, (rows, width), generator=draw)
    there = torch.ones_like(ids)
    there[-1, width // 2 :] = 0
    chosen = (torch.rand(ids.shape, generator=draw) < rate) & (there > 0)
    return {
        "input_ids": ids.where(there > 0, 0),
        "attention_mask": there,
        "labels": ids.where(chosen, IGNORED),
    }


def pairs_of(rows=4, width=11):
    batch = batch_of(rows, width)
    segments = (torch.arange(width) > 4).long().expand(rows, width).contiguous() * batch["attention_mask"]
    return batch | {"token_type_ids": segments, "pair_label": torch.arange(rows) % 2}


def same(ours, theirs, model, rel=1e-5):
    """Equal losses and equal gradients."""
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=rel)
    parameters = [p for p in model.parameters() if p.requires_grad]
    for a, b in zip(*(torch.autograd.grad(x, parameters, allow_unused=True) for x in (ours, theirs)), strict=True):
        assert (a is None) == (b is None) or float((a if b is None else b).abs().max()) == 0
        assert a is None or b is None or torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(("num_labels", "labels"), [(3, [0, 2, 1, 2]), (1, [0.5, -1.0, 2.0, 0.0])])
def test_classification_loss_is_transformers_own(num_labels, labels):
    model = of_family("Bert", "ForSequenceClassification", num_labels=num_labels)
    batch = {name: tensor for name, tensor in batch_of().items() if name != "labels"} | {"labels": torch.tensor(labels)}
    ours = mean(Classify(num_labels), model, batch | {"ids": torch.arange(4)})
    same(ours, model(**batch).loss, model)


@pytest.mark.parametrize("family", ["Bert", "Roberta", "Albert", "Electra"])
def test_masked_lm_loss_is_transformers_own(family):
    model, batch = of_family(family, "ForMaskedLM", embedding_size=16), batch_of()
    same(mean(MaskedLM(), model, batch), model(**batch).loss, model)


DECODERS = {
    "GPT2": ("LMHeadModel", {"n_inner": 64, "bos_token_id": 1, "eos_token_id": 1}),
    "OpenAIGPT": ("LMHeadModel", {}),
    "GPTNeoX": ("ForCausalLM", {}),
    "Llama": ("ForCausalLM", {"num_key_value_heads": 2}),
}


@pytest.mark.parametrize("family", DECODERS)
def test_causal_loss_is_transformers_own(family):
    head, changes = DECODERS[family]
    model, objective = of_family(family, head, **changes), CausalLM()
    ids = batch_of()["input_ids"]
    clean = {"input_ids": ids.numpy(), "attention_mask": batch_of()["attention_mask"].numpy()}
    arrays = objective.corrupt(clean, SimpleNamespace(bytes=None), np.random.default_rng(0))
    batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    theirs = model(ids, attention_mask=batch["attention_mask"], labels=ids.where(batch["attention_mask"] > 0, IGNORED))
    same(mean(objective, model, batch), theirs.loss, model)
    assert objective.counts(batch) == {"clm": 3 * 10 + 4}
    assert (clean["input_ids"] == ids.numpy()).all()


def test_a_causal_model_is_told_nothing_of_what_it_predicts():
    """The loss of a token does not depend on the tokens from it on."""
    model, objective = of_family("GPT2", "LMHeadModel", n_inner=64), CausalLM()
    ids = batch_of()["input_ids"][:1]
    losses = []
    for changed in (ids, torch.cat([ids[:, :6], 64 - ids[:, 6:]], 1)):
        labels = changed.clone()
        labels[:, 0] = IGNORED
        batch = {"input_ids": changed, "attention_mask": torch.ones_like(ids), "labels": labels}
        losses.append(objective.losses(model, batch)["clm"].loss)
    assert torch.allclose(losses[0][:5], losses[1][:5])
    assert not torch.isclose(losses[0][5:], losses[1][5:]).any()


@pytest.mark.parametrize("objective", [NextSentence(), SentenceOrder()], ids=lambda o: o.components[0])
def test_pair_loss_is_transformers_own(objective):
    model, batch = of_family("Bert", "ForNextSentencePrediction"), pairs_of()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    same(mean(objective, model, batch), model(**inputs, labels=batch["pair_label"]).loss, model)
    flipped = batch | {"pair_label": 1 - batch["pair_label"]}
    one, other = (float(mean(objective, model, b).detach()) for b in (batch, flipped))
    assert one != pytest.approx(other)


@pytest.mark.parametrize(
    ("family", "pair", "label"),
    [("Bert", NextSentence(), "next_sentence_label"), ("Albert", SentenceOrder(), "sentence_order_label")],
)
def test_bert_and_albert_are_sums(family, pair, label):
    model, batch = of_family(family, "ForPreTraining", embedding_size=16), pairs_of()
    objective = Sum((MaskedLM(), pair))
    theirs = model(**{name: t for name, t in batch.items() if name != "pair_label"}, **{label: batch["pair_label"]})
    same(mean(objective, model, batch), theirs.loss, model)


def test_a_sum_reads_the_text_once_and_weighs_its_parts():
    model, batch = of_family("Bert", "ForPreTraining"), pairs_of()
    calls = []
    model.bert.register_forward_hook(lambda *_: calls.append(1))
    one = {
        name: part.loss.detach().mean() for name, part in Sum((MaskedLM(), NextSentence())).losses(model, batch).items()
    }
    assert len(calls) == 1
    weighed = mean(Sum((NextSentence(), MaskedLM()), (3.0, 0.5)), model, batch)
    assert float(weighed.detach()) == pytest.approx(float(0.5 * one["mlm"] + 3 * one["nsp"]), rel=1e-6)


# Replaced-token detection


@pytest.fixture
def joint():
    """A discriminator and a generator half as wide."""
    torch.manual_seed(0)
    config = transformers.ElectraConfig(**SIZES, embedding_size=16, pad_token_id=0, generator_fraction=0.5)
    return perturbed(ElectraForJointPreTraining(config)).eval()


def with_chance(seed=0, rate=0.5):
    batch = batch_of(rate=rate)
    masked = batch["input_ids"].where(batch["labels"] == IGNORED, 4)
    chance = torch.rand(masked.shape, generator=torch.Generator().manual_seed(seed))
    return batch | {"input_ids": masked, "chance": chance}, batch["input_ids"]


@pytest.mark.parametrize("scored", ["all", "chosen"])
def test_replaced_token_loss_is_transformers_own(joint, scored):
    """The generator's as a masked LM, the discriminator's as of `ElectraForPreTraining`; total = MLM + 50 RTD."""
    batch, original = with_chance()
    objective = ReplacedTokens(scored=scored)
    chosen = batch["labels"] != IGNORED
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        logits = joint.generator(**inputs).logits[chosen]
    shown = original.clone()
    shown[chosen] = sample(logits, batch["chance"][chosen])
    replaced = (shown != original).long()
    theirs = transformers.ElectraForPreTraining(joint.config).eval()
    theirs.load_state_dict({n: t for n, t in joint.state_dict().items() if not n.startswith("generator.")})
    judged = chosen if scored == "chosen" else batch["attention_mask"] > 0
    with torch.no_grad():
        output = theirs(shown, attention_mask=batch["attention_mask"], labels=replaced)
    rtd = F.binary_cross_entropy_with_logits(output.logits[judged], replaced[judged].float())
    if scored == "all":
        assert float(rtd) == pytest.approx(float(output.loss), rel=1e-6)
    mlm = joint.generator(**inputs, labels=batch["labels"]).loss.detach()
    found = objective.losses(joint, batch)
    assert objective.counts(batch) == {"generator": int(chosen.sum()), "rtd": int(judged.sum())}
    assert float(found["generator"].loss.detach().mean()) == pytest.approx(float(mlm), rel=1e-5)
    assert float(found["rtd"].loss.detach().mean()) == pytest.approx(float(rtd), rel=1e-5)
    assert float(mean(objective, joint, batch).detach()) == pytest.approx(float(mlm + 50 * rtd), rel=1e-5)
    assert torch.equal(found["rtd"].positive, replaced[judged].bool())


def test_a_sample_that_equals_the_original_counts_as_original(joint):
    """A generator that is certain of the original replaces nothing; certain of another token, everything."""
    batch, _ = with_chance()
    chosen = batch["labels"] != IGNORED
    batch["labels"] = batch["labels"].where(~chosen, 7)
    for certain, positives in ((7, 0), (8, int(chosen.sum()))):
        with torch.no_grad():
            joint.generator.generator_lm_head.bias.zero_()[certain] = 1e4
        found = ReplacedTokens().losses(joint, batch)["rtd"]
        assert int(found.positive.sum()) == positives


def test_no_gradient_goes_through_the_samples(joint):
    """The generator learns from its own loss alone, the discriminator from its own; both move the token embeddings."""
    batch, _ = with_chance()
    found = ReplacedTokens().losses(joint, batch)
    generator = dict(joint.generator.named_parameters())
    words = joint.electra.embeddings.word_embeddings.weight
    own = [p for p in generator.values() if p is not words]
    assert all(
        g is None for g in torch.autograd.grad(found["rtd"].loss.sum(), own, allow_unused=True, retain_graph=True)
    )
    others = [p for n, p in joint.named_parameters() if not n.startswith("generator.") and p is not words]
    nothing = torch.autograd.grad(found["generator"].loss.sum(), others, allow_unused=True, retain_graph=True)
    assert all(g is None for g in nothing)
    for part in found.values():
        assert float(torch.autograd.grad(part.loss.sum(), words, retain_graph=True)[0].abs().max()) > 0


def test_every_parameter_of_a_joint_model_is_trained(joint):
    """Several processes wait for each parameter's gradient."""
    batch, _ = with_chance()
    mean(ReplacedTokens(), joint, batch).backward()
    assert [n for n, p in joint.named_parameters() if p.grad is None] == []


def test_samples_follow_the_generators_distribution():
    """At temperature 1; each token's share within five standard deviations."""
    logits = torch.randn(1, 65, generator=torch.Generator().manual_seed(0)) * 2
    n = 200_000
    drawn = sample(logits.expand(n, -1), torch.rand(n, generator=torch.Generator().manual_seed(1)))
    shares, wanted = np.bincount(drawn.numpy(), minlength=65) / n, logits[0].softmax(0).double().numpy()
    assert (np.abs(shares - wanted) <= 5 * np.sqrt(wanted * (1 - wanted) / n) + 1e-6).all()
    assert int(sample(logits, torch.tensor([0.0]))[0]) == 0
    assert int(sample(logits, torch.tensor([1.0]))[0]) == 64


def test_samples_do_not_depend_on_how_a_batch_is_cut(joint):
    batch, _ = with_chance()
    whole = ReplacedTokens().losses(joint, batch)
    parts = [ReplacedTokens().losses(joint, {n: t[i : i + 1] for n, t in batch.items()}) for i in range(4)]
    for name in whole:
        assert torch.allclose(whole[name].loss, torch.cat([part[name].loss for part in parts]), atol=1e-5)


# Masked language modelling of a generator's text


@pytest.fixture
def replacing():
    """The same with a vocabulary head and a copy mechanism."""
    torch.manual_seed(0)
    config = transformers.ElectraConfig(**SIZES, embedding_size=16, pad_token_id=0, generator_fraction=0.5, copies=True)
    return perturbed(ElectraForReplacedLM(config)).eval()


@pytest.mark.parametrize("scored", ["chosen", "all"])
@torch.no_grad()
def test_the_originals_are_predicted_from_the_generators_text(replacing, scored):
    """Replace MLM: the loss of `ElectraForMaskedLM` on samples; all tokens: of the mixture with a copy, by definition."""
    batch, original = with_chance()
    chosen, there = batch["labels"] != IGNORED, batch["attention_mask"] > 0
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    shown = original.clone()
    shown[chosen] = sample(replacing.generator(**inputs).logits[chosen], batch["chance"][chosen])
    theirs = transformers.ElectraForMaskedLM(replacing.config).eval()
    theirs.load_state_dict(
        {n: t for n, t in replacing.state_dict().items() if not n.startswith(("generator.", "discriminator"))}
    )
    output = theirs(shown, attention_mask=batch["attention_mask"], labels=batch["labels"])
    found = ReplacedLM(scored=scored).losses(replacing, batch)
    if scored == "chosen":
        wanted, guesses, where = output.loss, output.logits.argmax(-1), chosen
    else:
        copy = replacing.discriminator_predictions(replacing.electra(shown, attention_mask=batch["attention_mask"])[0])
        share = copy.sigmoid()[..., None]
        mixture = share * F.one_hot(shown, 65) + (1 - share) * output.logits.softmax(-1)
        wanted = -mixture.gather(-1, original[..., None])[..., 0][there].log().mean()
        guesses, where = mixture.argmax(-1), there
    assert float(found["mlm"].loss.mean()) == pytest.approx(float(wanted), rel=1e-5)
    assert torch.equal(found["mlm"].right, (guesses == original)[where])
    assert ReplacedLM(scored=scored).counts(batch) == {"generator": int(chosen.sum()), "mlm": int(where.sum())}


def test_what_is_certainly_copied_or_certainly_not():
    """A copy that is sure costs nothing where the token is the original, and everything where it is not."""
    scores = torch.zeros(2, 10)
    found = copying_loss(scores, torch.tensor([30.0, 30.0]), torch.tensor([3, 3]), torch.tensor([3, 4]))
    assert float(found.loss[0]) == pytest.approx(0, abs=1e-6)
    assert float(found.loss[1]) == pytest.approx(30 + np.log(10), rel=1e-3)
    assert found.right.tolist() == [True, False]
    written = copying_loss(scores, torch.tensor([-30.0, -30.0]), torch.tensor([3, 3]), torch.tensor([3, 4]))
    assert written.loss.tolist() == pytest.approx([np.log(10)] * 2, rel=1e-3)


# Where nothing is scored, and under bfloat16


def test_a_batch_without_a_masked_token_has_no_loss():
    model, batch = of_family("Bert", "ForMaskedLM"), batch_of(rate=0.0)
    loss = mean(MaskedLM(), model, batch)
    loss.backward()
    nats = MaskedLM().losses(model, batch)["mlm"].loss
    assert (float(loss.detach()), len(nats), MaskedLM().counts(batch)) == (0, 0, {"mlm": 0})


@pytest.mark.parametrize("name", ["mlm", "clm", "sum", "rtd"])
def test_losses_are_float32_under_autocast(name, joint):
    with torch.autocast("cpu", torch.bfloat16):
        scored = {
            "mlm": lambda: MaskedLM().losses(of_family("Bert", "ForMaskedLM"), batch_of()),
            "clm": lambda: CausalLM().losses(of_family("GPT2", "LMHeadModel"), batch_of()),
            "sum": lambda: Sum((MaskedLM(), NextSentence())).losses(of_family("Bert", "ForPreTraining"), pairs_of()),
            "rtd": lambda: ReplacedTokens().losses(joint, with_chance()[0]),
        }[name]()
    assert {part.loss.dtype for part in scored.values()} == {torch.float32}


# What a model or an objective cannot do is said before it is trained


@pytest.mark.parametrize(
    ("model", "objective", "message"),
    [
        ("BertModel", MaskedLM(), "BertModel has no language-modelling head that is known here"),
        ("BertModel", NextSentence(), "BertModel has no head for pairs of segments that is known here"),
    ],
)
def test_an_unknown_head_is_named(model, objective, message):
    with pytest.raises(ValueError, match=message):
        objective.losses(getattr(transformers, model)(transformers.BertConfig(**SIZES)), pairs_of())


@pytest.mark.parametrize(
    ("objective", "family", "message"),
    [
        (MaskedLM(), "gpt2", r"gpt2 reads from left to right: pretrain it with CausalLM\(\)"),
        (CausalLM(), "bert", "bert reads in both directions and would see what it is to predict"),
        (NextSentence(), "roberta", "roberta has no head for pairs of segments: there are bert"),
        (SentenceOrder(), "albert", r"pretrain it with Sum\(\(MaskedLM\(\), SentenceOrder\(\)\)\)"),
        (Sum((MaskedLM(), SentenceOrder())), "electra", "electra has no class with the heads of mlm and sop"),
        (ReplacedTokens(), "bert", "bert has no generator beside it"),
    ],
)
def test_a_family_that_does_not_fit_is_refused(objective, family, message):
    with pytest.raises(ValueError, match=message):
        objective.check(family)


def test_a_model_that_rescales_its_logits_is_refused():
    with pytest.raises(ValueError, match="gemma2 rescales its logits"):
        CausalLM().configure(transformers.Gemma2Config(final_logit_softcapping=30.0))


@pytest.mark.parametrize(
    ("parts", "factors", "message"),
    [
        ((MaskedLM(),), (), "a sum of mlm: add up mlm and one of nsp and sop"),
        ((MaskedLM(), MaskedLM(0.3)), (), "a sum of mlm, mlm"),
        ((NextSentence(), SentenceOrder()), (), "a sum of nsp, sop"),
        ((MaskedLM(), ReplacedTokens()), (), "objectives/rtd cannot be part of a sum"),
        ((MaskedLM(), NextSentence()), (1.0,), r"factors \(1.0,\) for 2 parts"),
        ((MaskedLM(), NextSentence()), (1.0, 0.0), "give each a positive one"),
    ],
)
def test_a_sum_that_makes_no_sense_is_refused(parts, factors, message):
    with pytest.raises(ValueError, match=message):
        Sum(parts, factors)


def test_a_sum_has_one_spelling():
    assert Sum((NextSentence(), MaskedLM()), (2, 1)) == Sum((MaskedLM(), NextSentence()), (1.0, 2.0))
    assert Sum((MaskedLM(), NextSentence())).components == ("mlm", "nsp")


@pytest.mark.parametrize("given", [{"scored": "masked"}, {"weight": 0.0}, {"rate": 0.0}])
def test_replaced_tokens_refuse_what_makes_no_sense(given):
    with pytest.raises(ValueError, match=str(next(iter(given.values())))):
        ReplacedTokens(**given)


# Pairs of segments


def document(count, seed=0, first=5):
    """Sentences of 3 to 8 tokens, each token of its own."""
    draw = np.random.default_rng(seed)
    ends = first + np.cumsum(draw.integers(3, 9, count))
    return [np.arange(start, end) for start, end in zip([first, *ends[:-1]], ends, strict=True)]


def joined(sentences):
    return np.concatenate(sentences).tolist()


@pytest.mark.parametrize("objective", [NextSentence(), SentenceOrder()], ids=lambda o: o.components[0])
def test_every_second_pair_is_wrong(objective):
    draw = np.random.default_rng(0)
    labels = [objective.pair(document(4, i), document(6, i, 10_000), draw)[2] for i in range(4000)]
    assert abs(np.mean(labels) - 0.5) <= 5 * (0.25 / 4000) ** 0.5


@pytest.mark.parametrize("count", [2, 3, 7])
def test_what_pairs_are_made_of(count):
    draw, here, elsewhere = np.random.default_rng(0), document(count), document(9, 1, 10_000)
    cuts = set()
    for _ in range(200):
        first, second, label = SentenceOrder().pair(here, elsewhere, draw)
        assert joined([*second, *first] if label else [*first, *second]) == joined(here)
        assert first
        assert second
        first, second, label = NextSentence().pair(here, elsewhere, draw)
        cuts.add(len(first))
        rest = joined(here)[len(joined(first)) :]
        if label:
            text = joined(second)
            place = joined(elsewhere).index(text[0])
            assert joined(elsewhere)[place : place + len(text)] == text
        else:
            assert joined(second) == rest
        assert joined(first) == joined(here)[: len(joined(first))]
    assert cuts == set(range(1, count))


def test_a_wrong_second_segment_is_about_as_long():
    """So that length does not give it away: on average within a token, of any length within a sentence."""
    draw, differences = np.random.default_rng(0), []
    for i in range(3000):
        length = int(draw.integers(4, 40))
        found = about(document(12, i), length, draw)
        differences.append(len(joined(found)) - length)
    assert abs(np.mean(differences)) < 0.5
    assert max(map(abs, differences)) <= 8


def test_a_short_text_elsewhere_is_taken_whole():
    here = document(2, 0)
    assert joined(about(here, 500, np.random.default_rng(0))) == joined(here)
