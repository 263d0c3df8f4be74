"""Runs of sentences: of one document, in order, fitting; and the batches of pairs made of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from tiny import SIZES, WORDS

import plm
from plm.build import Cache
from plm.data.corpus import Corpus, tokenised
from plm.data.files import files
from plm.data.pairs import _runs, runs, segments
from plm.data.sentences import starts
from plm.data.tokenizer import word_level
from plm.external import external
from plm.objectives.combined import Sum
from plm.objectives.mlm import MaskedLM
from plm.objectives.nsp import NextSentence
from plm.objectives.sop import SentenceOrder
from plm.store import Store
from plm.train import open_stream


def lines(document: int) -> list[str]:
    """Sentences of a document: its first word is the document's, its second the sentence's number."""
    draw = np.random.default_rng(document)
    return [
        " ".join(
            [WORDS[document % 20], WORDS[20 + i], *(WORDS[40 + n] for n in draw.integers(0, 20, draw.integers(6)))]
        )
        for i in range(1 + document % 9)
    ]


@pytest.fixture
def folder(tmp_path):
    for split, documents in (("train", range(60)), ("validation", range(60, 90))):
        (tmp_path / f"{split}.txt").write_text("\n\n".join("\n".join(lines(i)) for i in documents))
    return tmp_path


@pytest.fixture
def corpus(folder, tiny_bert):
    return Corpus(files(str(folder), documents="block"), external(tiny_bert))


@pytest.fixture
def make(corpus, tiny_bert):
    def spec(objective=None, **changes):
        return plm.pretrain(
            plm.Bert(**SIZES, dropout=0.0),
            corpus.text,
            objective=objective or SentenceOrder(),
            **{"vocabulary": tiny_bert, "duration": plm.steps(40), "batch_size": 8, "seq_len": 16, **changes},
        )

    return spec


def said(sentences) -> list[str]:
    words = word_level(WORDS)
    return [words.decode(sentence.tolist()) for sentence in sentences]


def test_runs_are_neighbouring_sentences_of_a_document(corpus, tmp_path):
    found = runs(corpus, "train", 24, tmp_path / "data")
    texts = ["\n".join(lines(i)) for i in range(60)]
    covered = Counter()
    for i in range(len(found)):
        run = said(found.sentences(i))
        assert len(run) >= 2
        assert any("\n".join(run) in text for text in texts)
        covered.update(run)
        assert sum(len(s.split()) for s in run) <= 21 or len(run) == 2
    # Each sentence is in one run at most; what is left alone at the end of a document is in none.
    there = Counter(sentence for text in texts for sentence in text.split("\n"))
    assert not covered - there
    assert sum(covered.values()) > 0.8 * sum(there.values())


def test_runs_fill_a_sequence():
    """Nine in ten take as many sentences as fit; one in ten stops at a random length."""
    sentences = [(5, 0)] * 30_000
    found = list(_runs(iter(sentences), 30, "train"))
    assert found[0] == (0, 6, 0)
    short = np.mean([count < 6 for _, count, _ in found])
    assert 0.08 < short < 0.12  # of some 5,000 runs
    assert {count for _, count, _ in found} == {2, 3, 4, 5, 6}


def test_what_is_elsewhere_is_in_another_document(corpus, tmp_path):
    found = runs(corpus, "train", 24, tmp_path / "data")
    draw = np.random.default_rng(0)
    documents = {said(found.sentences(i))[0].split()[0] for i in range(len(found))}
    seen = set()
    for _ in range(300):
        others = said(found.elsewhere(3, draw))
        assert "\n".join(others) not in "\n".join(said(found.sentences(3)))
        seen.add(others[0].split()[0])
    assert len(seen) > len(documents) / 2
    index = found._of("document", 3)
    assert all(
        found._runs.read("document", i, i + 1)[0] != index
        for i in range(len(found))
        if said(found.sentences(i)) == others
    )


def test_text_without_pairs_is_refused(toy_corpus, tiny_bert, tmp_path):
    with pytest.raises(ValueError, match="no two documents of two sentences each"):
        runs(Corpus(files(toy_corpus), external(tiny_bert)), "train", 16, tmp_path)


def test_segments_are_cut_from_the_longer_one():
    draw = np.random.default_rng(0)
    long, short = [np.arange(7), np.arange(7, 20)], [np.arange(100, 104)]
    for first, second in ((long, short), (short, long)):
        parts = segments(first, second, 10, draw)
        assert [len(part) for part in parts] == ([6, 4] if first is long else [4, 6])
        for part in parts:
            assert (np.diff(part) == 1).all()  # cut at its ends only
    assert [len(part) for part in segments(long, long, 10, draw)] == [5, 5]
    assert [len(part) for part in segments(short, short, 10, draw)] == [4, 4]
    fronts = {int(segments(long, short, 10, draw)[0][0]) for _ in range(50)}
    assert len(fronts) > 3


def test_a_batch_is_a_function_of_its_step(make, tmp_path):
    def opened():
        return open_stream(make(), Store.at(tmp_path), Cache())

    onwards, backwards = opened(), opened()
    forth = [onwards.batch(step) for step in range(12)]
    back = [backwards.batch(step) for step in reversed(range(12))][::-1]
    assert all(torch.equal(a[name], b[name]) for a, b in zip(forth, back, strict=True) for name in a)


def test_a_batch_is_two_framed_segments(make, tmp_path):
    stream = open_stream(make(seq_len=24), Store.at(tmp_path), Cache())
    lengths = set()
    for step in range(10):
        batch = stream.batch(step)
        assert batch["input_ids"].shape[1] == batch["attention_mask"].sum(1).max() <= 24
        for ids, types, there in zip(
            *(batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")), strict=True
        ):
            n = int(there.sum())
            lengths.add(n)
            assert ids[0] == 2
            assert ids[n - 1] == 3
            assert (ids[:n] == 3).sum() == 2
            assert (ids[n:] == 0).all()
            first_end = (ids == 3).nonzero()[0].item()
            assert types.tolist() == [0] * (first_end + 1) + [1] * (n - first_end - 1) + [0] * (len(ids) - n)
    assert len(lengths) > 5


@pytest.mark.parametrize("objective", [SentenceOrder(), NextSentence()])
def test_labels_tell_the_truth(make, tmp_path, objective):
    stream = open_stream(make(objective, seq_len=40), Store.at(tmp_path), Cache())
    words, labels = word_level(WORDS), Counter()
    for step in range(20):
        batch = stream.batch(step)
        for ids, types, label in zip(
            *(batch[name] for name in ("input_ids", "token_type_ids", "pair_label")), strict=True
        ):
            first, second = (words.decode(ids[(types == side) & (ids > 4)].tolist()).split() for side in (0, 1))
            numbers = [WORDS.index(word) for word in (first[1], second[1])]
            same = first[0] == second[0]
            labels[int(label)] += 1
            if isinstance(objective, SentenceOrder):
                assert same
                assert (numbers[0] > numbers[1]) == bool(label)
            elif not label:
                assert same
                assert numbers[0] < numbers[1]
    assert 50 < labels[0] < 110  # of 160; five standard deviations


def test_an_epoch_shows_every_run_once(make, tmp_path):
    stream = open_stream(make(batch_size=3), Store.at(tmp_path), Cache())
    count = len(runs(make().data, "train", 16, tmp_path / "data"))
    seen = torch.cat([stream.batch(step)["ids"] for step in range(2 * count // 3 + 1)]).tolist()
    assert sorted(seen[:count]) == sorted(seen[count : 2 * count]) == list(range(count))


def test_static_pairs_are_those_of_the_row(make, tmp_path):
    """Cut, swapped and masked the same way in each epoch, whatever stands beside them in the batch."""

    def seen(objective) -> dict[int, list[tuple[list[int], list[int], int]]]:
        stream = open_stream(make(objective, batch_size=3), Store.at(tmp_path), Cache())
        found: dict[int, list[tuple[list[int], list[int], int]]] = {}
        for step in range(60):
            batch = stream.batch(step)
            for row, *rest in zip(
                *(batch[name].tolist() for name in ("ids", "input_ids", "labels", "pair_label")), strict=True
            ):
                found.setdefault(row, []).append(tuple(rest))
        return {row: times for row, times in found.items() if len(times) > 1}

    static, dynamic = (seen(Sum((MaskedLM(static=static), SentenceOrder()))) for static in (True, False))
    assert all(one == times[0] for times in static.values() for one in times)
    assert {label for times in static.values() for *_, label in times} == {0, 1}
    assert sum(times[0] != times[1] for times in dynamic.values()) > 0.8 * len(dynamic) > 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("One. Two! Three? Four", ["One. ", "Two! ", "Three? ", "Four"]),
        ('He said "Go." She went. "Why?" he asked.', ['He said "Go." ', "She went. ", '"Why?" he asked.']),
        ("Dr. Smith met J. B. Jones in St. Louis. He left.", ["Dr. Smith met J. B. Jones in St. Louis. ", "He left."]),
        ("See Fig. 3 and pp. 4-5. 1849 was wet.", ["See Fig. 3 and pp. 4-5. ", "1849 was wet."]),
        (
            "It costs 3.50 at www.shop.com today. Élan is all.",
            ["It costs 3.50 at www.shop.com today. ", "Élan is all."],
        ),
        ("Wait... what? No.", ["Wait... what? ", "No."]),
        ("a small word . another one .", ["a small word . another one ."]),
        ("He came . She went .", ["He came . ", "She went ."]),
        ("", [""]),
    ],
)
def test_sentences_are_found(line, expected):
    found = starts(line)
    assert [line[a:b] for a, b in zip(found, [*found[1:], len(line)], strict=True)] == expected


def test_sentences_are_found_within_lines(tmp_path, tiny_bert):
    """Their tokens are those of the whole line, cut."""
    text = 'w00 w01. W02 w03! "W04" w05.\nW06 w07. w08'
    for split in ("train", "validation"):
        (tmp_path / f"{split}.txt").write_text(text)
    corpus = Corpus(files(str(tmp_path), documents="block"), plm.external(tiny_bert))
    found = tokenised(corpus, "train", tmp_path / "data")
    tokens = found.tokens.read("token", 0, len(found.tokens)).tolist()
    cut = [
        tokens[start : start + length]
        for start, length in zip(
            *(found.sentences.read(name, 0, len(found.sentences)).tolist() for name in ("start", "length")),
            strict=True,
        )
    ]
    words = word_level(WORDS)
    expected = [
        words.encode(s, add_special_tokens=False).ids for s in ("w00 w01.", "W02 w03!", '"W04" w05.', "W06 w07. w08")
    ]
    assert cut == expected
