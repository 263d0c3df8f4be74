"""Text on disk: every format says the same, splits are found or cut, and what cannot be read is named."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet
import pytest
from tiny import sentence

from plm.data import files as module
from plm.data.files import EXTENSIONS, files
from plm.spec import digest

LINES = ["one two", "three é", "four"]


def write(path: Path, texts: Iterable[str], column: str = "text") -> None:
    """Documents in the format that the file's name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = list(texts)
    if path.suffix == ".parquet":
        pa.parquet.write_table(pa.table({"id": range(len(texts)), column: texts}), path)
        return
    jsonl = ".jsonl" in path.name
    lines = [json.dumps({"id": i, column: text}) if jsonl else text for i, text in enumerate(texts)]
    data = "\n\n".join(lines).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("ending", EXTENSIONS)
def test_every_format_says_the_same(tmp_path, ending):
    for split in ("train", "validation"):
        write(tmp_path / f"{split}{ending}", LINES)
    assert list(files(str(tmp_path)).text("train")) == LINES


def test_rows_keep_their_lines(tmp_path):
    write(tmp_path / "train.parquet", ["one\ntwo", "three"], column="content")
    write(tmp_path / "validation.jsonl", ["four\nfive"], column="content")
    found = files(str(tmp_path), column="content")
    assert [*found.text("train"), *found.text("validation")] == ["one\ntwo", "three", "four\nfive"]


