"""Corpora: text becomes tokens once, in a file that is read as blocks, in an order that is a function of seed and epoch."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import WORDS, sentence

from plm.data import corpus as corpora
from plm.data.columns import Damaged, Writer
from plm.data.corpus import Corpus, block_order, blocks, tokenised
from plm.data.files import files
from plm.data.mixture import Mixture
from plm.data.tokenizer import word_level
from plm.data.trained import Trained
from plm.data.world import World
from plm.external import external


@pytest.fixture
def corpus(toy_corpus, tiny_bert):
    return Corpus(files(toy_corpus), external(tiny_bert))


def arrow(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.arrow"))


def test_blocks_are_the_text_end_to_end(corpus, tmp_path):
    found = blocks(corpus, "train", 16, tmp_path)
    words = word_level(WORDS)
    expected = [token for i in range(120) for token in words.encode(sentence(i)).ids]
    assert (len(found), found.size) == (len(expected) // 16, len(expected) // 16 * 16)
    assert found[:].flatten().tolist() == expected[: found.size]
    assert found[np.array([5, 0])].tolist() == [expected[80:96], expected[:16]]


def test_a_document_of_several_lines_is_framed_once(tmp_path, tiny_bert):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.txt").write_text("w00 w01\nw02\n\nw03 w04\n")
    corpus = Corpus(files(str(tmp_path), documents="block"), external(tiny_bert))
    found = tokenised(corpus, "train", tmp_path / "data")
    assert found.tokens.read("token", 0, len(found.tokens)).tolist() == [2, 5, 6, 3, 7, 3, 2, 8, 9, 3]
    columns = {name: found.sentences.read(name, 0, 3).tolist() for name in ("start", "length", "document")}
    assert columns == {"start": [1, 4, 7], "length": [2, 1, 2], "document": [0, 0, 1]}


def test_a_tokenizer_without_frame_ends_documents(toy_corpus, tmp_path):
    text = files(toy_corpus)
    corpus = Corpus(text, Trained(text, "gpt2", 300, lowercase=False))
    found = tokenised(corpus, "validation", tmp_path).tokens
    tokens = found.read("token", 0, len(found)).tolist()
    tokenizer = corpus.tokenizer(tmp_path)
    end = tokenizer.token_to_id("<|endoftext|>")
    assert tokens.count(end) == 40
    assert tokens[-1] == end
    assert tokens[0] != end
    assert tokenizer.decode(tokens[: tokens.index(end)]) == sentence(500)


def test_tokens_are_made_once_for_all_lengths(corpus, tmp_path):
    first = blocks(corpus, "train", 16, tmp_path)[:]
    before = {file: file.stat().st_mtime_ns for file in arrow(tmp_path)}
    assert (blocks(corpus, "train", 16, tmp_path)[:] == first).all()
    shorter = blocks(corpus, "train", 8, tmp_path)[:]
    assert (shorter.flatten()[: first.size] == first.flatten()).all()
    assert {file: file.stat().st_mtime_ns for file in arrow(tmp_path)} == before


def test_how_much_is_tokenised_at_once_does_not_matter(corpus, tmp_path, monkeypatch):
    whole = blocks(corpus, "train", 16, tmp_path / "whole")[:]
    monkeypatch.setattr(corpora, "CHARACTERS_AT_ONCE", 50)
    assert (blocks(corpus, "train", 16, tmp_path / "parts")[:] == whole).all()


def test_text_is_read_as_a_stream(corpus, tmp_path, monkeypatch):
    """However long it is, no more of it waits in memory than is tokenised and written at once."""
    monkeypatch.setattr(corpora, "CHARACTERS_AT_ONCE", 200)
    monkeypatch.setattr(corpora, "Writer", lambda path, columns: Writer(path, columns, rows=64))
    read = written = most = 0
    write_batch = Writer._flush

    def text(self, split):
        nonlocal read, most
        for i in range(1000):
            read += len(sentence(i).split()) + 2
            most = max(most, read - written)
            yield sentence(i)

    def flush(self, upto):
        nonlocal written
        written += upto if "token" in self._types else 0
        write_batch(self, upto)

    monkeypatch.setattr(type(corpus.text), "text", text)
    monkeypatch.setattr(Writer, "_flush", flush)
    found = blocks(corpus, "train", 16, tmp_path)
    assert len(found.tokens) == read == written
    assert most < 200  # of some 8,000


def test_concurrent_makers_agree(corpus, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: blocks(corpus, "train", 16, tmp_path)[:], range(8)))
    assert all((other == found[0]).all() for other in found)
    assert len(arrow(tmp_path)) == 2
    assert not list(tmp_path.glob(".*.arrow*"))


@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_was_cut_short_is_made_again(corpus, tmp_path, which):
    whole = blocks(corpus, "train", 16, tmp_path)[:]
    damaged = arrow(tmp_path)[which]
    size = damaged.stat().st_size
    os.truncate(damaged, size // 2)
    assert (blocks(corpus, "train", 16, tmp_path)[:] == whole).all()
    assert damaged.stat().st_size == size


def test_a_flipped_bit_is_noticed(corpus, tmp_path):
    whole = blocks(corpus, "train", 16, tmp_path)[:]
    (file,) = (f for f in arrow(tmp_path) if "sentences" not in f.name)
    data = bytearray(file.read_bytes())
    at = data.index(whole[3].tobytes())
    data[at] ^= 1
    file.write_bytes(data)
    with pytest.raises(Damaged, match=r"is damaged in rows 0 to 1048576: delete it and run again"):
        blocks(corpus, "train", 16, tmp_path)[:]


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
    with pytest.raises(ValueError, match="needs a tokenizer: name a model"):
        Corpus(Mixture((World(), files(toy_corpus)), (1, 1)), None)


def test_the_generated_language_brings_its_own():
    assert Corpus(World(), None).vocab_size == len(World().vocabulary()) + 5


def test_worlds_of_one_vocabulary_mix(toy_corpus):
    mixed = Mixture((World(), replace(World(), num_documents=10)), (1, 1))
    assert Corpus(mixed, None).vocab_size == len(World().vocabulary()) + 5
    with pytest.raises(ValueError, match="different words needs a tokenizer"):
        Corpus(Mixture((World(), World(seed=1)), (1, 1)), None)
