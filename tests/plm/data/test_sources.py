"""Texts and tokenizers by the names that an experimenter writes."""

from __future__ import annotations

import pytest

from plm.data.corpus import Corpus
from plm.data.files import files
from plm.data.mixture import Mixture
from plm.data.sources import corpus, mixture, text, tokenizer
from plm.data.trained import Trained
from plm.data.world import World
from plm.external import external


@pytest.mark.parametrize(
    ("name", "world"),
    [
        ("world", World()),
        ("world:stories", World(style="stories")),
        ("world:field", World(domain="field")),
        ("world:stories:home", World(style="stories", domain="home")),
        ("world:home:stories", World(style="stories", domain="home")),
    ],
)
def test_the_world_has_varieties(name, world):
    assert text(name) == world


@pytest.mark.parametrize("name", ["world:verse", "world:home:field", "world:notes:stories", "world:"])
def test_varieties_that_are_not_are_refused(name):
    with pytest.raises(ValueError, match=r"after the world stand a style \(notes, stories\) and a domain"):
        text(name)


def test_a_text_is_a_file_a_folder_or_a_value(toy_corpus):
    assert text(toy_corpus) == files(toy_corpus)
    assert text(f"{toy_corpus}/train.txt").held_out == 200
    assert text(World(seed=4)) == World(seed=4)


def test_a_mixture_by_names(toy_corpus):
    assert mixture({"world": 3, toy_corpus: 1}) == Mixture((World(), files(toy_corpus)), (3, 1))


def test_texts_joined_by_a_plus_are_read_alike(toy_corpus, tmp_path):
    both = f"world:stories+{toy_corpus}"
    assert text(both) == Mixture((World(style="stories"), files(toy_corpus)), (0.5, 0.5))
    assert tokenizer(f"bpe:300@{both}", World()) == Trained(text(both), "bpe", 300, False)
    (there := tmp_path / "a+b.txt").write_text("one\ntwo\n")
    assert text(str(there)) == files(str(there))
    assert text(f"{there}+world") == Mixture((files(str(there)), World()), (0.5, 0.5))
    assert text(f"world+{there}") == Mixture((World(), files(str(there))), (0.5, 0.5))
    for empty in ("world+", "+world", "world++world:stories"):
        with pytest.raises(ValueError, match=r"beside each \+ stands a text"):
            text(empty)
    with pytest.raises(ValueError, match="a mixture of 1 texts: name two or more, each once"):
        text("world+world")


def test_a_tokenizer_is_trained_or_a_model_s(toy_corpus, tiny_bert):
    there = files(toy_corpus)
    assert corpus("world") == Corpus(World(), None)
    assert corpus(toy_corpus, tiny_bert) == Corpus(there, external(tiny_bert))
    assert corpus(toy_corpus, "bpe:300") == Corpus(there, Trained(there, "bpe", 300, False))
    assert corpus("world", f"bpe:300@{toy_corpus}") == Corpus(World(), Trained(there, "bpe", 300, False))
    with pytest.raises(ValueError, match="there is no folder '/no/model'"):
        corpus("world", "/no/model")


def test_tokenizers_by_what_spells_them(toy_corpus, tmp_path):
    there = files(toy_corpus)
    assert tokenizer("wordpiece:8192", there) == Trained(there, "wordpiece", 8192, True)
    assert tokenizer("wordpiece:8192:cased", there) == Trained(there, "wordpiece", 8192, False)
    assert tokenizer("bpe:500", there) == Trained(there, "bpe", 500, False)
    assert tokenizer("bpe:500:uncased", there) == Trained(there, "bpe", 500, True)
    (other := tmp_path / "other.txt").write_text("one\ntwo")
    assert tokenizer(f"unigram:500@{other}", there) == Trained(files(str(other)), "unigram", 500, True)
    assert tokenizer("bert-base-uncased", there) is None
    with pytest.raises(ValueError, match="a tokenizer of 'sentencepiece': there are wordpiece, bpe, gpt2, unigram"):
        tokenizer("sentencepiece:8000", there)
    with pytest.raises(ValueError, match="a vocabulary of 200 tokens: bpe needs 300 at least"):
        tokenizer("bpe:200", there)
