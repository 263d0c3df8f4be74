"""World knowledge: what is asked, what is read off, and what guesses it is held against."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from subjects import pieces, subject, words

from plm import inference
from plm.analyses.knowledge import Knowledge, supported
from plm.data.cloze import Cloze, cloze, stated
from plm.data.world import World
from plm.slots import ends_with_object, fill, slots
from plm.spec import decode, digest, encode

CLS, SEP, MASK = 2, 3, 4
CITIES = ("w10", "w11", "w12")


def facts(path, relation="r", pattern="[X] w01 [Y] w02", more=(), **columns):
    """A table of six facts: the object is the first city for four of them."""
    rows = [
        {"relation": relation, "sub_label": f"w2{i}", "obj_label": CITIES[max(0, i - 3)], "template": pattern}
        for i in range(6)
    ]
    rows = [row | {name: values[i] for name, values in columns.items()} for i, row in enumerate(rows)] + list(more)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def patterns(path, *own):
    path.write_text("".join(json.dumps({"relation": "r", "pattern": pattern}) + "\n" for pattern in own))
    return str(path)


def said(of, ids, position):
    """Log-probabilities at a position of one text, by transformers' own forward."""
    with torch.no_grad():
        return of.model(torch.tensor([ids])).logits[0, position].log_softmax(-1)


# Questions


def test_a_statement_remembers_where_subject_and_object_stand():
    statement = fill("[Y] is the place of [X] .", "a cat", "mat")
    assert statement.text == "mat is the place of a cat ."
    assert statement.text[slice(*statement.subject)] == "a cat"
    assert statement.text[slice(*statement.object)] == "mat"


def test_a_slot_hides_the_object_and_once_more_the_whole_subject():
    # the un ##know ##able cat sat on mat .
    slot = slots(subject(tokenizer=pieces()), [fill("the [X] sat on [Y] .", "unknowable cat", "mat")])[0]
    assert slot.ids == (CLS, 5, 11, 12, 13, 6, 7, 8, MASK, 10, SEP)
    assert (slot.position, slot.target) == (8, 9)
    assert slot.without_subject == ((CLS, 5, MASK, 7, 8, MASK, 10, SEP), 5)


def test_only_known_objects_of_one_piece_are_asked_for():
    of = subject(tokenizer=pieces())
    found = slots(of, [fill("the [X] sat on [Y]", "cat", about) for about in ("mat", "cats", "dog", "unknown")])
    assert [slot is not None for slot in found] == [True, False, False, False]


def test_a_causal_slot_ends_before_the_object():
    of = subject("GPT2LMHeadModel", tokenizer=pieces())
    slot = slots(of, [fill("the [X] sat on [Y] .", "cat", "mat")])[0]
    assert slot == ((CLS, 5, 6, 7, 8), 4, 9, None)


@pytest.mark.parametrize(
    ("pattern", "ends"),
    [("[X] is [Y].", True), ("[X] is [Y] !?", True), ("[X] is [Y] now", False), ("[Y] is [X]", False)],
)
def test_where_the_object_ends_a_statement(pattern, ends):
    assert ends_with_object(pattern) is ends


# Answers


@pytest.mark.parametrize("head", ["BertForMaskedLM", "GPT2LMHeadModel"])
def test_rank_and_probability_by_hand(tmp_path, head):
    of = subject(head)
    rows = Knowledge(cloze(facts(tmp_path / "f.jsonl", pattern="[X] w01 [Y]")), cardinalities=("N-1",)).rows(of)
    token = of.tokenizer.convert_tokens_to_ids
    assert [row["object"] for row in rows] == ["w10"] * 4 + ["w11", "w12"]
    each = []
    for row in rows:
        x, w, y = (token(word) for word in (row["subject"], "w01", row["object"]))
        scores = said(of, [CLS, x, w] if of.causal else [CLS, x, w, MASK, SEP], 2 if of.causal else 3)
        each.append(scores.double().exp())
        assert row["probability"] == pytest.approx(each[-1][y].item(), rel=1e-4)
        assert row["rank"] == 1 + sum(value > scores[y] for value in scores.tolist())
        assert row["typed_rank"] == 1 + sum(scores[token(city)] > scores[y] for city in CITIES)
        assert row["guess"] == of.tokenizer.convert_ids_to_tokens(scores.argmax().item())
    prior = torch.stack(each).mean(0) if of.causal else said(of, [CLS, MASK, w, MASK, SEP], 3).exp()
    for row in rows:
        y = token(row["object"])
        assert row["prior_probability"] == pytest.approx(prior[y].item(), rel=1e-4)
        assert row["prior_rank"] == 1 + sum(value > prior[y] for value in prior)
    assert [row["commonest"] for row in rows] == [True] * 4 + [False] * 2


def test_company_does_not_matter(tmp_path, monkeypatch):
    analysis, of = Knowledge(cloze(facts(tmp_path / "f.jsonl"))), subject()
    together = analysis.rows(of)
    monkeypatch.setattr(inference, "BATCH_TOKENS", 1)
    for one, other in zip(together, analysis.rows(of), strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)
        assert one["rank"] == other["rank"]


