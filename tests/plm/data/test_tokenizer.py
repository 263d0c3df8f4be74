"""Tokenizers: word lists, the folder form, and texts cut to length."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import WORDS

import plm
from plm.data import tokenizer as tokenizers
from plm.data.tokenizer import encode, files, unknown_share, word_level
from plm.external import external


@pytest.fixture
def words():
    return word_level(WORDS)


def test_words_and_special_tokens(words):
    assert words.encode("w00 w59 elsewhere").ids == [2, 5, 64, 1, 3]
    assert words.encode("w00", "w01").type_ids == [0, 0, 0, 1, 1]
    assert words.get_vocab_size() == 65


def test_texts_are_cut_and_the_tokenizer_is_left_as_it_was(words):
    cut = encode(words, [("w00 w01 w02 w03",), ("w00",)], seq_len=4)
    assert cut == [([2, 5, 6, 3], [0] * 4), ([2, 5, 3], [0] * 3)]
    assert len(words.encode("w00 w01 w02 w03").ids) == 6


def test_the_longer_text_of_a_pair_is_cut_first(words):
    ((ids, segments),) = encode(words, [("w00 w01 w02 w03", "w04")], seq_len=6)
    assert ids == [2, 5, 6, 3, 9, 3]
    assert segments == [0, 0, 0, 0, 1, 1]


def test_a_folder_is_read_by_transformers(words, tmp_path):
    from transformers import AutoTokenizer

    for name, data in files(words).items():
        (tmp_path / name).write_bytes(data)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("w00 w59", "w03")["input_ids"] == words.encode("w00 w59", "w03").ids
    assert (theirs.pad_token, theirs.mask_token_id) == ("[PAD]", 4)


def test_a_tokenizer_is_found_through_the_lineage(finetune, pretrain, tiny_bert, tmp_path):
    parent = pretrain()
    child = finetune(init=parent.final)
    grandchild = finetune(init=plm.reinit(child.final, "01"))
    assert tokenizers.source(parent) == tokenizers.source(child) == tokenizers.source(grandchild) == parent.data
    assert tokenizers.source(finetune()) == external(tiny_bert)
    assert tokenizers.of(grandchild, tmp_path).to_str() == tokenizers.of(finetune(), tmp_path).to_str()


def test_scratch_has_no_tokenizer(finetune, pretrain, tmp_path):
    with pytest.raises(ValueError, match="starts from scratch and has no tokenizer"):
        tokenizers.of(finetune(init=pretrain().init), tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(finetune, make_bert, tmp_path):
    folder = Path(make_bert("mute"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ValueError, match="has no tokenizer that can be read"):
        tokenizers.of(finetune(init=str(folder)), tmp_path)


def test_truncation_in_a_model_s_folder_is_ignored(finetune, make_bert, tmp_path):
    folder = Path(make_bert("cut"))
    cutting = tokenizers.of(finetune(init=str(folder)), tmp_path)
    cutting = type(cutting).from_str(cutting.to_str())
    cutting.enable_truncation(3)
    cutting.enable_padding(length=30)
    cutting.save(str(folder / "tokenizer.json"))
    assert len(tokenizers.of(finetune(init=str(folder)), tmp_path).encode("w00 w01 w02").ids) == 5


def test_unknown_words_are_counted(words):
    assert unknown_share(words, [("w00 w01",), ("w02", "x")]) == pytest.approx(1 / 4)
    assert unknown_share(words, []) == 0
