"""Minimal pairs: what is read, what is drawn, and how preferences become numbers."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from subjects import subject, words
from tiny import SIZES

from plm.analyses.minimal_pairs import MinimalPairs, preference
from plm.data.agreement import PARADIGMS, draw
from plm.data.minimal import paradigms
from plm.data.world import World
from plm.models import shape
from plm.models.bert import Bert
from plm.models.gpt2 import GPT2
from plm.spec import decode, digest, encode

WORLD = World(seed=5, num_documents=10)


def table(path, count=30):
    """Two paradigms of one field and one of another, in BLiMP's columns."""
    rows = [
        {
            "sentence_good": f"w01 w{i:02}", "sentence_bad": f"w01 w{i + 1:02}", "UID": uid,
            "field": "syntax" if uid != "c" else "semantics", "linguistics_term": f"term of {uid}",
        }
        for i in range(count) for uid in "abc"
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def row(paradigm, score, field="f"):
    return {"paradigm": paradigm, "score": score, "field": field, "term": "t", "unknown": 0}


def test_a_preference_has_ties():
    assert [preference(-3.0, -4.0), preference(-4.0, -3.0), preference(-3.0, -3.00001)] == [1, 0, 0.5]


def test_means_are_over_paradigms_not_over_pairs():
    rows = [row("a", 1.0), row("a", 1.0), row("a", 0.5), row("b", 0.0, "g")]
    found = MinimalPairs(paradigms("world")).summary(rows)
    assert found["accuracy/a"] == pytest.approx(2.5 / 3)
    assert found["accuracy"] == pytest.approx(2.5 / 6)
    assert found["stderr"] == pytest.approx(2.5 / 6)  # two means, each that far from their middle
    assert found["ties"] == 0.25
    assert found["chance/g"] == found["chance"] == 0.5
    assert (found["accuracy/g"], found["accuracy/t"]) == (0, pytest.approx(2.5 / 6))


def test_pairs_that_do_not_fit_are_left_out(tmp_path):
    rows = [
        {"sentence_good": "w01 " * n, "sentence_bad": "w02 " * m, "UID": "a"}
        for n, m in ((3, 4), (3, 50), (50, 3), (2, 2))
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    analysis = MinimalPairs(paradigms(str(tmp_path / "t.jsonl")))
    found = analysis.rows(subject())
    assert [r["score"] is None for r in found] == [False, True, True, False]
    assert analysis.summary(found)["left_out"] == 0.5
    assert analysis.summary(found)["accuracy"] == (found[0]["score"] + found[3]["score"]) / 2
    with pytest.raises(ValueError, match=r"no pair of t\.jsonl fits into the 3 tokens"):
        analysis.rows(dataclasses.replace(subject(), seq_len=3))


def test_sentences_that_are_one_to_the_tokenizer_tie():
    data = dataclasses.replace(paradigms("world"), source=WORLD)
    rows = MinimalPairs(data, size=2).rows(subject(tokenizer=words(("the", "."))))
    assert {r["score"] for r in rows} >= {0.5}
    agreement = [r for r in rows if r["paradigm"] == "verb_beside_subject"]
    assert all(r["score"] == 0.5 and r["good"] == r["bad"] and r["unknown"] == 4 for r in agreement)


@pytest.mark.parametrize("head", ["BertForMaskedLM", "GPT2LMHeadModel"])
def test_a_model_that_likes_plural_verbs_is_right_on_plural_subjects_only(head):
    of = subject(head, tokenizer=words(WORLD.vocabulary()))
    verbs = [w for bag in WORLD.lexicon.acting for v in bag.items for w, _ in (v.forms[1],)]
    ids = of.tokenizer.convert_tokens_to_ids(verbs)
    out = of.model.get_output_embeddings()
    with torch.no_grad():
        if out.bias is None:
            out.bias = torch.nn.Parameter(torch.zeros(out.out_features))
        out.bias[ids] += 20.0
    analysis = MinimalPairs(dataclasses.replace(paradigms("world"), source=WORLD), size=20)
    rows = [r for r in analysis.rows(of) if r["paradigm"] == "verb_beside_subject"]
    own = [p for p in analysis.data.pairs(20) if p.paradigm == "verb_beside_subject"]
    plural = {p.id for p in own if p.good.split()[-2] in verbs}
    assert 0 < len(plural) < len(rows)
    assert all(r["score"] == float(r["id"] in plural) for r in rows)


def test_a_subset_is_nested_and_seeded(tmp_path):
    data = paradigms(table(tmp_path / "test.jsonl"))
    few, more, other = (
        {pair.id for pair in data.pairs(size, seed)} for size, seed in ((3, 0), (10, 0), (3, 1))
    )  # fmt: skip
    assert few < more
    assert len(few) == 9
    assert few != other
    assert MinimalPairs(data, seed=4) == MinimalPairs(data)


def test_a_table_is_known_by_its_content(tmp_path):
    here, there = table(tmp_path / "test.jsonl"), table(tmp_path / "other.jsonl")
    one, same = paradigms(str(tmp_path / "test.jsonl")), paradigms(there)
    assert digest(one) == digest(same) != digest(paradigms("world"))
    assert decode(json.loads(json.dumps(encode(one, identity=False)))) == one
    assert paradigms(str(tmp_path)).path == here  # of several tables, the one called test
    pair = one.pairs()[0]
    assert (pair.id, pair.good, pair.bad, pair.field) == ("a/0", "w01 w00", "w01 w01", "syntax")
    (tmp_path / "test.jsonl").write_text((tmp_path / "test.jsonl").read_text().replace("w05", "w06"))
    with pytest.raises(ValueError, match="has changed since the plan was made"):
        one.pairs()


def test_what_is_no_table_of_pairs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no file or folder"):
        paradigms(str(tmp_path / "nothing"))
    (tmp_path / "x.jsonl").write_text('{"sentence_good": "a", "UID": "u"}\n')
    with pytest.raises(ValueError, match=r"column 'sentence_bad' is missing; there are \['sentence_good', 'UID'\]"):
        paradigms(str(tmp_path / "x.jsonl"))
    (tmp_path / "y.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"no single table: it holds x\.jsonl, y\.jsonl"):
        paradigms(str(tmp_path))


# The generated language


@pytest.mark.parametrize("name", PARADIGMS)
def test_the_pairs_of_a_paradigm_differ_in_one_word(name):
    drawn = draw(WORLD, name)
    assert drawn == draw(WORLD, name)
    assert len(set(drawn)) > len(drawn) / 2
    known = set(WORLD.vocabulary())
    for good, bad in drawn:
        differing = [(a, b) for a, b in zip(good.split(), bad.split(), strict=True) if a != b]
        if PARADIGMS[name].field == "agreement":
            assert len(differing) == 1
        assert good != bad
        assert {*good.split(), *bad.split()} <= known


def number_of(lexicon):
    """Word -> number, of nouns, verbs without an object, determiners and auxiliaries."""
    found = {"is": 0, "does": 0, "are": 1, "do": 1, "a": 0, "every": 0, "this": 0, "some": 1, "most": 1, "these": 1}
    for bags in (lexicon.nouns["home"], lexicon.acting):
        for bag in bags:
            for item in bag.items:
                found |= {form: number for number, (form, _) in enumerate(item.forms)}
    return found


def test_acceptable_sentences_agree_and_their_twins_do_not():
    number = number_of(WORLD.lexicon)
    for name, paradigm in PARADIGMS.items():
        if paradigm.field == "agreement":
            for good, bad in draw(WORLD, name):
                at = next(i for i, (a, b) in enumerate(zip(good.split(), bad.split(), strict=True)) if a != b)
                controller = good.split()[at + 1 if name == "determiner_noun" else 1]
                assert number[good.split()[at]] == number[controller] != number[bad.split()[at]]


def test_acceptable_sentences_select_and_their_twins_do_not():
    lexicon = WORLD.lexicon
    kind = {form: n.kind for bag in lexicon.nouns["home"] for n in bag.items for form, _ in n.forms}
    taken = {form: v.kind for bag in lexicon.taking for v in bag.items for form, _ in v.forms}
    for good, bad in draw(WORLD, "verb_and_object"):
        verb = good.split()[1]
        assert kind[good.split()[3]] == taken[verb] is not None
        assert kind[bad.split()[3]] != taken[verb]
        assert verb == bad.split()[1]


def test_the_cost_of_masks_grows_with_the_square_of_the_length():
    analysis = MinimalPairs(dataclasses.replace(paradigms("world"), source=WORLD), size=5)

    masked, causal = (analysis.flops(shape(cls(**SIZES, dropout=0.0))) for cls in (Bert, GPT2))
    assert masked > 3 * causal > 0
    assert analysis.fewer(1).size == 1
