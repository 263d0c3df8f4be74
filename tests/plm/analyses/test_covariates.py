"""Covariates: what a text says of words, and what regression takes off the differences between classes."""

from __future__ import annotations

import math

import crossed
import numpy as np
import pytest
from subjects import pieces, subject, words

from plm import covariates
from plm.analyses.prediction import Prediction
from plm.analyses.reconstruction import Reconstruction
from plm.covariates import adjusted
from plm.data.files import files
from plm.data.gold import aligned, tagged
from plm.data.mixture import Mixture
from plm.data.world import World
from plm.ngram import NGrams
from plm.spec import digest
from plm.word_statistics import BREAK, WordStatistics, statistics

LINES = ["The cat sat.", "the dog sat", "a cat, the cat"] * 5


def sentence(text, tokens=None):
    own = tokens or text.split()
    return aligned(own, ["X"] * len(own), [""] * len(own), text)


# Text


def test_frequency_and_surprise_by_hand():
    model = WordStatistics(LINES)
    (the, cat, sat), (unseen,) = model.of([sentence("The cat sat"), sentence("zebra")])
    total = sum(len(line.split()) for line in LINES) + 2 * 5  # a full stop and a comma are words too
    assert the.frequency == pytest.approx(math.log1p(1e6 * 15 / total))
    assert unseen.frequency == 0
    ids = {word: BREAK + 1 + i for i, word in enumerate(["the", "cat", "sat", ".", "dog", "a", ","])}
    stream = [1, *(n for line in LINES for n in (*_numbers(line, ids), 1))]
    forth, back = (NGrams([np.array(s)], len(ids) + 2, 3) for s in (stream, stream[::-1]))
    gram = [BREAK, ids["the"], ids["cat"], ids["sat"]]
    assert the.before == pytest.approx(-math.log(forth.probability(np.array([gram[:2]]))[0]))
    assert cat.before == pytest.approx(-math.log(forth.probability(np.array([gram[:3]]))[0]))
    assert sat.before == pytest.approx(-math.log(forth.probability(np.array([gram[1:]]))[0]))
    assert the.after == pytest.approx(-math.log(back.probability(np.array([gram[:0:-1]]))[0]))
    assert sat.after == pytest.approx(-math.log(back.probability(np.array([[BREAK, ids["sat"]]]))[0]))


def _numbers(line, ids):
    return [ids[part] for part in line.lower().replace(".", " .").replace(",", " ,").split()]


def test_a_word_of_several_parts_is_as_rare_as_its_rarest():
    model = WordStatistics(["do n't stop .", "i don't"] * 20)
    whole = model.of([sentence("don't")])[0][0]
    parts = model.of([sentence("don't", ["don", "'", "t"])])[0]
    assert whole.frequency == min(part.frequency for part in parts)
    assert whole.before == pytest.approx(sum(part.before for part in parts))


