"""Tagged sentences: what is read from files and from the generated language, and what identifies it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet
import pytest

from plm.data import gold
from plm.data.gold import aligned, tagged
from plm.data.world import World
from plm.spec import digest

CONLLU = """# sent_id = 1
# text = Don't gonna (stop).
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVBP\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3-4\tgonna\t_\t_\t_\t_\t_\t_\t_\t_
3\tgon\tgo\tVERB\tVBG\t_\t0\troot\t_\t_
4\tna\tto\tPART\tTO\t_\t6\tmark\t_\t_
5\t(\t(\tPUNCT\t-LRB-\t_\t6\tpunct\t_\t_
6\tstop\tstop\tVERB\t_\t_\t3\txcomp\t_\t_
6.1\tit\tit\tPRON\tPRP\t_\t_\t_\t_\t_
7\t)\t)\tPUNCT\t-RRB-\t_\t6\tpunct\t_\t_
8\t.\t.\tPUNCT\t.\t_\t3\tpunct\t_\t_

1\tOther\tother\tADJ\tJJ\t_\t0\troot\t_\t_"""


def write(path, *rows):
    pa.parquet.write_table(pa.Table.from_pylist(list(rows)), path)


def one(*words, tag="NOUN", **more):
    return {"tokens": list(words), "upos": [tag] * len(words), "xpos": ["NN"] * len(words), **more}


def test_a_conllu_file_gives_syntactic_words_where_they_stand(tmp_path):
    (tmp_path / "en-ud-test.conllu").write_text(CONLLU)
    data = tagged(str(tmp_path))
    (_, first), (_, second) = data.sentences()
    assert first.words == ("Do", "n't", "gon", "na", "(", "stop", ")", ".")
    assert first.spans[:4] == ((0, 2), (2, 5), (6, 9), (9, 11))
    assert first.upos[:3] == ("AUX", "PART", "VERB")
    assert first.xpos[5] == ""
    assert (second.text, second.words) == ("Other", ("Other",))
    assert data.counts == (2, 9)


def test_words_that_are_not_in_the_text_are_joined_by_spaces():
    found = aligned(["wo", "not"], ["AUX", "PART"], ["MD", "RB"], "won't")
    assert (found.text, found.spans) == ("wo not", ((0, 2), (3, 6)))
    assert aligned(["b"], ["X"], [""], "a b").text == "b"  # nothing but space may be skipped


def test_of_a_folder_the_test_split_is_scored_and_the_training_split_is_the_reference(tmp_path):
    write(tmp_path / "train.parquet", one("A", "b"), one("a"))
    write(tmp_path / "validation.parquet", one("v"))
    write(tmp_path / "test.parquet", one("t", text="t"))
    data = tagged(str(tmp_path))
    assert [sentence.words for _, sentence in data.sentences()] == [("t",)]
    assert data.reference().commonest(str.casefold) == {"NOUN": "a"}
    assert data.reference().counts()["a"] == 2
    (tmp_path / "test.parquet").unlink()
    assert [sentence.words for _, sentence in tagged(str(tmp_path)).sentences()] == [("v",)]


def test_alone_it_is_its_own_reference(tmp_path):
    write(tmp_path / "some.parquet", one("x", "y", "y"))
    assert tagged(str(tmp_path / "some.parquet")).reference().commonest(str) == {"NOUN": "y"}


def test_the_content_is_the_identity(tmp_path):
    for folder in ("one", "two", "other"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "test.parquet", one("t", tag="VERB" if folder == "other" else "NOUN"))
    first, second, other = (tagged(str(tmp_path / folder)) for folder in ("one", "two", "other"))
    assert first != second  # they lie elsewhere
    assert digest(first) == digest(second) != digest(other)
    write(tmp_path / "one/train.parquet", one("t"), one("u"))
    assert digest(tagged(str(tmp_path / "one"))) != digest(first)  # another reference, another baseline
    with pytest.raises(ValueError, match="has changed since the plan was made"):
        first.sentences()


def test_the_generated_language_has_gold_tags(monkeypatch):
    monkeypatch.setattr(gold, "REFERENCE_DOCUMENTS", 40)
    gold._read.cache_clear()
    small = World(num_documents=200)
    monkeypatch.setattr("plm.data.world.World", lambda: small)
    data = tagged("world")
    for _, sentence in data.sentences():
        assert sentence.words == tuple(sentence.text.split())
    pairs = {pair for _, s in data.sentences() for pair in zip(s.words, s.upos, strict=True)}
    assert {("the", "DET"), ("does", "AUX"), (".", "PUNCT")} <= pairs
    forms = {
        (tag, word[-1] == "s") for _, s in data.sentences() for word, tag in zip(s.words, s.xpos, strict=True) if tag
    }
    assert forms == {("VBZ", True), ("VB", False)}
    singular = {verb.forms[0][0] for bag in (*small.lexicon.taking, *small.lexicon.acting) for verb in bag.items}
    seen = {w for _, s in data.sentences() for w, x in zip(s.words, s.xpos, strict=True) if x == "VBZ"}
    assert seen & singular
    assert data.reference().commonest(str)["PUNCT"] == "."
    gold._read.cache_clear()


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("a.txt", None, "no tagged sentences. Give world, a file that ends in .parquet or .conllu"),
        ("a.parquet", [{"words": ["a"]}], "no column 'tokens'"),
        ("a.parquet", [{"tokens": ["a", "b"], "upos": ["X"]}], "row 0: each word has a tag"),
        ("a.parquet", [{"tokens": ["a"], "upos": [8]}], "row 0: each word has a tag by its name"),
        ("a.parquet", [{"tokens": ["a"], "upos": ["X"]}, {"tokens": None, "upos": None}], "row 1: each word has a tag"),
        ("a.conllu", "1\ta\n", "line 1: CoNLL-U has 10 fields a word, and here are 2"),
        ("a.conllu", "\n", "holds no tagged sentence"),
    ],
)
def test_what_cannot_be_read_is_refused(name, rows, message, tmp_path):
    if isinstance(rows, list):
        write(tmp_path / name, *rows)
    else:
        (tmp_path / name).write_text(rows or "")
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        tagged(str(tmp_path / name))


def test_two_test_files_are_ambiguous(tmp_path):
    for name in ("test-a", "test-b"):
        write(tmp_path / f"{name}.parquet", one("t"))
    with pytest.raises(ValueError, match=r"several files to score: test-a\.parquet, test-b\.parquet\. Name one"):
        tagged(str(tmp_path))


@pytest.mark.parametrize("named", ["test.parquet", "en_ewt-ud-test.parquet", "test-00000-of-00001.parquet"])
def test_all_gold_data_finds_its_splits_by_one_rule(named, tmp_path):
    """A folder that reconstruction reads is a folder that probing reads."""
    from plm.data.gold_tables import SPLITS, TRAIN, the_table

    rows = [{"tokens": ["a", "b"], "upos": ["X", "Y"]}]
    write(tmp_path / named, *rows)
    write(tmp_path / named.replace("test", "train"), *rows, *rows)
    assert tagged(str(tmp_path)).counts == (1, 2)
    assert the_table(str(tmp_path))[0].name == named
    assert the_table(str(tmp_path), (TRAIN,))[0].name == named.replace("test", "train")
    assert the_table(str(tmp_path), SPLITS)[0].name == named
