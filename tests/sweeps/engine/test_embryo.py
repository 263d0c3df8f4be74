"""Curves over pretraining: monotone fits, crossings, intervals, and how they are shown."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plm import Store
from plm.analyses import FIRST, Unit
from plm.analyses.reconstruction import Reconstruction
from plm.reading import to_parquet
from plm.store import RunFolder
from sweeps.engine import embryo_figures
from sweeps.engine.embryo import Crossing, Growth, monotone, passed
from sweeps.engine.embryo_collect import _abreast
from sweeps.engine.embryo_figures import rescaled
from sweeps.engine.embryo_tables import caption, covariates, ordered, reached, said, table
from sweeps.engine.shown import Asked, Child, Curve, arrivals, curve_child

STEPS = (0, 1, 10, 100, 1000)
CURVES = {"DET": (0.0, 0.5, 1.0, 1.0, 1.0), "NOUN": (0.0, 0.0, 0.0, 0.5, 0.8), "X": (0.0, 0.0, 0.0, 0.0, 0.0)}
WORDS = {"DET": 1, "NOUN": 3, "X": 2, "upos/layer_0": 1, "upos/layer_10": 1, "roles/layer_2": 1}
"""In each sentence."""


@pytest.fixture
def grown(tmp_path) -> Any:
    """Makes a training whose words are right as the curves say, in 40 sentences."""

    def make(seeds=(0,), curves=CURVES, training="bert", shift=0.0):
        store = Store.at(tmp_path)
        runs = {}
        for seed in seeds:
            for i, step in enumerate(STEPS):
                rows = [
                    row(f"{sentence}:{tag}{k}", sentence, tag, sentence < 40 * min(1.0, curve[i] + shift * seed))
                    for sentence in range(40)
                    for tag, curve in curves.items()
                    for k in range(WORDS[tag])
                ]
                run = RunFolder(store, f"reconstruction-{training}-{seed}-{step}")
                run.put("rows.parquet", to_parquet(rows))
                metrics = Reconstruction.summary(None, rows)  # type: ignore[arg-type]  # it looks at rows alone
                run.put("result.json", json.dumps({"metrics": metrics, "rows": len(rows)}).encode())
                runs[seed, step] = run
        return Growth(training, "reconstruction", (), STEPS, tuple(seeds), runs, len(runs))

    return make


def row(name, sentence, tag, right):
    return {
        "id": name, "sentence": sentence, "tag": tag, "form": "", "word": tag.lower(), "right": bool(right), "pieces": 1,
        "guess": tag == "DET" and sentence < 10, "form_guess": None, "log_count": float(WORDS[tag]), "log_types": 1.0,
        "mean_id": 1.0, "frequency": None, "before": None, "after": None,
    }  # fmt: skip


# Crossings


@settings(max_examples=20)
@given(st.lists(st.lists(st.floats(-5, 5), min_size=7, max_size=7), min_size=1, max_size=5))
def test_a_monotone_fit_is_isotonic_regression(curves):
    from sklearn.isotonic import isotonic_regression

    assert np.allclose(monotone(np.array(curves)), [isotonic_regression(curve) for curve in curves])


def crossed(curve, level, **options):
    return float(passed(STEPS, monotone(np.array([curve], float)), level, **options)[0])


def test_a_level_is_passed_between_two_steps_on_a_log_scale():
    assert crossed((0, 0, 0, 1, 1), 0.5) == pytest.approx(np.expm1((np.log1p(10) + np.log1p(100)) / 2))
    assert crossed((0, 0, 0.5, 1, 1), 0.5) == pytest.approx(10)
    assert crossed((0.7, 0.7, 0.7, 0.8, 0.8), 0.5) == 0


def test_a_peak_does_not_pass_a_level_and_a_dip_does_not_undo_it():
    assert crossed((0, 1, 0, 0, 1), 0.5) > 100  # one step of four on the fit
    assert crossed((0, 1, 1, 0.9, 1), 0.8) < 1
    assert crossed((0, 0, 0, 0, 0.79), 0.8) == np.inf


def test_a_share_of_the_plateau_may_start_at_the_baseline():
    half = crossed((0, 0.1, 0.2, 0.3, 0.4), 0.5, relative=True)
    assert half == pytest.approx(10)
    assert crossed((0, 0.1, 0.2, 0.3, 0.4), 0.5, relative=True, above=0.2) == pytest.approx(100)
    assert crossed((0, 0.1, 0.2, 0.3, 0.4), 0.5, relative=True, above=0.39) == np.inf  # nothing was learnt


def test_a_rescaled_curve_ends_at_one():
    assert rescaled(np.array([0.1, 0.6, 0.4]))[-1] == 1
    assert rescaled(np.array([0.1, 0.6, 0.4]))[1] == pytest.approx(1.5)
    assert np.isnan(rescaled(np.zeros(3))).all()


def test_a_curve_that_begins_above_zero_is_rescaled_from_its_floor():
    assert rescaled(np.array([0.8, 0.85, 0.9]), 0.8).tolist() == pytest.approx([0, 0.5, 1])
    assert np.isnan(rescaled(np.array([0.8, 0.9, 0.81]), 0.8)).all()  # nothing was learnt


# Growth


def test_shares_of_a_plateau_are_counted_from_the_floor(grown, monkeypatch):
    growth = grown(curves={"DET": (0.5, 0.5, 0.5, 0.7, 0.9), "X": (0.5, 0.5, 0.5, 0.5, 0.5)})
    assert reached(growth, "accuracy/DET") == 0  # half of .9 is there before the first step
    first: ClassVar[str | None] = FIRST
    monkeypatch.setattr(Reconstruction, "floor", first)
    assert reached(growth, "accuracy/DET") == pytest.approx(100)
    assert reached(growth, "accuracy/X") is None
    assert "counted from the first step" in " ".join(caption(growth))
    figure = embryo_figures.order([growth], "tag")
    assert figure.axes[0].lines[0].get_ydata().tolist() == pytest.approx([0, 0, 0, 0.5, 1])
    guess: ClassVar[str | None] = "guess"
    monkeypatch.setattr(Reconstruction, "floor", guess)
    assert growth.floor("accuracy/DET") == 0.25
    assert "counted from guess" in " ".join(caption(growth))


def test_what_a_probe_says_stands_by_label_set(grown, monkeypatch):
    growth = grown(curves={"upos/layer_0": CURVES["DET"], "upos/layer_10": CURVES["DET"], "roles/layer_2": CURVES["X"]})
    assert growth.kinds == {
        "upos": ["accuracy/upos/layer_0", "accuracy/upos/layer_10"],
        "roles": ["accuracy/roles/layer_2"],
    }
    late = grown(curves={"upos/layer_0": CURVES["X"], "upos/layer_10": CURVES["DET"]}, training="late")
    # as they lie, not as they learn
    assert ordered(late, "upos") == ["accuracy/upos/layer_0", "accuracy/upos/layer_10"]
    figure = embryo_figures.several([growth], "accuracy")
    assert [ax.get_title() for ax in figure.axes] == ["upos", "roles"]
    legends = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in figure.axes]
    assert legends == [["accuracy", "layer_0", "layer_10"], ["layer_2"]]
    assert not any("95%" in text.get_text() for text in figure.texts)  # it draws none
    fewer = grown(curves={"upos/layer_0": CURVES["DET"]}, training="albert")
    both = embryo_figures.several([fewer, growth], "accuracy")
    assert [ax.get_title() for ax in both.axes] == ["albert, upos", "albert, roles", "bert, upos", "bert, roles"]
    assert [len(ax.lines) for ax in both.axes] == [2, 0, 3, 1]


def test_what_only_the_second_training_has_is_drawn_too(grown, tmp_path):
    less = grown(curves={"upos/layer_0": CURVES["DET"]}, training="albert")
    more = grown(curves={"upos/layer_0": CURVES["X"], "upos/layer_10": CURVES["DET"], "roles/layer_2": CURVES["DET"]})
    titles = [ax.get_title().split(" (")[0] for ax in embryo_figures.classes([less, more], "upos").axes]
    assert [title for title in titles if title] == ["upos/layer_0", "upos/layer_10"]
    figure = embryo_figures.order([less, more], "upos")
    assert [len(ax.lines) for ax in figure.axes[::2]] == [2, 3]  # a curve each, and the plateau
    of_ten = {ax.lines[-2].get_color() for ax in figure.axes[2::2]}
    assert {text.get_text(): line.get_color() for text, line in named(figure.axes[0])}["upos/layer_10"] in of_ten
    keys = embryo_figures.save("asked", [less, more], [], {}, Store.at(tmp_path))
    assert any(key.endswith("classes-roles.png") for key in keys)


def named(ax):
    legend = ax.get_legend()
    return zip(legend.get_texts(), legend.get_lines(), strict=True)


def test_of_more_classes_than_a_panel_holds_the_commonest_are_drawn(grown, monkeypatch):
    names = [f"T{i:02}" for i in range(16)]
    monkeypatch.setitem(globals(), "WORDS", {name: 1 + i for i, name in enumerate(names)})
    (panel,) = embryo_figures.several([grown(curves=dict.fromkeys(names, CURVES["DET"]))], "accuracy").axes
    assert panel.get_title() == "tag, the 14 of most words of 17"
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["accuracy", *names[3:]]


def test_curves_and_order(grown):
    growth = grown()
    assert growth.curve("accuracy/NOUN").tolist() == [0, 0, 0, 0.5, 0.8]
    assert list(growth.kinds) == ["tag"]
    assert ordered(growth, "tag") == ["accuracy/DET", "accuracy/NOUN", "accuracy/X"]
    assert growth.crossing("accuracy/X", 0.5, relative=True).step is None


def test_sentences_are_drawn_together(grown):
    growth = grown()
    low, high = growth.band("accuracy/NOUN")
    # 40 sentences, each all right or all wrong: the standard error is that of 40 coins, not of 120
    spread = (0.5 * 0.5 / 40) ** 0.5
    assert high[3] - low[3] == pytest.approx(2 * 1.96 * spread, rel=0.25)
    assert (low[2], high[2]) == (0, 0)
    crossing = growth.crossing("accuracy/NOUN", 0.5, relative=False)
    assert crossing.step == pytest.approx(100)
    assert 10 < crossing.low < 99 < 101 < crossing.high < 1000
    assert growth.crossing("accuracy/NOUN", 0.8, relative=False).high is None  # half of the draws end below


def test_seeds_are_drawn_too(grown):
    one, several = grown(), grown(seeds=(0, 1, 2), shift=0.2)
    widths = [g.band("accuracy/DET")[1][1] - g.band("accuracy/DET")[0][1] for g in (one, several)]
    assert several.curve("accuracy/DET")[1] == pytest.approx(0.7)
    assert widths[1] > widths[0]
    assert "3 pretraining seeds" in caption(several)[0]
    assert "sentences and pretraining seeds drawn anew" in caption(several)[1]


def test_without_rows_to_draw_only_seeds_are_drawn(grown, monkeypatch):
    none: ClassVar[Unit | None] = None
    monkeypatch.setattr(Reconstruction, "unit", none)
    assert grown().resampled == {}
    assert "no intervals" in caption(grown())[1]
    assert set(grown(seeds=(0, 1)).resampled) == {"accuracy", "accuracy/DET", "accuracy/NOUN", "accuracy/X"}


def test_a_table_has_baselines_and_censored_steps(grown):
    head, rows = table(grown())
    found = {r[0]: dict(zip(head, r, strict=True)) for r in rows}
    assert [*found] == ["DET", "NOUN", "X", "accuracy"]
    assert (found["DET"]["baseline"], found["DET"]["n"], found["NOUN"]["baseline"]) == ("0.250", "40", "0.000")
    assert found["X"]["half of plateau"].startswith(">")
    assert found["NOUN"]["90%"].startswith("> ")
    assert found["DET"]["50%"].startswith("1 [")
    assert said(grown().crossing("accuracy", 0.5, relative=False)).isdigit()  # the whole is no group: no interval


def test_the_order_is_held_against_frequency(grown, monkeypatch):
    curves = {f"T{i}": tuple(0.0 if step < 10**i else 1.0 for step in STEPS) for i in range(4)}
    monkeypatch.setitem(globals(), "WORDS", {f"T{i}": 5 - i for i in range(4)})
    assert covariates(grown(curves=curves))[0] == "with mean log count -1.00 (n 4)"


def test_figures_are_drawn_for_each_analysis_and_training(grown, tmp_path):
    found = [grown(), grown(training="albert", seeds=(0, 1))]
    keys = embryo_figures.save("asked", found, found, {}, Store.at(tmp_path))
    names = {key.removeprefix("sweeps/asked/figures/") for key in keys if key.endswith(".png")}
    assert names == {"reconstruction/classes.png", "reconstruction/order.png", "bert/glance.png", "albert/glance.png"}
    assert b"DET (n 40)" in (tmp_path / "sweeps/asked/figures/reconstruction/classes.svg").read_bytes()


def test_a_seed_that_has_just_begun_does_not_hide_the_others():
    whole = [(seed, step) for seed in (0, 1) for step in STEPS]
    assert _abreast(whole) == (0, 1)
    assert _abreast([*whole, (2, 0), (2, 1)]) == (0, 1)  # not read to the last step
    assert _abreast([*whole, (2, 1000)]) == (0, 1)  # three seeds at one step are less than two at five
    assert _abreast([at for at in whole if at != (1, 10)]) == (0, 1)  # one reading that failed
    assert _abreast([(0, 0), (0, 1), (1, 0)]) == (0,)


def test_seeds_that_are_left_out_are_named(grown):
    growth = replace(grown(), behind=(1, 2))
    assert "1 pretraining seed (left out as not read so far: 1, 2); 5 of 5 readings" in caption(growth)[0]


def test_a_name_that_two_columns_share_is_one_class(grown, monkeypatch):
    """A form that is called like a tag: its words do not count for the tag."""
    monkeypatch.setattr(f"{__name__}.row", shared_name(row))
    growth = grown()
    assert growth.kinds == {"tag": ["accuracy/DET", "accuracy/X"], "form": ["accuracy/NOUN"]}
    assert np.allclose(growth.resampled["accuracy/NOUN"][:, 2], 1.0)  # the one word of DET, right from step 10


def shared_name(make):
    def one(name, sentence, tag, right):
        return make(name, sentence, tag, right) | {"form": "NOUN" if tag == "DET" else ""}

    return one


# As MLflow shows it


def child(run_id, step, status="done"):
    totals = [
        ("accuracy/DET", 0.1 * step, 5000 + step, 0),
        ("work/flops", 1.0, 5000 + step, 0),
        ("z", 2.0, 5000 + step, 0),
    ]
    return Child(run_id, run_id, {}, status, 10, 5000 + step, 1, {}, {}, [], totals if status == "done" else [], None)


def test_readings_of_a_training_are_one_run_over_its_steps(tmp_path):
    cells = [
        {"run_id": f"r{step}{analysis}", "point": {"trajectory": "t", "analysis": analysis, "step": step}}
        for step in (8, 0) for analysis in "ab"
    ]  # fmt: skip
    document = {"metric": "m", "axes": ["trajectory", "analysis", "step"], "cells": cells, "steps": "step"}
    store = Store.at(tmp_path)
    store.put("sweeps/s/sweep.json", json.dumps(document).encode())
    curves = Asked.read(store, "s").curves
    assert curves[0] == Curve({"trajectory": "t", "analysis": "a"}, ((0, "r0a"), (8, "r8a")))
    assert len(curves) == 2
    known = {"r0a": child("r0a", 0), "r8a": child("r8a", 8)}
    shown = curve_child(curves[0], known, False)
    assert [(key, step) for key, _, _, step in shown.values] == [
        ("accuracy/DET", 0), ("z", 0), ("work/flops", 0), ("accuracy/DET", 8), ("z", 8), ("work/flops", 8),
    ]  # fmt: skip
    assert arrivals(shown.values, shown.clock) == {0: 5000, 8: 5008}
    assert (shown.status, shown.name, shown.tags["role"]) == ("done", "t a", "curve")
    assert curve_child(curves[1], known, False) is None


def test_a_curve_of_fine_tunings_has_what_they_scored_in_the_end():
    values = [("val/score", 0.2, 1, 1), ("train/loss", 9.0, 1, 1), ("val/score", 0.7, 2, 3)]
    known = {"x": replace(child("x", 4), values=values)}
    shown = curve_child(Curve({}, ((4, "x"),)), known, False)
    assert {(key, value) for key, value, _, step in shown.values if step == 4} == {
        ("accuracy/DET", 0.4), ("z", 2.0), ("work/flops", 1.0), ("val/score", 0.7),
    }  # fmt: skip
    assert shown.values[-1][0] == "work/flops"


def test_a_curve_is_as_far_as_its_readings():
    curve = Curve({"analysis": "a"}, ((0, "x"), (1, "y")))
    known = {"x": child("x", 0)}
    assert curve_child(curve, known, False).status == "interrupted"
    assert curve_child(curve, known, True).status == "running"
    assert curve_child(curve, known | {"y": child("y", 1, "failed")}, False).status == "failed"
    assert curve_child(curve, known | {"y": child("y", 1)}, True).status == "done"


def test_what_was_there_at_the_first_step_that_was_read_is_no_date():
    """A training that is read from step 1,000 on says nothing of when before that."""
    assert said(Crossing(1000.0, 1000.0, 1500.0), 1000) == "< [<, 1500]"
    assert said(Crossing(1200.0, None, None), 1000) == "1200"
    assert said(Crossing(0.0, 0.0, 3.0), 0) == "0 [0, 3]"


def test_at_a_glance_abilities_stand_beside_scores_and_above_what_is_none(grown, monkeypatch):
    growth = grown()
    figure = embryo_figures.glance([growth], {"sst2": {0: 0.5, 10: 0.9, 1000: 0.8}, "cola": {0: 0.5, 1000: 0.51}})
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[1:] == ["sst2 (score 0.50 to 0.80)", "cola (score 0.50 to 0.51): hardly rises"]
    assert texts[0].startswith("reconstruction (accuracy 0.00 to 0.")
    (gains,) = figure.axes
    assert [line.get_ydata()[-1] for line in gains.lines[:2]] == [1, 1]
    assert gains.lines[1].get_ydata().tolist() == pytest.approx([0, 4 / 3, 1])
    long = embryo_figures.glance([growth], {"sst2, fine-tuned (size 500, " + "so long, " * 12: {0: 0.5, 1000: 0.8}})
    long.draw_without_rendering()
    assert long.axes[0].get_position().width > 0.5  # of the figure, for all its names
    one = embryo_figures.glance([growth], {"sst2": {1000: 0.8}, "cola": {0: 0.9, 1000: 0.4}})
    texts = [text.get_text().replace("\n", " ") for text in one.legends[0].get_texts()]
    assert texts[1:] == ["sst2 (score 0.80): read at step 1,000 alone", "cola (score 0.90 to 0.40): falls"]
    monkeypatch.setattr(Reconstruction, "unit", None)
    assert [ax.get_title(loc="left") for ax in embryo_figures.glance([growth, growth], {}).axes] == [
        "reconstruction: accuracy, mean of 4 (shaded: least to greatest)"
    ] * 2


def test_two_sizes_of_an_analysis_have_figures_of_their_own(grown, tmp_path):
    one, other = (replace(grown(), rest=(("size", size),)) for size in (5, 100))
    keys = embryo_figures.save("embryology", [one, other], [other], {}, Store.at(tmp_path))
    classes = [key for key in keys if "classes" in key]
    assert len(set(classes)) == len(classes) == 4
    alone = embryo_figures.save("embryology", [one], [one], {}, Store.at(tmp_path))
    assert any("/reconstruction/" in key for key in alone)


def test_what_may_well_fall_has_no_plateau(grown, monkeypatch):
    """An entropy that falls from step to step is not learnt at step 0."""
    assert "half of plateau" in table(grown())[0]
    monkeypatch.setattr(Reconstruction, "unit", None)
    head, rows = table(grown())
    assert head == ["class", "n", "first", "last", "baseline"]  # no column without a word
    assert [row[0] for row in rows][-1] == "accuracy"
