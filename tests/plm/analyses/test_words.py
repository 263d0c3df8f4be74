"""Words by part of speech: which pieces are a word's, when it is right, and what that is held against."""

from __future__ import annotations

import pytest
import torch
from subjects import pieces, sentencepieces, subject, words
from tiny import WORDS

from plm import inference
from plm.analyses.prediction import Prediction
from plm.analyses.reconstruction import Reconstruction
from plm.data.gold import aligned, tagged
from plm.models import architecture, shape
from plm.slots import fill, slots
from plm.words import cut, summary

CLS, SEP, MASK = 2, 3, 4
SENTENCES = (
    (["the", "unknowables", "sat", "."], ["DET", "NOUN", "VERB", "PUNCT"], ["", "", "VBD", ""]),
    (["the", "cats", "know", "the", "mat"], ["DET", "NOUN", "VERB", "DET", "NOUN"], ["", "", "VBP", "", ""]),
)


@pytest.fixture
def gold(tmp_path):
    """Two tagged sentences of word pieces; "know" is not in the vocabulary."""
    rows = [{"tokens": w, "upos": u, "xpos": x} for w, u, x in SENTENCES]
    lines = []
    for row in rows:
        for i, (word, upos, xpos) in enumerate(zip(row["tokens"], row["upos"], row["xpos"], strict=True), 1):
            lines.append("\t".join([str(i), word, "_", upos, xpos or "_", "_", "0", "_", "_", "_"]))
        lines.append("")
    (tmp_path / "test.conllu").write_text("\n".join(lines))
    return tagged(str(tmp_path))


def says(of, ids, positions):
    """The likeliest tokens at some positions of one text, by transformers' own forward."""
    with torch.no_grad():
        return of.model(torch.tensor([ids])).logits[0].argmax(-1)[positions].tolist()


def places(of, sentence):
    return [word.places for word in cut(of, [(0, sentence)])[0].words]


# Pieces


def test_a_word_has_the_pieces_that_stand_in_it():
    of = subject(tokenizer=pieces())
    sentence = aligned(*SENTENCES[0], None)
    assert cut(of, [(7, sentence)])[0].ids == (CLS, 5, 11, 12, 13, 14, 7, 10, SEP)
    assert places(of, sentence) == [(1,), (2, 3, 4, 5), (6,), (7,)]


def test_a_bare_space_belongs_to_the_word_that_it_leads_to():
    """Left visible it would say that a word without a piece of its own for the space follows; it must be right, too."""
    of = subject(tokenizer=sentencepieces())
    sentence = aligned(["the", "cat", "un", "the"], ["DET", "NOUN", "X", "DET"], [""] * 4, None)
    cutting = cut(of, [(0, sentence)])[0]
    assert of.tokenizer.convert_ids_to_tokens(cutting.ids[1:-1]) == ["▁the", "▁", "cat", "▁", "un", "▁the"]
    assert [word.places for word in cutting.words] == [(1,), (2, 3), (4, 5), (6,)]
    statements = [fill("[X] the [Y]", "un", about) for about in ("the", "cat")]
    there, not_one_piece = slots(of, statements)
    assert there is not None
    assert not_one_piece is None
    assert [of.tokenizer.convert_ids_to_tokens(i) for i in (there.target,)] == ["▁the"]


def test_words_that_share_a_piece_cannot_be_scored():
    # "unknow" is un ##know; as two words the second piece is of both, though "un" stands alone
    sentence = aligned(["unk", "now", "cat"], ["X", "X", "NOUN"], ["", "", ""], "unknow cat")
    assert places(subject(tokenizer=pieces()), sentence) == [(), (), (3,)]


def test_unknown_words_and_those_beyond_the_sequence_cannot_be_scored():
    of = subject(tokenizer=pieces(), max_position_embeddings=6)
    sentence = aligned(["dog", "the", "unknowables", "mat"], ["NOUN", "DET", "NOUN", "NOUN"], [""] * 4, None)
    cutting = cut(of, [(0, sentence)])[0]
    assert cutting.ids == (CLS, 1, 5, 11, 12, SEP)
    assert [word.places for word in cutting.words] == [(), (2,), (), ()]


# Right and wrong