def test_only_the_training_split_is_read_and_of_a_mixture_its_share(tmp_path, monkeypatch):
    for name, word in (("one", "x"), ("two", "y")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.txt").write_text(f"{word}, b, c, d.\n" * 200)
        (tmp_path / name / "validation.txt").write_text("z\n")
    one, two = (files(str(tmp_path / name)) for name in ("one", "two"))
    monkeypatch.setattr("plm.word_statistics.READ", 320)  # of lines of eight: a comma is a word too
    statistics.cache_clear()
    x, y, z = statistics(Mixture((one, two), (3.0, 1.0))).of([sentence("x y z")])[0]
    assert math.expm1(x.frequency) / math.expm1(y.frequency) == pytest.approx(3)
    assert z.frequency == 0
    assert statistics(one) is statistics(files(str(tmp_path / "one")))
    statistics.cache_clear()
    (tmp_path / "one/train.txt").write_text("...\n")
    with pytest.raises(ValueError, match="has changed"):
        statistics(one)
    (tmp_path / "one/train.txt").unlink()
    with pytest.raises(ValueError, match=r"cannot be read .* Put it back, or name another behind the gold data"):
        statistics(one)
    with pytest.raises(ValueError, match="has no words"):
        WordStatistics(["", " "])


def test_an_analysis_finds_the_text_that_its_model_learnt_or_that_is_named(tmp_path):
    text, gold = crossed.write(tmp_path, 200)
    of = subject(tokenizer=words(sorted({w for c in crossed.classes() for w in (*c.words, *c.cues)})))
    asked = Reconstruction(tagged(gold), size=5)
    alone = asked.rows(of)
    assert all(row[name] is None for row in alone for name in covariates.WITHIN)
    import dataclasses

    known = asked.rows(dataclasses.replace(of, text=files(text)))
    named = Reconstruction.of(f"{gold}+{text}", size=5)
    assert named.rows(of) == known
    assert digest(named) != digest(asked) == digest(Reconstruction.of(gold, size=5))
    assert {name.partition("/")[0] for name in asked.summary(known)} >= {"adjusted", "effect"}
    stripped = [{k: v for k, v in row.items() if k not in covariates.WITHIN} for row in known]
    assert stripped == [{k: v for k, v in row.items() if k not in covariates.WITHIN} for row in alone]
    left_to_right = subject("GPT2LMHeadModel", tokenizer=pieces())
    rows = Prediction.of(f"{gold}+{text}", size=5).rows(left_to_right)
    assert all(row["after"] is None and row["before"] is not None for row in rows)


def test_the_generated_language_is_a_text_like_others():
    found = statistics(World(num_documents=300)).of([sentence("the zzz")])[0]
    assert found[0].frequency > 10 > found[1].frequency == 0


# Regression


def table(rng, classes=12, each=120):
    """Words whose frequency, surprise and class size are correlated, as in natural text."""
    size = rng.uniform(1, 6, classes)
    tag = np.repeat(np.arange(classes), each)
    frequency = 8 - 0.8 * size[tag] + rng.normal(0, 1, len(tag))
    before = 1 + 0.5 * size[tag] - 0.3 * frequency + rng.normal(0, 1, len(tag))
    return {
        "sentence": rng.integers(0, 200, len(tag)).tolist(),
        "tag": [f"T{k:02}" for k in tag],
        "form": ["F" if k == 0 and i % 2 else "" for i, k in enumerate(tag)],
        "frequency": frequency.tolist(),
        "before": before.tolist(),
        "after": [None] * len(tag),
        "log_types": size[tag].tolist(),
    }


def test_slopes_are_those_of_a_regression_with_classes():
    """Against statsmodels: class dummies, then the class levels on class size, each class once."""
    import statsmodels.api as sm

    rng = np.random.default_rng(0)
    columns = table(rng)
    x = np.array([columns["frequency"], columns["before"], columns["log_types"]]).T
    x = (x - x.mean(0)) / x.std(0)
    bonus = np.array([int(t[1:]) * 5 % 7 / 50 for t in columns["tag"]])
    y = 0.5 + 0.1 * x[:, 0] - 0.2 * x[:, 1] + 0.05 * x[:, 2] + bonus + rng.normal(0, 0.1, len(x))
    found = adjusted(columns | {"right": y.tolist()})
    names = sorted(set(columns["tag"]))
    dummies = np.array([[t == name for name in names] for t in columns["tag"]], float)
    fit = sm.OLS(y, np.column_stack([x[:, :2], dummies])).fit()
    assert [found["effect/frequency"][0], found["effect/before"][0]] == pytest.approx(fit.params[:2])
    sizes = np.array([x[columns["tag"].index(name), 2] for name in names])
    between = sm.OLS(fit.params[2:], sm.add_constant(sizes)).fit()
    assert found["effect/types"][0] == pytest.approx(between.params[1])
    assert "effect/after" not in found
    expected = fit.params[2:] - between.params[1] * sizes
    assert [found[f"adjusted/{name}"][0] for name in names] == pytest.approx(expected)
    assert "adjusted/F" in found


def test_drawing_a_sentence_twice_is_to_have_its_words_twice():
    rng = np.random.default_rng(1)
    columns = table(rng, classes=4, each=60) | {"right": rng.integers(0, 2, 240).tolist()}
    clusters = {s: c for c, s in enumerate(sorted(set(columns["sentence"])))}
    weights = rng.integers(0, 3, (2, len(clusters))).astype(float)
    drawn = adjusted(columns, clusters, weights)
    rows = [i for i, s in enumerate(columns["sentence"]) for _ in range(int(weights[1, clusters[s]]))]
    again = adjusted({name: [values[i] for i in rows] for name, values in columns.items()})
    spread = [np.std([columns[name][i] for i in rows]) / np.std(columns[name]) for name in ("frequency", "before")]
    for name, factor in zip(("frequency", "before"), spread, strict=True):  # effects are by standard deviation
        assert drawn[f"effect/{name}"][1] * factor == pytest.approx(again[f"effect/{name}"][0])
    one, other = (np.diff([found[f"adjusted/T0{k}"][i] for k in range(4)]) for found, i in ((drawn, 1), (again, 0)))
    assert one == pytest.approx(other)


def test_a_class_that_is_not_drawn_has_no_number_there():
    columns = {
        "right": [1, 0, 1, 0, 1, 0], "sentence": [0, 0, 0, 1, 1, 1], "tag": list("AABBCC"), "form": [""] * 6,
        "frequency": [1.0, 2, 3, 1, 2, 3], "before": [None] * 6, "after": [None] * 6, "log_types": [1, 1, 2, 2, 3, 3],
    }  # fmt: skip
    drawn = adjusted(columns, {0: 0, 1: 1}, np.array([[2.0, 0.0], [1.0, 1.0]]))
    assert np.isnan(drawn["adjusted/C"]).tolist() == [True, False]
    again = adjusted({name: values[:3] * 2 for name, values in columns.items()})
    for name, by_hand in (("adjusted/A", 0), ("adjusted/B", 2)):  # a step of frequency is worth -1 within A
        assert drawn[name][0] == pytest.approx(again[name][0]) == pytest.approx(by_hand)
    assert np.isfinite(drawn["adjusted/A"]).all()
    assert adjusted(columns | {"frequency": [None] * 6}) == {}