def test_a_guess_for_the_relation_is_no_knowledge(tmp_path):
    """A model that always says the first city is right as often as the prior and the commonest object are."""
    of = subject()
    with torch.no_grad():
        of.model.get_output_embeddings().bias[of.tokenizer.convert_tokens_to_ids("w10")] += 50
    analysis = Knowledge(cloze(facts(tmp_path / "f.jsonl")))
    found = analysis.summary(analysis.rows(of))
    for name in ("accuracy", "prior_accuracy", "typed_accuracy", "prior_typed_accuracy", "commonest", "accuracy/r"):
        assert found[name] == pytest.approx(4 / 6)
    assert found["above_prior"] == found["typed_above_prior"] == 0


def test_a_model_without_an_opinion_is_never_right(tmp_path):
    of = subject()
    with torch.no_grad():
        for parameter in of.model.parameters():
            parameter.zero_()
    rows = Knowledge(cloze(facts(tmp_path / "f.jsonl"))).rows(of)
    assert all(not row["correct"] and not row["typed_correct"] and row["typed_rank"] == 3 for row in rows)


def test_consistency_is_the_share_of_patterns_that_answer_alike(tmp_path):
    other = patterns(tmp_path / "p.jsonl", "[X]  w01 [Y] w02", "[X] w03 [Y]", "w04 [X] [Y]")
    data = cloze(facts(tmp_path / "f.jsonl") + "+" + other)
    assert data.known().relations["r"].patterns[1:] == ("[X]  w01 [Y] w02", "[X] w03 [Y]", "w04 [X] [Y]")
    of, analysis = subject(seed=3), Knowledge(data)
    rows = analysis.rows(of)
    ids = of.tokenizer.convert_tokens_to_ids(list(CITIES))
    x = of.tokenizer.convert_tokens_to_ids
    for row in rows:
        s = x(row["subject"])
        texts = [
            [s, x("w01"), MASK, x("w02")], [s, x("w01"), MASK, x("w02")], [s, x("w03"), MASK], [x("w04"), s, MASK],
        ]  # fmt: skip
        best = [
            CITIES[said(of, [CLS, *text, SEP], 1 + text.index(MASK))[ids].argmax().item()] for text in texts
        ]  # fmt: skip
        alike = [best[i] == best[j] for i in range(4) for j in range(i)]
        assert row["patterns"] == 4
        assert row["consistency"] == pytest.approx(sum(alike) / 6)
        assert row["paraphrase_correct"] == pytest.approx(sum(b == row["object"] for b in best[1:]) / 3)
    assert analysis.summary(rows)["consistency/r"] == pytest.approx(sum(r["consistency"] for r in rows) / 6)


def test_means_are_over_relations(tmp_path):
    row = {"supported": "", "stated": "", "consistency": None, "paraphrase_correct": None, "probability": 0.1}
    row |= {"typed_correct": True, "prior_typed_correct": False, "commonest": False, "reciprocal_rank": 1.0}
    rows = [row | {"relation": "a", "correct": True, "prior_correct": i < 2} for i in range(4)]
    rows += [row | {"relation": "b", "correct": False, "prior_correct": False, "supported": "support_2_4"}]
    found = Knowledge(Cloze("x")).summary(rows)
    assert (found["accuracy"], found["prior_accuracy"], found["above_prior"]) == (0.5, 0.25, 0.25)
    assert (found["accuracy/support_2_4"], found["facts/support_2_4"]) == (0, 1)
    assert found["stderr/accuracy"] == pytest.approx(0.5)
    assert not {name for name in found if name.startswith(("consistency", "accuracy/rate"))}


def test_support_in_words():
    said = {0: "support_0", 1: "support_1", 3: "support_2_4", 19: "support_5_19", 500: "support_20_up", None: ""}
    assert {count: supported(count) for count in said} == said


# What is left out


def test_subjects_that_name_the_object_are_left_out(tmp_path):
    more = [{"relation": "r", "sub_label": "w20 W11 w21", "obj_label": "w11", "template": "[X] w01 [Y] w02"}]
    analysis = Knowledge(cloze(facts(tmp_path / "f.jsonl", more=more)))
    assert len(analysis.data.facts(analysis.cardinalities)) == 7
    assert {row["id"] for row in analysis.rows(subject())} == {f"r/{i}" for i in range(6)}


