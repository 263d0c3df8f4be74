"""Parts of a text to train on, and texts that are only evaluated."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import plm
from plm.build import Cache
from plm.data.corpus import Corpus
from plm.data.files import files
from plm.data.mixture import Mixture
from plm.data.sources import corpus
from plm.data.world import World
from plm.spec import digest
from plm.store import Store
from plm.train import open_stream, train


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
    halves = [*documents(sliced, (0, 2)), *documents(sliced, (1, 2))]
    assert sorted(halves) == sorted(documents(sliced, (0, 1)))
    assert sorted(halves) != sorted(documents(text, (0, 1)))


def test_parts_of_what_a_slice_leaves_are_of_one_size(text: Corpus) -> None:
    """Of 20 documents one is in the slice, and always that of one number: no part may consist of those alone."""
    sliced = replace(text, slice=True)
    rest = documents(sliced, (0, 1))
    assert len(rest) == 114
    for of in (2, 19, 20):
        assert [documents(sliced, (which, of)) for which in range(of)] == [rest[which::of] for which in range(of)]


def test_other_parts_are_other_data(text: Corpus) -> None:
    """And all of a text is what it was before there were parts."""
    assert len({digest(replace(text, part=part)) for part in ((0, 1), (0, 2), (1, 2))}) == 3
    assert digest(Corpus(text.text, text.vocabulary)) == digest(replace(text, part=(0, 1), beside=()))


@pytest.mark.parametrize("part", [(1, 1), (-1, 2), (0, 0), (False, True)])
def test_what_is_no_part_is_refused(text: Corpus, part: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"part \(.*\) of the documents: write \(i, n\), whole numbers"):
        replace(text, part=part)


@pytest.mark.parametrize("part", [(0,), (0, 1, 2), (0.5, 2), (0, 2.0), [0, 2], "01", 1])
def test_what_is_not_two_whole_numbers_is_refused(text: Corpus, part: Any) -> None:
    """Set behind the constructor's back, whose types are checked in tests alone."""
    wrong = copy.copy(text)
    object.__setattr__(wrong, "part", part)
    with pytest.raises(ValueError, match=r"part .* of the documents: write \(i, n\), whole numbers"):
        wrong.__post_init__()


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


def test_texts_beside_are_a_set() -> None:
    """One computation has one spelling: neither their order nor a second mention is another run."""
    one, two = World(domain="home"), World(domain="field")
    first, second = (Corpus(World(), None, beside=texts) for texts in ((one, two), (two, one, two)))
    assert first == second
    assert digest(first) == digest(second)
    assert len(first.beside) == 2


def named(folder: Path, words: str, train: int = 20) -> str:
    """A text in a folder; how it ends is its name."""
    folder.mkdir(parents=True)
    for split, count in (("train", train), ("validation", 20)):
        (folder / f"{split}.txt").write_text(f"{words}\n" * count)
    return str(folder)


def test_texts_of_one_name_are_refused(text: Corpus, tmp_path: Path) -> None:
    """The metric of one would overwrite that of the other; also where a mixture has numbered its texts."""
    one, two, other, numbered = (
        files(named(tmp_path / place, place)) for place in ("a/news", "b/news", "c/other", "d/news-1")
    )
    for read, beside in (
        (text.text, (one, two)),
        (one, (two,)),
        (Mixture((one, other), (1, 1)), (two,)),
        (Mixture((one, two), (1, 1)), (numbered,)),
    ):
        with pytest.raises(ValueError, match=r"two texts are called 'news.*Rename the file or folder"):
            Corpus(read, text.vocabulary, beside=beside)
    assert Corpus(Mixture((one, two), (1, 1)), text.vocabulary, beside=(other,)).names == ("news-0", "news-1")


def test_the_same_text_in_another_place_is_evaluated_once(text: Corpus, tmp_path: Path) -> None:
    one, two = (files(named(tmp_path / place, "the same")) for place in ("a/news", "b/other"))
    assert len(replace(text, beside=(one, two)).beside) == 1
    with pytest.raises(ValueError, match="evaluated beside itself"):
        Corpus(one, text.vocabulary, beside=(two,))


def test_of_a_text_beside_only_what_is_evaluated_is_opened_and_once(pretrain, tmp_path: Path, monkeypatch) -> None:
    """Its training split may be shorter than a sequence, and is not tokenised."""
    spec = pretrain()
    other = files(named(tmp_path / "other", "the cat sees the dog .", train=1))
    spec = replace(spec, data=replace(spec.data, beside=(other,)))
    asked: list[tuple[str, str]] = []
    real = Corpus.documents

    def documents(self: Corpus, split: str):
        asked.append((self.texts[0].name, split))
        return real(self, split)

    monkeypatch.setattr(Corpus, "documents", documents)
    stream = open_stream(spec, Store.at(tmp_path / "store"), Cache())
    assert sorted(asked) == [("lines", "train"), ("lines", "validation"), ("other", "validation")]
    monkeypatch.setattr("plm.data.collate.blocks", None)  # nothing is opened again
    once, again = ([(name, list(batches)) for name, batches in stream.beside()] for _ in range(2))
    assert [name for name, _ in once] == [name for name, _ in again] == ["other"]
    assert all((a["labels"] == b["labels"]).all() for a, b in zip(once[0][1], again[0][1], strict=True))


def test_what_is_evaluated_beside_is_read_with_the_same_words() -> None:
    with pytest.raises(ValueError, match="of different words needs a tokenizer"):
        Corpus(World(), None, beside=(World(seed=1),))
