"""The evolution of examples: what is hidden of a sentence, what is said, and how it is written down."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from subjects import pieces, subject, words
from tiny import WORDS

from plm.analyses.evolution import Evolution
from plm.data.gold import tagged

CLS, SEP, MASK = 2, 3, 4
TEXT = "the unknowable cat sat"
IDS = [CLS, 5, 11, 12, 13, 6, 7, SEP]


def says(of, ids, positions):
    with torch.no_grad():
        return of.model(torch.tensor([ids])).logits[0].argmax(-1)[positions].tolist()


def written(of, *groups):
    return " ".join(of.tokenizer.decode(list(group)) for group in groups)


def test_each_word_is_said_seen_and_hidden():
    of = subject(tokenizer=pieces(), seed=2)
    rows = {row["mode"]: row for row in Evolution((TEXT,)).rows(of)}
    assert set(rows) == {"seen", "hidden"}
    places = [[1], [2, 3, 4], [5], [6]]
    seen = [says(of, IDS, own) for own in places]
    hidden = [says(of, [MASK if i in own else piece for i, piece in enumerate(IDS)], own) for own in places]
    for mode, said in (("seen", seen), ("hidden", hidden)):
        right = [one == [IDS[i] for i in own] for one, own in zip(said, places, strict=True)]
        marked = [written(of, one) if ok else f"*{written(of, one)}*" for one, ok in zip(said, right, strict=True)]
        assert rows[mode]["said"] == " ".join(marked)
        assert rows[mode]["right"] == sum(right) / 4
        assert rows[mode]["words"] == 4
    assert Evolution((TEXT,)).summary(list(rows.values()))["accuracy/seen"] == rows["seen"]["right"]


def test_of_a_sentence_with_marks_these_alone_are_hidden_and_asked():
    of = subject(tokenizer=pieces(), seed=2)
    (row,) = Evolution(("the [[unknowable cat]] sat",)).rows(of)
    assert (row["mode"], row["text"], row["words"]) == ("filled", TEXT, 2)
    said = says(of, [CLS, 5, MASK, MASK, MASK, MASK, 7, SEP], slice(2, 6))
    assert row["said"].replace("*", "") == f"the {written(of, said[:3], said[3:])} sat"


def test_a_marked_word_beyond_what_the_model_reads_is_refused():
    of = dataclasses.replace(subject(tokenizer=pieces(), seed=2), seq_len=6)
    (row,) = Evolution(("[[the]] unknowable cat sat",)).rows(of)
    assert row["mode"] == "filled"
    with pytest.raises(ValueError, match=r"beyond the 4 tokens that the model reads\. Shorten it"):
        Evolution(("the unknowable cat [[sat]]",)).rows(of)


def test_what_is_right_stands_without_asterisks():
    of = subject(tokenizer=pieces())
    with torch.no_grad():  # one that always says "the"
        of.model.cls.predictions.decoder.weight.zero_()
        of.model.cls.predictions.bias.copy_(torch.nn.functional.one_hot(torch.tensor(5), 15).float())
    seen, hidden = Evolution(("the cat dog",)).rows(of)
    assert seen["said"] == hidden["said"] == "the *the* [UNK]"  # what the tokenizer does not know is not asked
    assert seen["right"] == hidden["right"] == 0.5


def test_a_causal_model_says_the_next_word():
    of = subject("GPT2LMHeadModel", tokenizer=pieces(), seed=1)
    (row,) = Evolution((TEXT,)).rows(of)
    said = says(of, IDS[:-1], slice(0, 6))
    assert row["mode"] == "next"
    assert row["said"].replace("*", "") == written(of, said[:1], said[1:4], said[4:5], said[5:])


def test_sentences_come_from_a_file_or_from_gold_data(tmp_path):
    (tmp_path / "some.txt").write_text("w01 w02\n\nw03 [[w04]]\nw05\n")
    asked = Evolution.of(str(tmp_path / "some.txt"), size=2)
    assert asked.sentences == ("w01 w02", "w03 [[w04]]")
    rows = asked.rows(subject(tokenizer=words(WORDS)))
    assert [row["id"] for row in rows] == ["0/seen", "0/hidden", "1/filled"]
    lines = ["\t".join(["1", f"w0{i}", "_", "NOUN", "_", "_", "0", "_", "_", "_"]) + "\n" for i in range(5)]
    (tmp_path / "gold.conllu").write_text("\n".join(lines))
    assert len(Evolution.of(str(tmp_path / "gold.conllu"), size=3, seed=1).sentences) == 3
    assert len(Evolution.of(str(tmp_path / "gold.conllu"), size=30).sentences) == tagged(str(tmp_path)).counts[0]
    with pytest.raises(ValueError, match="there is no file"):
        Evolution.of(str(tmp_path / "no.txt"))
    with pytest.raises(ValueError, match="none that is empty"):
        Evolution(("w01", "[[ ]]"))
    with pytest.raises(ValueError, match="has no token"):
        Evolution((" . ", "\u200b")).rows(subject(tokenizer=pieces()))


def test_a_table_goes_through_the_steps_of_each_sentence():
    of, other = (subject(tokenizer=pieces(), seed=seed) for seed in (0, 1))
    analysis = Evolution(("the cat", "a|b [[cat]]"))
    told = analysis.told({64: analysis.rows(other), 0: analysis.rows(of)})
    assert told.count("### ") == 3
    assert "### the cat (seen)" in told
    assert "### a\\|b cat (filled)" in told
    section = told.partition("### the cat (hidden)")[2].partition("###")[0].strip().split("\n")
    assert [line.split("|")[1].strip() for line in section] == ["step", "---", "0", "64"]
    row = next(row for row in analysis.rows(other) if row["id"] == "0/hidden")
    assert section[-1] == f"| 64 | {row['said']} | {row['right']:.0%} |"
