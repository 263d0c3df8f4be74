"""Curves: what is drawn is what `metrics.jsonl` says, whoever reads it in whatever print."""

from __future__ import annotations

import json
import math

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from plm.curves import draw, image, points
from plm.store import RunFolder, Store

LINES = [
    {"step": 0, "train/tokens": 0, "val/loss": 9.0, "val/perplexity": 8000.0},
    {"step": 5, "train/tokens": 640, "train/loss": 8.0},
    {"step": 20, "train/tokens": 2560, "val/loss": 5.0, "val/perplexity": 150.0},
    {"step": 10, "train/tokens": 1280, "val/loss": 6.0, "val/perplexity": 400.0},
]


@pytest.fixture
def run(tmp_path):
    """A run's folder with so many lines of metrics."""

    def make(name="mlm-0123456789ab", lines=LINES):
        folder = RunFolder(Store.at(tmp_path), name)
        folder.put("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
        return folder

    return make


def test_a_curve_is_the_evaluations_in_order(run):
    assert points(run()) == [(0, 8000.0), (10, 400.0), (20, 150.0)]
    assert points(run(), "tokens") == [(0, 8000.0), (1280, 400.0), (2560, 150.0)]


def test_what_cannot_be_drawn_is_refused(run):
    with pytest.raises(ValueError, match="'epochs': a curve is drawn against steps or tokens"):
        points(run(), "epochs")
    with pytest.raises(ValueError, match="no val/perplexity yet"):
        points(run(lines=LINES[1:2]))


@pytest.mark.parametrize("x", ["steps", "tokens"])
def test_lines_hold_the_points_and_references_their_level(run, x):
    figure = draw({"BERT": run()}, {"unigram": math.log(1132.7), "trigram": math.log(33.6)}, x=x)
    (ax,) = figure.axes
    curve, *levels = ax.get_lines()
    assert list(zip(*curve.get_data(), strict=True)) == points(run(), x)
    assert [line.get_ydata()[0] for line in levels] == pytest.approx([1132.7, 33.6])
    assert ax.get_yscale() == "log"
    low, high = ax.get_ylim()
    assert low < 33.6 < 8000 < high
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "BERT (150)",
        "unigram (1,133)",
        "trigram (33.6)",
    ]


def test_lines_differ_in_more_than_colour(run):
    runs = {name: run(name) for name in ("a", "b", "c")}
    lines = draw(runs, {"u": 5.0, "v": 4.0}).axes[0].get_lines()
    assert len({line.get_marker() for line in lines[:3]}) == 3
    assert len({str(line._dash_pattern) for line in lines[3:]}) == 2
    assert all(line.get_marker() == "None" for line in lines[3:])


def test_nothing_overlaps(run):
    """The legend stands beside the axes."""
    figure = draw({"a run with quite a long name": run()}, {"trigram, both sides": 4.0})
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    legend, axes = figure.legends[0].get_window_extent(renderer), figure.axes[0].get_tightbbox(renderer)
    assert legend.x0 > axes.x1
    assert legend.x1 <= figure.bbox.x1 + 1


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_figure_is_the_same_bytes(run, kind):
    once, again = (image(draw({"BERT": run()}, {"unigram": 7.0}), kind) for _ in range(2))
    assert once == again
    assert once.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
    if kind == "svg":
        assert b"perplexity on the evaluation split" in once