def test_a_word_is_right_only_if_all_its_pieces_are(gold):
    analysis = Reconstruction(gold)
    whole = {"un": 11, "##know": 12, "##able": 13, "##s": 14}
    of = subject(tokenizer=pieces())
    rows = {row["id"]: row for row in analysis.rows(of)}
    said = says(of, [CLS, 5, *whole.values(), 7, 10, SEP], slice(1, 8))
    assert rows["0:1"]["right"] == (said[1:5] == [*whole.values()])
    with torch.no_grad():  # a model that repeats what it sees, but for one piece
        of.model.bert = Repeating(len(of.tokenizer))
        of.model.cls.predictions = torch.nn.Identity()
    rows = {row["id"]: row for row in analysis.rows(of)}
    assert all(row["right"] for row in rows.values() if row["pieces"])
    of.model.bert.wrong = whole["##able"]
    rows = {row["id"]: row for row in analysis.rows(of)}
    assert [rows[f"0:{i}"]["right"] for i in range(4)] == [True, False, True, True]
    assert rows["1:2"]["right"] is None  # "know" is unknown
    assert rows["0:1"]["pieces"] == 4


class Repeating(torch.nn.Module):
    """A body whose states say the token that it sees, but for one."""

    def __init__(self, size):
        super().__init__()
        self.size, self.wrong = size, None

    def forward(self, input_ids, **_):
        said = torch.where(input_ids == self.wrong, 0, input_ids) if self.wrong else input_ids
        return (torch.nn.functional.one_hot(said, self.size).float(),)


def test_prediction_hides_all_pieces_of_one_word_at_a_time(gold):
    of = subject(tokenizer=pieces(), seed=3)
    said = says(of, [CLS, 5, MASK, MASK, MASK, MASK, 7, 10, SEP], slice(2, 6))
    seen = []
    plain = inference.outputs

    def watched(subject, sequences, **options):
        seen.extend(sequences)
        return plain(subject, sequences, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "outputs", watched)
        rows = Prediction(gold).rows(of)
    assert (CLS, 5, MASK, MASK, MASK, MASK, 7, 10, SEP) in seen
    assert (CLS, MASK, 11, 12, 13, 14, 7, 10, SEP) in seen
    assert len(seen) == 4 + 4  # a copy for each word that can be scored
    row = next(row for row in rows if row["id"] == "0:1")
    assert row["right"] == (said == [11, 12, 13, 14])


def test_a_causal_model_predicts_each_piece_from_those_before(gold):
    of = subject("GPT2LMHeadModel", tokenizer=pieces(), seed=1)
    rows = {row["id"]: row for row in Prediction(gold).rows(of)}
    said = says(of, [CLS, 5, 11, 12, 13, 14, 7, 10, SEP], slice(0, 7))
    assert [rows[f"0:{i}"]["right"] for i in range(4)] == [
        said[0] == 5, said[1:5] == [11, 12, 13, 14], said[5] == 7, said[6] == 10,
    ]  # fmt: skip
    with torch.no_grad():  # one that always says "the"
        of.model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(of.model.lm_head.weight))
        of.model.lm_head.bias = torch.nn.Parameter(torch.nn.functional.one_hot(torch.tensor(5), 15).float())
    rows = [row for row in Prediction(gold).rows(of) if row["pieces"]]
    assert [row["right"] for row in rows] == [row["word"] == "the" for row in rows]


def test_reconstruction_refuses_what_reads_left_to_right(gold):
    with pytest.raises(ValueError, match=r"gpt2 reads from left to right .* analyses/prediction"):
        Reconstruction(gold).check(shape(architecture("gpt2-xl")))


@pytest.mark.parametrize("analysis", [Reconstruction, Prediction])
def test_company_does_not_matter(analysis, gold, monkeypatch):
    of = subject(tokenizer=pieces(), seed=5)
    together = analysis(gold).rows(of)
    monkeypatch.setattr(inference.by_length, "__defaults__", (1,))
    assert analysis(gold).rows(of) == together
    assert any(row["right"] is not None for row in together)


# What it is held against


def row(tag, right, word="w", form="", pieces=1, guess=False, form_guess=None):
    return {
        "sentence": 0, "tag": tag, "form": form, "word": word, "right": right, "pieces": pieces, "guess": guess,
        "form_guess": (form_guess or False) if form else None, "log_count": 1.0, "log_types": 0.0, "mean_id": 5.0,
        "frequency": None, "before": None, "after": None,
    }  # fmt: skip