def test_documents_are_lines_or_blocks(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.txt").write_text("one\n two \n\n\nthree\n   \nfour")
    assert list(files(str(tmp_path)).text("train")) == ["one", "two", "three", "four"]
    assert list(files(str(tmp_path), documents="block").text("train")) == ["one\ntwo", "three", "four"]
    with pytest.raises(ValueError, match="documents 'page': a document of a text file is a line or a block"):
        files(str(tmp_path), documents="page")


def test_options_that_change_nothing_change_no_identity(tmp_path):
    for split in ("train", "validation"):
        write(tmp_path / "table" / f"{split}.parquet", LINES)
        write(tmp_path / "lines" / f"{split}.txt", LINES)
    table, lines = str(tmp_path / "table"), str(tmp_path / "lines")
    assert digest(files(table, documents="block")) == digest(files(table))
    assert digest(files(lines, column="body")) == digest(files(lines))
    assert digest(files(lines, documents="block")) != digest(files(lines))


@pytest.mark.parametrize("names", [["a.txt"], ["train.txt"], ["x/wiki_00.txt", "y/wiki_01.jsonl.gz"]])
def test_where_no_split_is_named_documents_are_held_out(tmp_path, names):
    texts = [f"{i} {sentence(i)}" for i in range(3000)]
    for number, name in enumerate(names):
        write(tmp_path / "there" / name, texts[number :: len(names)])
    found = files(str(tmp_path / "there" / names[0] if names == ["a.txt"] else tmp_path / "there"))
    train, held_out = (list(found.text(split)) for split in ("train", "validation"))
    assert sorted(train + held_out) == sorted(texts)
    assert 3 <= len(held_out) <= 32  # 15 expected; four standard deviations
    assert found.held_out == 200


def test_a_document_stays_on_its_side(tmp_path):
    """Whatever stands around it: text that is added moves nothing."""
    texts = [f"{i} {sentence(i)}" for i in range(2000)]
    write(tmp_path / "some.txt", texts[:1000])
    write(tmp_path / "all.txt", reversed(texts))
    some, everything = (set(files(str(tmp_path / name)).text("validation")) for name in ("some.txt", "all.txt"))
    assert some == everything & set(texts[:1000])


def test_shards_and_folders_of_a_split_are_found(tmp_path):
    for name in ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/dev-0.parquet"):
        write(tmp_path / "hub" / name, [name])
    assert [len(found) for found in (files(str(tmp_path / "hub")).train, files(str(tmp_path / "hub")).validation)] == [
        2,
        1,
    ]
    for name in ("train/a.txt", "train/b.txt", "valid/a.txt"):
        write(tmp_path / "folders" / name, [name])
    found = files(str(tmp_path / "folders"))
    assert list(found.text("train")) == ["train/a.txt", "train/b.txt"]
    assert list(found.text("validation")) == ["valid/a.txt"]


def test_several_data_sets_in_one_folder_are_refused(tmp_path):
    for name in ("raw/train-0.parquet", "clean/train-0.parquet"):
        write(tmp_path / name, LINES)
    with pytest.raises(ValueError, match="has several train splits, in clean/, raw/: name one of these folders"):
        files(str(tmp_path))


def test_a_data_set_of_the_hub_is_a_folder(tmp_path, monkeypatch):
    asked = []

    def download(name, *, repo_type, allow_patterns):
        asked.append((name, repo_type, allow_patterns[0]))
        return str(tmp_path)

    for name in ("raw/train-0.parquet", "raw/validation-0.parquet", "clean/train-0.parquet"):
        write(tmp_path / name, [name])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert list(files("owner/set/raw").text("train")) == ["raw/train-0.parquet"]
    assert asked == [("owner/set", "dataset", "raw/*.txt")]
    with pytest.raises(ValueError, match="several train splits, in clean/, raw/"):
        files("owner/set")


def test_a_corpus_is_its_content(toy_corpus, tmp_path):
    moved = files(str(shutil.copytree(toy_corpus, tmp_path / "moved")))
    there = files(toy_corpus)
    assert (moved.train, moved.validation) == (there.train, there.validation)
    assert digest(moved) == digest(there)


def test_a_file_that_changed_is_refused(toy_corpus, tmp_path):
    folder = Path(shutil.copytree(toy_corpus, tmp_path / "moved"))
    corpus = files(str(folder))
    (folder / "train.txt").write_text("other")
    with pytest.raises(ValueError, match=r"corpus moved: .*train.txt has changed since the plan was made"):
        list(corpus.text("train"))
    assert list(corpus.text("validation"))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("train.txt", b"caf\xe9", "is not UTF-8"),
        ("train.txt.gz", gzip.compress(b"caf\xe9", mtime=0), "is not UTF-8"),
        ("train.txt.gz", gzip.compress(b"one two three", mtime=0)[:-9], "cannot be unpacked"),
        ("train.jsonl", b'{"body": "x"}\n', r"has no column 'text'; there are \['body'\]"),
        ("train.jsonl", b'{"text": null}\n', "column 'text' is null in row 0"),
        ("train.jsonl", b'{"text": "x"}\n\n{"body": "x"}\n', "column 'text' is null in row 1"),
        ("train.jsonl", b'{"text": 3}\n', "column 'text' is 3, which is no text, in row 0"),
        ("train.jsonl", b'{"text": "x"}\n{"text', "is not JSON in line 2"),
        ("train.jsonl", b'["x"]', "has no column 'text'; there are list"),
        ("train.jsonl", b'{"text": "\\ud800"}', "holds half a surrogate pair in row 0"),
        ("train.parquet", b"PAR1", "train.parquet cannot be read"),
    ],
)
def test_text_that_cannot_be_read_is_refused(tmp_path, name, data, said):
    (tmp_path / "validation.txt").write_text("x")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=said):
        list(files(str(tmp_path)).text("train"))


def test_tables_without_text_are_refused(tmp_path):
    write(tmp_path / "validation.txt", ["x"])
    write(tmp_path / "train.parquet", ["x"], column="body")
    with pytest.raises(ValueError, match=r"has no column 'text'; there are \['id', 'body'\]"):
        list(files(str(tmp_path)).text("train"))
    pa.parquet.write_table(pa.table({"text": ["x", None]}), tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="column 'text' is null in row 1"):
        list(files(str(tmp_path)).text("train"))


def test_tables_are_read_a_part_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    write(tmp_path / "all.parquet", map(str, range(40)))
    found = files(str(tmp_path / "all.parquet"))
    assert sorted(map(int, [*found.text("train"), *found.text("validation")])) == list(range(40))


def test_missing_text_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no file or folder '/nowhere'"):
        files("/nowhere")
    with pytest.raises(ValueError, match="the data set of this name could not be had from the hub"):
        files("no/where")
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(ValueError, match=r"notes.md is not text: the known endings are \.txt"):
        files(str(tmp_path / "notes.md"))
    with pytest.raises(ValueError, match=r"has no file ending in \.txt"):
        files(str(tmp_path))
    (tmp_path / "validation.txt").write_text("x")
    with pytest.raises(ValueError, match=r"has no train file ending in \.txt"):
        files(str(tmp_path))
