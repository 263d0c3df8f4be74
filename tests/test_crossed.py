"""The crossed language: each class has its own combination of frequency, size and predictability."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import crossed
import pytest

from plm.data.files import files
from plm.data.gold import tagged


def test_frequency_size_and_predictability_are_crossed() -> None:
    there = {own.name: own for own in crossed.classes()}
    assert len(there) == 8
    assert len({word for own in there.values() for word in (*own.words, *own.cues)}) == 2 * 4 * (5 + 20)
    count, told = Counter[str](), dict[str, list[bool]]()
    for sentence in crossed.sentences(4000, "train"):
        for (cue, word), (_, tag) in zip(pairwise(sentence.words), pairwise(sentence.upos), strict=True):
            if tag in there:
                own = there[tag]
                count[tag] += 1
                assert cue in own.cues  # it tells the class
                told.setdefault(tag, []).append(own.cues.index(cue) == own.words.index(word))
    for name, own in there.items():
        frequency, size, bound = name.split("-")
        assert len(own.words) == {"FEW": 5, "MANY": 20}[size]
        share = sum(told[name]) / len(told[name])
        assert share == pytest.approx(
            (0.9 + 0.1 / len(own.words)) if bound == "BOUND" else 1 / len(own.words), abs=0.08
        )
        rare = count[f"RARE-{size}-{bound}"] / len(own.words)
        assert count[name] / len(own.words) == pytest.approx(rare * {"RARE": 1, "FREQUENT": 8}[frequency], rel=0.3)


def test_it_comes_as_files_like_anybodys(tmp_path) -> None:
    text, gold = crossed.write(tmp_path, 600)
    own = files(text)
    train, validation = (list(own.text(split)) for split in ("train", "validation"))
    assert (len(train), len(validation)) == (600, 30)
    assert not {*train} & {*validation}
    data = tagged(gold)
    assert data.counts == (500, 500 * 11)
    assert data.sentences()[7][1] == crossed.sentences(500, "test")[7]
    assert data.reference().types()["RARE-FEW-FREE"] == 5
    assert crossed.write(tmp_path / "again", 600) != (text, gold)
    assert files(str(tmp_path / "again/text")).train == own.train  # the same, whenever it is written
    assert crossed.sentences(3, "test") != crossed.sentences(3, "test", seed=1)