def test_a_summary_is_by_tag_and_by_form_of_verb():
    found = summary(
        [
            row("DET", True, "the", guess=True),
            row("DET", True, "a"),
            row("NOUN", False, "cats", pieces=2),
            row("NOUN", True, "cat"),
            row("VERB", True, "sat", "VBD", form_guess=True),
            row("VERB", False, "sit", "VB"),
            row("VERB", None, "know", "VB", pieces=0),
            row("NOUN", False, "cats", pieces=2),
        ]
    )
    assert found["accuracy"] == pytest.approx(4 / 7)
    assert found["macro"] == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)
    assert found["left_out"] == pytest.approx(1 / 8)
    assert (found["accuracy/DET"], found["guess/DET"], found["words/DET"]) == (1, 0.5, 2)
    assert (found["accuracy/NOUN"], found["single/NOUN"], found["types/NOUN"]) == (pytest.approx(1 / 3), 1, 2)
    assert (found["accuracy/VBD"], found["accuracy/VB"], found["words/VB"]) == (1, 0, 1)
    assert (found["guess/VBD"], found["guess/VB"], found["guess/VERB"]) == (1, 0, 0)
    assert not {name for name in found if name.startswith(("adjusted", "effect"))}


def test_the_guess_is_the_commonest_word_of_the_reference(tmp_path):
    def write(name, *words):
        rows = [{"tokens": [w], "upos": ["NOUN"], "xpos": ["NN"], "text": w} for w in words]
        import pyarrow as pa
        import pyarrow.parquet

        pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")

    write("train", "W03", "w03", "w03", "w04")
    write("test", "w04", "w04", "w03")
    rows = Reconstruction(tagged(str(tmp_path))).rows(subject(tokenizer=words(WORDS)))
    assert [r["guess"] for r in rows] == [False, False, True]  # not the commonest of what is scored
    assert {r["form_guess"] for r in rows} == {None}
    assert [round(r["log_count"], 3) for r in rows] == [0.693, 0.693, 1.386]
    assert [r["mean_id"] for r in rows] == [9, 9, 8]
    assert summary(rows)["guess/NOUN"] == pytest.approx(1 / 3)


def test_a_guess_is_as_right_as_the_tokenizer_can_see(tmp_path):
    """Of `The` and `the` a model that ignores case has one; to one that does not, a guess of the other is wrong."""

    def write(name, *words):
        lines = ["\t".join(["1", w, "_", "VERB", form, "_", "0", "_", "_", "_"]) + "\n" for w, form in words]
        (tmp_path / f"{name}.conllu").write_text("\n".join(lines))

    write("train", *[("the", "VBD")] * 3, ("THE", "VBZ"), ("cat", "VBZ"), ("cat", "VBZ"))
    write("test", ("The", "VBD"), ("the", "VBD"), ("cat", "VBZ"), ("the", "VBZ"))
    data = tagged(str(tmp_path))
    ignores = Reconstruction(data).rows(subject(tokenizer=pieces()))
    assert [r["guess"] for r in ignores] == [True, True, False, True]
    assert [r["form_guess"] for r in ignores] == [True, True, True, False]
    sees = Reconstruction(data).rows(subject(tokenizer=words(("the", "The", "cat"))))
    assert [r["guess"] for r in sees] == [False, True, False, True]
    assert summary(sees)["guess/VBD"] == 0.5


def test_one_computation_has_one_spelling(gold):
    assert Reconstruction(gold, size=2, seed=4) == Reconstruction(gold)
    assert Reconstruction(gold, size=1, seed=4).seed == 4
    assert Prediction(gold).fewer(1).size == 1
    with pytest.raises(ValueError, match="0 sentences"):
        Prediction(gold, size=0)


def test_fewer_sentences_are_among_more(tmp_path):
    lines = ["\t".join(["1", f"w{i}", "_", "NOUN", "NN", "_", "0", "_", "_", "_"]) + "\n" for i in range(60)]
    (tmp_path / "all.conllu").write_text("\n".join(lines))
    data = tagged(str(tmp_path / "all.conllu"))
    few, more = ({number for number, _ in data.sentences(size, 3)} for size in (10, 40))
    assert few < more
    assert few != {number for number, _ in data.sentences(10, 4)}
    assert [number for number, _ in data.sentences()] == list(range(60))
    with pytest.raises(ValueError, match=r"61 sentences of all\.conllu: there are 60"):
        data.sentences(61)
