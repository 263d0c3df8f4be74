"""Attention by head, held against what is counted by hand, and against heads whose attention is known."""

from __future__ import annotations

import math

import pytest
import torch
from families import CAUSAL, FAMILIES
from subjects import subject, words
from transformers import AutoModel

from plm import inference
from plm.analyses import Subject
from plm.analyses.attention import PATTERNS, Attention, Places, _row, weights_shown
from plm.analyses.similarity import Similarity
from plm.data.files import files
from plm.data.world import World

WORLD = World(seed=1, num_documents=200)


@pytest.fixture
def corpus(tmp_path):
    """Some lines of three to seven words."""
    lines = [" ".join(f"w{(3 * i + 5 * j) % 55:02}" for j in range(3 + i % 5)) for i in range(12)]
    for split in ("train", "validation"):
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
    return tmp_path


def of_weights(weights, text, causal=False):
    """The row of one head and one sequence."""
    mask = torch.ones(1, len(text), dtype=torch.bool)
    return _row(1, 0, Places(torch.tensor([text]), mask, causal).sums(weights[None, None])[0].tolist())


FRAMED = [False, True, True, True, True, False]
"""Four pieces between two special tokens."""


def shifted(offset):
    """Attention (6, 6) of each piece to the one so far from it, and of those without one to the last token."""
    weights = torch.zeros(6, 6)
    for q in range(6):
        k = q + offset
        weights[q, k if 1 <= k <= 4 else 5] = 1
    return weights


@pytest.mark.parametrize(("offset", "name"), [(-1, "previous"), (1, "next"), (0, "self")])
def test_a_head_that_looks_beside_is_called_so(offset, name):
    row = of_weights(shifted(offset), FRAMED)
    assert row["pattern"] == name
    assert row[name] == 1  # of the pieces that have one there
    assert row["entropy"] == pytest.approx(0)
    assert row["distance"] == abs(offset)
    assert row["separator"] == pytest.approx(0.25 * abs(offset))


def test_attention_to_special_tokens_is_seen_and_taken_off():
    weights = torch.full((6, 6), 0.05)
    weights[:, 0], weights[:, 5] = 0.2, 0.6
    row = of_weights(weights, FRAMED)
    assert (row["first"], row["separator"], row["pattern"]) == (pytest.approx(0.2), pytest.approx(0.6), "separator")
    assert row["entropy"] == pytest.approx(1)  # of what is left, the text gets equal parts
    assert row["broad"] == 1
    assert row["distance"] == row["uniform_distance"] == pytest.approx((6 + 4 + 4 + 6) / 16)
    assert row["uniform_share"] == 0.25
    assert row["pieces"] == 4


def test_what_is_not_asked_for_has_no_number():
    weights = torch.zeros(6, 6)
    weights[:, 0] = 1
    row = of_weights(weights, FRAMED)
    assert row["pattern"] == "first"
    assert row["entropy"] is row["distance"] is None
    found = Attention(WORLD).summary([row])
    assert "entropy/layer_1" not in found
    assert all(math.isfinite(value) for value in found.values())


def test_a_causal_piece_may_attend_to_those_before_it():
    weights = torch.tril(torch.ones(5, 5))
    weights /= weights.sum(-1, keepdim=True)
    row = of_weights(weights, [False, True, True, True, True], causal=True)
    assert row["entropy"] == pytest.approx(1)
    assert row["next"] is None
    assert row["distance"] == pytest.approx((0 + 0.5 + 1 + 1.5) / 4)
    assert row["first"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 4)


@pytest.mark.parametrize("head", ["BertModel", "GPT2Model"])
def test_a_model_is_read_head_by_head(corpus, head, monkeypatch):
    of, analysis = subject(head), Attention(files(str(corpus)))
    rows = analysis.rows(of)
    assert [row["id"] for row in rows] == [f"layer_{layer}/head_{head}" for layer in (1, 2) for head in (0, 1)]
    lines = (corpus / "validation.txt").read_text().split("\n")
    total, count = 0.0, 0
    for line in lines:
        ids = of.tokenizer.convert_tokens_to_ids(line.split())
        ids = [2, *ids, 3]
        with weights_shown(of.model), torch.no_grad():
            weights = of.model(torch.tensor([ids]), output_attentions=True).attentions[1][0, 1]
        for q in range(1, len(ids) - 1):
            after = q + 1 if of.causal else len(ids) - 1
            own = weights[q, 1:after] / weights[q, 1:after].sum()
            if len(own) > 1:
                total, count = total - float((own * own.log()).sum()) / math.log(len(own)), count + 1
    assert rows[3]["entropy"] == pytest.approx(total / count, abs=1e-5)
    assert all(sum(row[name] or 0 for name in ("self", "first", "separator")) <= 1 for row in rows)
    monkeypatch.setattr(inference.by_length, "__defaults__", (1,))
    for one, other in zip(rows, analysis.rows(of), strict=True):
        assert all(one[name] == pytest.approx(other[name], abs=1e-5) for name in one if isinstance(one[name], float))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "electra"])
def test_every_family_shows_its_attention(corpus, family):
    model = AutoModel.from_config(FAMILIES[family].config()).eval()
    tokenizer = words()
    of = Subject(model, tokenizer, 20, family in CAUSAL, torch.device("cpu"))
    rows = Attention(files(str(corpus)), size=3).rows(of)
    assert len(rows) == 8
    assert all(0 < row["entropy"] <= 1 + 1e-6 for row in rows)
    assert all((row["next"] is None) == of.causal for row in rows)
    assert {row["layer"] for row in Similarity(files(str(corpus)), size=3).rows(of)} == {0, 1, 2}


def test_the_model_is_left_as_it_was(corpus):
    of = subject("BertModel")
    before = of.model.config._attn_implementation
    Attention(files(str(corpus)), size=2).rows(of)
    assert of.model.config._attn_implementation == before != "eager"


def test_the_summary_is_by_layer_and_by_head():
    of = subject("BertModel", tokenizer=words(WORLD.vocabulary()))
    analysis = Attention(WORLD, size=5)
    rows = analysis.rows(of)
    found = analysis.summary(rows)
    assert found["distance/layer_2"] == pytest.approx((rows[2]["distance"] + rows[3]["distance"]) / 2)
    assert found["head_first/layer_1/head_1"] == rows[1]["first"]
    assert sum(found[f"heads/{name}"] for name in (*PATTERNS, "broad", "other")) == pytest.approx(1)
    with pytest.raises(ValueError, match="0 documents: it must be at least 1"):
        Attention(WORLD, size=0)
