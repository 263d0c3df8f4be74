"""Similarity by layer: mean cosines are those of all pairs, computed one by one."""

from __future__ import annotations

import itertools

import pytest
import torch
from subjects import subject, words

from plm import inference
from plm.analyses import similarity
from plm.analyses.similarity import Similarity
from plm.data.files import files
from plm.data.world import World
from plm.excerpts import documents, excerpts

LINES = ["w01 w02 w03", "w02 w01", "w01 w04 w02 w05", "w02 w01 w01", "w06 w02"]


@pytest.fixture
def corpus(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.txt").write_text("\n".join(LINES))
    return files(str(tmp_path))


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0).item()


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def test_means_are_those_of_all_pairs(corpus):
    of = subject("BertModel")
    rows = Similarity(corpus).rows(of)
    found = Similarity(corpus).summary(rows)
    for layer in range(3):
        vectors = []
        for line in LINES:
            ids = of.tokenizer.convert_tokens_to_ids(line.split())
            with torch.no_grad():
                states = of.model(torch.tensor([[2, *ids, 3]]), output_hidden_states=True).hidden_states[layer][0, 1:-1]
            vectors.append(list(zip(line.split(), states, strict=True)))
        every = [pair for own in vectors for pair in own]
        drawn = mean(cosine(a, b) for (_, a), (_, b) in itertools.combinations(every, 2))
        of_word = {
            word: mean(cosine(a, b) for a, b in itertools.combinations([v for w, v in every if w == word], 2))
            for word in ("w01", "w02")
        }  # the others occur less than five times
        within = mean(
            mean(cosine(v, torch.stack([u for _, u in own]).mean(0)) for _, v in own) for own in vectors
        )  # fmt: skip
        assert found[f"anisotropy/layer_{layer}"] == pytest.approx(drawn, abs=1e-6)
        assert found[f"self_similarity/layer_{layer}"] == pytest.approx(mean(of_word.values()), abs=1e-6)
        assert found[f"intra_similarity/layer_{layer}"] == pytest.approx(within, abs=1e-6)
        assert found[f"adjusted_self_similarity/layer_{layer}"] == pytest.approx(
            mean(of_word.values()) - drawn, abs=1e-6
        )
        own = {r["name"]: r for r in rows if r["layer"] == layer and r["measure"] == "self_similarity"}
        assert {name: row["count"] for name, row in own.items()} == {"w01": 5, "w02": 5}
        assert own["w01"]["value"] == pytest.approx(of_word["w01"], abs=1e-6)
    assert len({row["id"] for row in rows}) == len(rows)


def test_company_does_not_matter(corpus, monkeypatch):
    of = subject("GPT2Model")
    together = Similarity(corpus).rows(of)
    monkeypatch.setattr(inference.by_length, "__defaults__", (1,))
    for one, other in zip(together, Similarity(corpus).rows(of), strict=True):
        assert one["value"] == pytest.approx(other["value"], abs=1e-5)


def test_a_piece_that_is_the_same_everywhere_is_alike(corpus):
    """Without positions and with nothing but embeddings, a word has one vector."""
    of = subject("BertModel")
    with torch.no_grad():
        of.model.embeddings.position_embeddings.weight.zero_()
    found = Similarity(corpus).summary(Similarity(corpus).rows(of))
    assert found["self_similarity/layer_0"] == pytest.approx(1)
    assert found["self_similarity/layer_2"] < 1 - 1e-5
    assert found["anisotropy/layer_0"] < 0.9


def test_what_is_drawn_is_a_sample(corpus, monkeypatch):
    monkeypatch.setattr(similarity, "SAMPLE", 6)
    one, other = (
        [r for r in Similarity(corpus, seed=seed).rows(subject("BertModel")) if r["name"] == "drawn"] for seed in (0, 1)
    )
    assert [row["count"] for row in one] == [6, 6, 6]
    assert one != other


def test_excerpts_are_the_beginnings_of_documents_in_their_frame():
    world = World(seed=1, num_documents=400)
    of = subject("BertModel", tokenizer=words(world.vocabulary()))
    found = excerpts(of, world, 5, 0)
    texts = documents(world, 5, 0)
    assert len(found) == 5
    for ids, text in zip(found, texts, strict=True):
        said = text.replace("\n", " [SEP] ").split()[:38]
        assert ids == (2, *of.tokenizer.convert_tokens_to_ids(said), 3)
    assert set(texts) < set(documents(world, 9, 0))
    assert max(map(len, found)) <= 40
