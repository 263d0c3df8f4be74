"""Classes over pretraining: covariates taken off, abilities that are lost again, and what cannot be drawn anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plm import Store
from plm.analyses.knowledge import SCORES, Knowledge
from plm.analyses.minimal_pairs import MinimalPairs
from plm.analyses.reconstruction import Reconstruction
from plm.reading import to_parquet
from plm.store import RunFolder
from sweeps.engine.embryo import Growth
from sweeps.engine.embryo_collect import same_words
from sweeps.engine.embryo_tables import caption, reached, said, table

STEPS = (0, 1, 10, 100, 1000)


def growth(folder: Path, analysis: Any, rows: Callable[[int, int], list[Any]], seeds: tuple[int, ...] = (0,)) -> Growth:
    """Finished readings of the rows that a function gives for a step's place and a seed."""
    store, runs, name = Store.at(folder), {}, analysis.kind.partition("/")[2]
    for seed in seeds:
        for i, step in enumerate(STEPS):
            own, run = rows(i, seed), RunFolder(store, f"{name}-{seed}-{step}")
            run.put("rows.parquet", to_parquet(own))
            metrics = analysis.summary(None, own)
            run.put("result.json", json.dumps({"metrics": metrics, "rows": len(own)}).encode())
            runs[seed, step] = run
    return Growth("bert", name, (), STEPS, seeds, runs, len(runs))


def words(chance: Callable[[str, float, int], float], known: bool = True) -> Callable[[int, int], list[Any]]:
    """Words of two classes, of which one is more frequent; right with a chance of class, frequency and place of the step."""
    draw = np.random.default_rng(0)
    there = [
        (sentence, tag, float(draw.normal(8 if tag == "DET" else 4, 1.0)), float(draw.random()))
        for sentence in range(250)
        for tag in ("DET", "NOUN", "NOUN", "DET", "ADJ")
    ]

    def rows(i: int, seed: int) -> list[Any]:
        return [
            {
                "id": str(n), "sentence": sentence, "tag": tag, "form": "", "word": str(n % 7), "pieces": 1,
                "right": luck < chance(tag, frequency, i), "guess": False, "form_guess": None, "log_count": 1.0,
                "mean_id": 1.0, "log_types": 2.0, "frequency": frequency if known else None, "before": None,
                "after": None,
            }
            for n, (sentence, tag, frequency, luck) in enumerate(there)
        ]  # fmt: skip

    return rows


def cells(found: Growth) -> dict[str, dict[str, str]]:
    head, rows = table(found)
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def test_what_frequency_explains_is_taken_off(tmp_path: Path) -> None:
    """Frequent words are learnt first; determiners are frequent, and no earlier than other words as frequent as they."""
    found = growth(tmp_path, Reconstruction, words(lambda _, frequency, i: 0.1 * frequency * i / 2 - 0.3 * (i < 3)))
    raw, off = ({tag: found.curve(f"{family}/{tag}") for tag in ("DET", "NOUN")} for family in ("accuracy", "adjusted"))
    assert (raw["DET"] - raw["NOUN"])[2] > 0.25
    assert abs((off["DET"] - off["NOUN"])[2]) < 0.12
    low, high = found.band("adjusted/DET") or (None, None)
    assert low is not None
    assert (low < off["DET"])[2:].all()
    assert (off["DET"] < high)[2:].all()
    said_of = cells(found)["DET"]
    assert "[" in said_of["half of plateau, covariates off"]
    assert any("takes off word frequency" in line for line in caption(found))


def test_a_class_that_learns_nothing_has_no_date_with_covariates_off_either(tmp_path: Path) -> None:
    """As frequent words of the others become right, a line says that its rare ones are better than expected."""
    once_lucky = words(lambda tag, f, i: 0.05 * (i == 1) if tag == "NOUN" else 0.03 * f * i)
    found = growth(tmp_path, Reconstruction, once_lucky)
    assert found.curve("accuracy/NOUN").max() > 0.02
    assert found.curve("adjusted/NOUN")[-1] > found.curve("adjusted/NOUN")[0] + 0.05
    dates = {tag: cells(found)[tag]["half of plateau, covariates off"] for tag in ("DET", "NOUN")}
    assert dates["NOUN"] == ">"
    assert "[" in dates["DET"]


def test_without_a_text_nothing_is_taken_off_and_that_is_said(tmp_path: Path) -> None:
    found = growth(tmp_path, Reconstruction, words(lambda *_: 0.5, known=False))
    assert "half of plateau, covariates off" not in cells(found)["DET"]
    assert any("no covariates: which text" in line for line in caption(found))


@pytest.mark.parametrize(("last", "lost"), [(0.1, True), (0.8, False)])
def test_what_is_lost_again_has_no_date_that_stands(tmp_path: Path, last: float, lost: bool) -> None:
    curve = (0.0, 0.9, 0.9, 0.9, last)
    crossing = growth(tmp_path, Reconstruction, words(lambda tag, f, i: curve[i])).crossing(
        "accuracy/NOUN", 0.5, relative=False
    )
    assert crossing.step is not None
    assert crossing.lost is lost
    assert ("then lost" in said(crossing)) is lost