def test_relations_with_several_objects_are_left_out(tmp_path):
    more = [{"relation": "r", "sub_label": "w20", "obj_label": "w12", "template": "[X] w01 [Y] w02"}]
    several = cloze(facts(tmp_path / "f.jsonl", more=more))
    assert several.known().relations["r"].cardinality == "N-M"
    assert not several.facts(("1-1", "N-1"))
    assert len(several.facts(("N-M",))) == 7
    assert cloze(facts(tmp_path / "g.jsonl")).known().relations["r"].cardinality == "N-1"
    as_published = {"P27": "N-M", "P36": "1-1", "P103": "N-1"}
    for name, cardinality in as_published.items():
        assert cloze(facts(tmp_path / "h.jsonl", relation=name)).known().relations[name].cardinality == cardinality
    said_so = cloze(facts(tmp_path / "i.jsonl", cardinality=["N-M"] * 6))
    assert said_so.known().relations["r"].cardinality == "N-M"


def test_lamas_relations_are_of_the_published_kinds():
    from plm.data.cloze import N_TO_M, N_TO_ONE, ONE_TO_ONE, PUBLISHED, ClozeFact, _cardinalities

    assert (len(N_TO_M), len(N_TO_ONE), len(ONE_TO_ONE), len(PUBLISHED)) == (16, 23, 2, 41)
    # In LAMA's own facts, too, some places lie in several others: that does not make the relation another.
    several = tuple(
        ClozeFact(str(i), relation, "s", f"o{i}", "[X] w [Y]", *([None] * (len(ClozeFact._fields) - 5)))
        for i, relation in enumerate(("P276", "P276", "Q1", "Q1"))
    )
    assert _cardinalities(several, None) == {"P276": "N-1", "Q1": "N-M"}
    highlighted = {"P140", "P103", "P176", "P138", "P407", "P159", "P276", "P131", "P20", "P127", "P364", "P19", "P30"}
    assert not highlighted & N_TO_M


def test_a_causal_model_is_asked_where_the_object_ends_the_statement(tmp_path):
    of = subject("GPT2LMHeadModel")
    with pytest.raises(ValueError, match=r"none of 6 facts .* no pattern ends with the object"):
        Knowledge(cloze(facts(tmp_path / "f.jsonl"))).rows(of)
    data = cloze(str(tmp_path / "f.jsonl") + "+" + patterns(tmp_path / "p.jsonl", "[Y] w03 [X]", "[X] w04 [Y]"))
    rows = Knowledge(data).rows(of)
    assert {row["pattern"] for row in rows} == {"[X] w04 [Y]"}
    assert len(rows) == 6


def test_a_subset_is_nested_and_does_not_depend_on_the_vocabulary(tmp_path):
    data = cloze(facts(tmp_path / "f.jsonl"))
    few, more = ({fact.id for fact in data.facts(("N-1",), size)} for size in (2, 5))
    assert len(few) == 2
    assert few < more
    rows = Knowledge(data, size=2).rows(subject())
    assert {row["id"] for row in rows} == few
    assert {row["candidates"] for row in rows} == {3}  # of all facts


# Where facts come from


def test_tables_are_known_by_content(tmp_path):
    one = cloze(facts(tmp_path / "f.jsonl", uuid=list("abcdef"), wiki_support=[0, 1, 2, 3, 4, 5]))
    assert [(fact.id, fact.support) for fact in one.known().facts[:2]] == [("r/a", 0), ("r/b", 1)]
    both = cloze(f"{tmp_path / 'f.jsonl'}+{patterns(tmp_path / 'p.jsonl', '[X] w03 [Y]')}")
    assert len({digest(one), digest(both), digest(cloze("world"))}) == 3
    assert decode(json.loads(json.dumps(encode(both, identity=False)))) == both
    patterns(tmp_path / "p.jsonl", "[X] w05 [Y]")
    with pytest.raises(ValueError, match=r"p\.jsonl has changed"):
        both.known()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"template": ["[X] w01"] * 6}, r"pattern '\[X\] w01' must have \[X\] once and \[Y\] once"),
        ({"uuid": ["a"] * 6}, "the same `uuid` twice"),
        ({"cardinality": ["2-3"] * 6}, "cardinality '2-3' is not one of 1-1, N-1, N-M"),
    ],
)
def test_what_is_no_table_of_facts_is_refused(tmp_path, columns, message):
    with pytest.raises(ValueError, match=message):
        cloze(facts(tmp_path / "f.jsonl", **columns))


def test_the_generated_language_knows_how_often_it_states_its_facts():
    world = World(seed=2, num_documents=300)
    data = Cloze(world)
    text = "\n".join(world.text("train"))
    lines = text.split("\n")
    known = data.known().facts
    assert len(known) == len(world.facts())
    for fact in known[::7]:
        assert fact.support == lines.count(f"{fact.subject} {fact.relation} {fact.object} .")
    assert sum(stated(world).values()) == sum(fact.support for fact in known) > 50
    rows = Knowledge(data, size=3).rows(subject(tokenizer=words(world.vocabulary())))
    assert {row["cardinality"] for row in rows} == {"N-1"}
    assert len(rows) == 12
    found = Knowledge(data).summary(rows)
    assert {name.partition("rate_")[2] for name in found if "accuracy/rate_" in name} <= {"0.02", "0.1", "0.4"}
    assert dataclasses.replace(data, source=World(seed=3)) != data
