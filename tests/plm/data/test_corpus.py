"""Corpora: text files become blocks of tokens once, in an order that is a function of seed and epoch."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import WORDS, sentence, write_rows

from plm.data.corpus import Corpus, _whole_blocks, block_order, blocks
from plm.data.files import files
from plm.data.tokenizer import word_level
from plm.data.world import World
from plm.external import external


@pytest.fixture
def corpus(toy_corpus, tiny_bert):
    return Corpus(files(toy_corpus), external(tiny_bert))


def test_blocks_are_the_text_end_to_end(corpus, tmp_path):
    found = blocks(corpus, "train", 16, tmp_path)
    words = word_level(WORDS)
    expected = [token for i in range(120) for token in words.encode(sentence(i)).ids]
    assert found.shape == (len(expected) // 16, 16)
    assert found.flatten().tolist() == expected[: found.size]


def test_blocks_are_made_once(corpus, tmp_path):
    first = blocks(corpus, "train", 16, tmp_path)
    (file,) = os.listdir(tmp_path)
    before = (tmp_path / file).stat().st_mtime_ns
    assert (blocks(corpus, "train", 16, tmp_path) == first).all()
    assert (tmp_path / file).stat().st_mtime_ns == before
    blocks(corpus, "train", 8, tmp_path)
    blocks(corpus, "validation", 16, tmp_path)
    assert len(os.listdir(tmp_path)) == 3


@pytest.mark.parametrize("at_once", [1, 2, 1000])
def test_chunks_do_not_matter(at_once):
    documents = [np.arange(n, dtype=np.int32) for n in (3, 9, 1, 0, 14, 6)]
    joined = np.concatenate(list(_whole_blocks(iter(documents), 4, at_once)))
    assert (joined == np.concatenate(documents)[:32]).all()


def test_the_order_of_blocks_is_a_permutation():
    orders = [block_order(50, seed, epoch).tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] == orders[3]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_too_little_text_is_refused(corpus, tmp_path):
    with pytest.raises(ValueError, match="train split of the corpus is shorter than one sequence of 100000 tokens"):
        blocks(corpus, "train", 100_000, tmp_path)


def test_files_need_a_tokenizer(toy_corpus):
    with pytest.raises(ValueError, match="needs a tokenizer: name a model"):
        Corpus(files(toy_corpus), None)


def test_the_generated_language_brings_its_own(tmp_path):
    corpus = Corpus(World(), None)
    assert corpus.tokenizer().get_vocab_size() == len(World().vocabulary()) + 5


@pytest.mark.parametrize("ending", ["txt", "txt.gz", "jsonl"])
def test_every_format_says_the_same(tmp_path, ending):
    lines = ["one two", "three é", "four"]
    for split in ("train", "validation"):
        path = tmp_path / f"{split}.{ending}"
        if ending == "txt.gz":
            path.write_bytes(gzip.compress("\n\n".join(lines).encode()))
        elif ending == "txt":
            path.write_text("\n".join(lines), encoding="utf-8")
        else:
            write_rows(path, [{"text": line} for line in lines])
    assert list(files(str(tmp_path)).text("train")) == lines


def test_a_corpus_is_its_content(toy_corpus, tmp_path):
    moved = files(str(shutil.copytree(toy_corpus, tmp_path / "moved")))
    there = files(toy_corpus)
    assert (moved.train, moved.validation) == (there.train, there.validation)


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
        ("train.jsonl", b'{"body": "x"}\n', r"has no column 'text'; there are \['body'\]"),
        ("train.jsonl", b'{"text": null}\n', "column 'text' is null in row 0"),
    ],
)
def test_text_that_cannot_be_read_is_refused(tmp_path, name, data, said):
    (tmp_path / "validation.txt").write_text("x")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=said):
        list(files(str(tmp_path)).text("train"))


def test_missing_text_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        files(str(tmp_path / "nowhere"))
    (tmp_path / "train.txt").write_text("x")
    with pytest.raises(ValueError, match=r"has no validation file ending in \.txt"):
        files(str(tmp_path))
