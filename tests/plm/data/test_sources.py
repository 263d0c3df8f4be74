"""Texts and tokenizers by the names that an experimenter writes."""

from __future__ import annotations

import pytest

from plm.data.corpus import Corpus
from plm.data.files import files
from plm.data.mixture import Mixture
from plm.data.sources import corpus, mixture, text
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


def test_a_tokenizer_is_trained_or_a_model_s(toy_corpus, tiny_bert):
    there = files(toy_corpus)
    assert corpus("world") == Corpus(World(), None)
    assert corpus(toy_corpus, tiny_bert) == Corpus(there, external(tiny_bert))
    assert corpus(toy_corpus, "bpe:300") == Corpus(there, Trained(there, "bpe", 300, False))
    assert corpus("world", f"bpe:300@{toy_corpus}") == Corpus(World(), Trained(there, "bpe", 300, False))
    with pytest.raises(ValueError, match="there is no folder '/no/model'"):
        corpus("world", "/no/model")
