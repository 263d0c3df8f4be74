"""Parts of a text to train on, and texts that are only evaluated."""

from __future__ import annotations

from dataclasses import replace

import pytest

import plm
from plm.data.corpus import Corpus
from plm.data.sources import corpus
from plm.data.world import World
from plm.spec import digest
from plm.store import Store
from plm.train import train


@pytest.fixture
def text(toy_corpus: str, tiny_bert: str) -> Corpus:
    return corpus(toy_corpus, plm.external(tiny_bert))


def documents(text: Corpus, part: tuple[int, int], split: str = "train") -> list[str]:
    return list(replace(text, part=part).documents(split))


def test_parts_lie_in_each_other_or_share_nothing(text: Corpus) -> None:
    everything = documents(text, (0, 1))
    assert documents(text, (0, 4)) == everything[::4]
    assert set(documents(text, (0, 8))) < set(documents(text, (0, 4)))
    assert documents(text, (1, 2)) == everything[1::2]
    assert len(documents(text, (0, 2))) + len(documents(text, (1, 2))) == len(everything)


def test_what_is_evaluated_is_no_part(text: Corpus) -> None:
    """Of a slice neither: what is selected on is the same for all parts, and no part is trained on it."""
    assert documents(text, (0, 4), "validation") == documents(text, (0, 1), "validation")
    sliced = replace(text, slice=True)
    assert documents(sliced, (0, 2), "validation") == documents(sliced, (0, 1), "validation")
    assert documents(sliced, (0, 2)) + documents(sliced, (1, 2)) != documents(text, (0, 1))
    halves = {*documents(sliced, (0, 2)), *documents(sliced, (1, 2))}
    assert halves == set(documents(sliced, (0, 1)))


def test_other_parts_are_other_data(text: Corpus) -> None:
    """And all of a text is what it was before there were parts."""
    assert len({digest(replace(text, part=part)) for part in ((0, 1), (0, 2), (1, 2))}) == 3
    assert digest(Corpus(text.text, text.vocabulary)) == digest(replace(text, part=(0, 1), beside=()))


@pytest.mark.parametrize("part", [(1, 1), (-1, 2), (0, 0)])
def test_what_is_no_part_is_refused(text: Corpus, part: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"part \(.*\) of the documents: write \(i, n\)"):
        replace(text, part=part)


def test_a_text_that_is_only_evaluated_has_its_own_perplexity(
    pretrain, toy_documents: str, tiny_bert: str, tmp_path
) -> None:
    """That of a run on it with the same weights; the run itself is the same to the bit but for its name."""
    plain = pretrain()
    other = corpus(toy_documents, plain.data.vocabulary)
    beside = replace(plain, data=replace(plain.data, beside=(other.text,)))
    results = {}
    for spec in (plain, beside):
        train(spec, store=tmp_path)
        results[spec.run_id] = Store.at(tmp_path).run(spec).result()
    one, two = results.values()
    assert one["weights_sha256"] == two["weights_sha256"]
    forgotten = two["metrics"].pop("val/perplexity/documents")
    assert one["metrics"] == two["metrics"]
    still = replace(
        plain, data=other, init=plm.Load(beside.final), duration=plm.steps(1), optim=replace(plain.optim, lr=1e-30, weight_decay=0.0)
    )  # fmt: skip
    assert train(still, store=tmp_path).metrics["val/perplexity"] == pytest.approx(forgotten, rel=1e-6)
    assert forgotten != pytest.approx(one["metrics"]["val/perplexity"], rel=1e-3)


def test_a_text_beside_itself_is_refused(text: Corpus) -> None:
    with pytest.raises(ValueError, match="evaluated beside itself"):
        replace(text, beside=(text.text,))


def test_what_is_evaluated_beside_is_read_with_the_same_words() -> None:
    with pytest.raises(ValueError, match="of different words needs a tokenizer"):
        Corpus(World(), None, beside=(World(seed=1),))