def test_trainings_are_compared_on_words_that_are_one_piece_in_all(tmp_path: Path) -> None:
    """A vocabulary that cuts the nouns in two makes them hard; the words that both have whole are as hard for both."""

    def cut(tag: str, pieces: int, n: int) -> Callable[[int, int], list[Any]]:
        plain = words(lambda *_: 0.7)

        def rows(i: int, seed: int) -> list[Any]:
            own = plain(i, seed)
            return [
                row | {"pieces": pieces, "right": False} if row["tag"] == tag and k % n == 0 else row
                for k, row in enumerate(own)
            ]

        return rows

    one, other = (growth(tmp_path / name, Reconstruction, cut("NOUN", 2, n)) for name, n in (("one", 2), ("other", 3)))
    first, second = same_words([one, other])
    assert first.curve("accuracy/NOUN") == pytest.approx(second.curve("accuracy/NOUN"))
    assert first.curve("accuracy/NOUN")[0] > one.curve("accuracy/NOUN")[0] + 0.2
    assert first.curve("accuracy/DET") == pytest.approx(one.curve("accuracy/DET"))
    nouns = {row["id"] for row in words(lambda *_: 1)(0, 0) if row["tag"] == "NOUN"}
    assert first.only is not None
    assert {int(name) % 6 for name in first.only & nouns} <= {1, 5}
    assert first.rows == len(first.only) < one.rows
    assert "one piece in every vocabulary" in str(first.rest)
    assert cells(first)["NOUN"]["n"] == str(len(first.only & nouns))
    assert (first.band("accuracy/NOUN") or [0])[0][0] > one.curve("accuracy/NOUN")[0]
    assert same_words([one]) == []  # nothing to be compared with
    whole = growth(tmp_path / "whole", Reconstruction, words(lambda *_: 0.7))
    assert same_words([whole, whole]) == []  # all words are such


def facts(asked: range, unknown: Callable[[int], int] = lambda i: 9) -> Callable[[int, int], list[Any]]:
    """Facts by number, of which those after `unknown` of the step's place are known."""

    def rows(i: int, seed: int) -> list[Any]:
        scores = dict.fromkeys(SCORES.values(), 0.0)
        fact = {"supported": "", "stated": ""}
        return [
            scores | fact | {"id": str(n), "relation": f"r{n % 2}", "typed_correct": float(n > unknown(i))}
            for n in asked
        ]

    return rows


def test_what_is_guessed_among_the_objects_of_a_relation_is_not_known_at_the_first_step(tmp_path: Path) -> None:
    """A third at once, as by chance; two thirds from step 100 on."""
    found = growth(tmp_path, Knowledge, facts(range(12), lambda i: 7 if i < 3 else 3))
    assert found.curve("typed_accuracy") == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert 10 < (reached(found, "typed_accuracy") or 0) < 100


def test_the_interval_of_a_date_does_not_tell_how_many_easy_things_were_drawn(tmp_path: Path) -> None:
    """Half are right from the start and a tenth are learnt: each draw's date is counted from where that draw begins."""
    found = growth(tmp_path, Knowledge, facts(range(80), lambda i: (39, 39, 35, 31, 31)[i]))
    date = found.risen("typed_accuracy/r0", 0.5)
    assert date.step is not None
    assert date.low is not None
    assert date.low > 1
    assert date.high is not None
    assert date.high < 100


def test_facts_are_compared_where_their_objects_are_one_piece_in_all(tmp_path: Path) -> None:
    one, other = (growth(tmp_path / str(n), Knowledge, facts(range(n, n + 16))) for n in (0, 4))
    first, second = same_words([one, other])
    assert first.only == second.only == {str(n) for n in range(4, 16)}
    for same in (first, second):
        assert same.curve("typed_accuracy") == pytest.approx([0.5] * 5)
    assert one.curve("typed_accuracy")[0] < 0.4 < 0.6 < other.curve("typed_accuracy")[0]


def test_one_cluster_alone_has_no_interval(tmp_path: Path) -> None:
    """A term of one paradigm: however often it is drawn, it has the same accuracy."""

    def rows(i: int, seed: int) -> list[Any]:
        return [
            {
                "id": f"{p}/{n}", "paradigm": p, "field": "f", "term": t, "score": float(n < 5 * i + k + seed),
                "unknown": 0,
            }
            for k, (p, t) in enumerate((("a", "one"), ("b", "two"), ("c", "two")))
            for n in range(20)
        ]  # fmt: skip

    found = growth(tmp_path, MinimalPairs, rows)
    assert found.band("accuracy/one") is None
    assert found.band("accuracy/two") is not None
    assert growth(tmp_path, MinimalPairs, rows, (0, 1)).band("accuracy/one") is not None  # seeds vary
