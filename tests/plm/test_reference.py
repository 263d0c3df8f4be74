"""References: n-grams are asked where the model is, and know what it can know."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny import SIZES

import plm
from plm.data import tokenizer as tokenizers
from plm.data.collate import CorpusStream
from plm.data.corpus import tokenised
from plm.data.sources import mixture
from plm.data.tokenizer import Symbols
from plm.models.albert import Albert
from plm.models.electra import Electra
from plm.models.gpt2 import GPT2
from plm.ngram import NGrams
from plm.objectives import IGNORED
from plm.objectives.clm import CausalLM
from plm.objectives.combined import Sum
from plm.objectives.mlm import MaskedLM
from plm.objectives.nsp import NextSentence
from plm.objectives.rtd import ReplacedTokens
from plm.objectives.sop import SentenceOrder
from plm.reference import causal_nats, masked_nats, ngram_nats
from plm.store import Store

V, MASK, PAD = 9, 4, 0
SYMBOLS = Symbols(
    size=V,
    special=np.arange(V) < 5,
    continues=np.zeros(V, bool),
    pad=PAD,
    cls=2,
    sep=3,
    mask=MASK,
    bos=None,
    eos=None,
)
TEXT = np.random.default_rng(0).choice([3, 5, 6, 7, 8], 500, p=[0.1, 0.4, 0.2, 0.2, 0.1])


def hidden(row, at):
    """A sequence of which the tokens `at` some places are to be predicted; the mask is shown there."""
    ids = np.array([row])
    labels = np.full_like(ids, IGNORED)
    labels[0, at] = ids[0, at]
    ids[0, at] = MASK
    return ids, labels


def test_causal_tokens_are_asked_after_those_before_them():
    model = NGrams([TEXT], V, 3)
    row = [5, 6, 5, 7]
    labels = np.array([[IGNORED, 6, 5, 7]])
    wanted = [-math.log(model.after(row[:t])[row[t]]) for t in (1, 2, 3)]
    assert causal_nats(model, np.array([row]), labels).tolist() == pytest.approx(wanted)


def test_masked_tokens_are_asked_between_their_neighbours():
    model, masking = NGrams([TEXT], V, 3), MaskedLM()
    ids, labels = hidden([5, 6, 7, 5, 8, 6], [2])
    likely = model.posterior([5, 6], [5, 8]) * ~SYMBOLS.special
    assert masked_nats(model, ids, labels, SYMBOLS, masking)[0] == pytest.approx(-math.log(likely[7] / likely.sum()))
    left = model.after([5, 6]) * ~SYMBOLS.special
    found = masked_nats(model, ids, labels, SYMBOLS, masking, "left")
    assert found[0] == pytest.approx(-math.log(left[7] / left.sum()))


def test_masks_and_padding_end_the_context():
    model, masking = NGrams([TEXT], V, 3), MaskedLM()
    ids, labels = hidden([5, 6, 7, 5, 8, PAD], [1, 2, 4])
    nats = masked_nats(model, ids, labels, SYMBOLS, masking)
    for found, (token, left, right) in zip(nats, [(6, [5], []), (7, [], [5]), (8, [5], [])], strict=True):
        likely = model.posterior(left, right) * ~SYMBOLS.special
        assert found == pytest.approx(-math.log(likely[token] / likely.sum()))


def test_a_token_that_shows_itself_is_likelier():
    """By Bayes: shown itself in 10% of the cases, a random token in 10%, each of V alike."""
    model, masking = NGrams([TEXT], V, 1), MaskedLM()
    ids, labels = hidden([5, 8, 6], [1])
    prior = model.after([]) * ~SYMBOLS.special
    prior /= prior.sum()
    for shown, label in ((8, 8), (5, 8)):
        ids[0, 1], labels[0, 1] = shown, label
        own = np.where(np.arange(V) == shown, 0.1 + 0.1 / V, 0.1 / V)
        wanted = -math.log(prior[label] * own[label] / (prior * own).sum())
        assert masked_nats(model, ids, labels, SYMBOLS, masking)[0] == pytest.approx(wanted)
    ids[0, 1], labels[0, 1] = 8, 8
    certain = masked_nats(model, ids, labels, SYMBOLS, ReplacedTokens().masking)
    assert certain[0] == pytest.approx(0)  # without random tokens, what is shown is true


def test_a_stranger_is_never_what_strangers_are_not_drawn_from():
    """Drawn from text alone, a stranger is one of V - 5."""
    model = NGrams([TEXT], V, 1)
    ids, labels = hidden([5, 8, 6], [1])
    ids[0, 1], labels[0, 1] = 5, 8
    prior = model.after([]) * ~SYMBOLS.special
    for strangers, choices in (("any", V), ("text", V - 5)):
        chance = np.where(np.arange(V) == 5, 0.1, 0) + 0.1 / choices
        wanted = -math.log(prior[8] * chance[8] / (prior * chance).sum())
        found = masked_nats(model, ids, labels, SYMBOLS, MaskedLM(strangers=strangers))
        assert found[0] == pytest.approx(wanted)


RUNS = {
    "mlm": {},
    "clm": {"architecture": GPT2(**SIZES, dropout=0.0), "objective": CausalLM()},
    "rtd": {
        "architecture": Electra(**SIZES, embedding_size=16, generator_fraction=0.5, dropout=0.0),
        "objective": ReplacedTokens(),
    },
    "albert": {
        "architecture": Albert(**SIZES, embedding_size=16, sharing="all", dropout=0.0),
        "objective": Sum((MaskedLM(), SentenceOrder())),
        "seq_len": 24,
    },
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_has_references(name, pretrain, toy_documents, tmp_path):
    """Better than guessing, and pairs better than single tokens in a language whose words follow from each other."""
    spec = pretrain(text=toy_documents, **RUNS[name])
    found = [ngram_nats(spec, tmp_path, n) for n in (1, 2)]
    assert 0 < found[1] < found[0] < math.log(65)


def test_the_unigram_is_the_frequency_of_words(pretrain, toy_documents, tmp_path):
    """Counted here from the files by another way: nats per token of a causal model, almost without smoothing."""
    spec = pretrain(text=toy_documents, **RUNS["clm"])
    folder = Store.at(tmp_path).root / "data"
    tokens = tokenised(spec.data, "train", folder).tokens
    counts = np.bincount(tokens.read("token", 0, len(tokens)), minlength=65) + 0.01
    batches = list(CorpusStream(spec, folder).evaluation())
    labels = torch.cat([b["labels"][b["labels"] != IGNORED] for b in batches]).numpy()
    assert ngram_nats(spec, tmp_path, 1) == pytest.approx(-np.log(counts / counts.sum())[labels].mean(), abs=0.03)
    assert tokenizers.symbols(spec.data.tokenizer(folder)).size == 65


def test_the_parts_of_a_mixture_count_by_their_weights(tiny_bert, tmp_path):
    """A long text of words 0 to 9 and a short one of words 10 to 19, which makes up most of what is read."""
    parts = {}
    for name, first, lines in (("long", 0, 400), ("short", 10, 40)):
        folder = tmp_path / name
        folder.mkdir()
        draw = np.random.default_rng(first)
        for split in ("train", "validation"):
            rows = [" ".join(f"w{first + i:02}" for i in draw.integers(0, 10, 8)) for _ in range(lines)]
            (folder / f"{split}.txt").write_text("\n".join(rows))
        parts[str(folder)] = {"long": 1, "short": 9}[name]
    spec = plm.pretrain(
        GPT2(**SIZES, dropout=0.0),
        mixture(parts),
        objective=CausalLM(),
        vocabulary=tiny_bert,
        duration=plm.steps(1),
        seq_len=16,
    )
    batches = [b["labels"] for b in CorpusStream(spec, Store.at(tmp_path).root / "data").evaluation()]
    labels = torch.cat([b.flatten() for b in batches])
    shares = torch.bincount(labels[labels != IGNORED], minlength=65) / (labels != IGNORED).sum()
    entropy = -float((shares[shares > 0] * shares[shares > 0].log()).sum())
    found = ngram_nats(spec, tmp_path, 1)
    counts = dict.fromkeys(range(65), 0.0)
    for part, weight in zip(spec.data.parts, spec.data.weights, strict=True):
        tokens = tokenised(part, "train", Store.at(tmp_path).root / "data").tokens
        for token, n in zip(*np.unique(tokens.read("token", 0, len(tokens)), return_counts=True), strict=True):
            counts[int(token)] += weight * n / len(tokens)
    likely = torch.tensor([counts[t] for t in range(65)])[labels[labels != IGNORED]]
    assert found == pytest.approx(-float(likely.log().mean()), abs=0.03)
    assert entropy <= found + 0.01


@pytest.mark.parametrize(
    ("objective", "message"), [(NextSentence(), "objectives/nsp predicts no tokens that n-grams could predict")]
)
def test_what_predicts_no_tokens_has_none(objective, message, pretrain, toy_documents, tmp_path):
    with pytest.raises(ValueError, match=message):
        ngram_nats(pretrain(text=toy_documents, objective=objective), tmp_path, 1)


def test_fine_tuning_has_none(finetune, tmp_path):
    with pytest.raises(ValueError, match="predicts no tokens"):
        ngram_nats(finetune(), tmp_path, 1)


def test_other_sides_are_refused(pretrain, tmp_path):
    with pytest.raises(ValueError, match="'right': there are both and left"):
        ngram_nats(pretrain(), tmp_path, 1, sides="right")
