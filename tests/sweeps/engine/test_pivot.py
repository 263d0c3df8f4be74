"""Models side by side: the numbers of the table are those of the runs, a mean is over tasks seed by seed, and gaps stay gaps."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from planted import finish

from plm import RunSpec, Store
from sweeps.architectures import sweep as architectures
from sweeps.engine import pivot, pivot_figures
from sweeps.engine.pivot import Panel, Spread
from sweeps.engine.plan import Plan, plan
from sweeps.engine.sweep import Sweep
from sweeps.objectives import sweep as objectives

assert architectures.pivot is not None
assert objectives.pivot is not None
SHAPE = architectures.pivot
GIVEN = {"sharing": "all,none", "embedding_size": "32", "seed": "0,1", "duration": "steps:2", "size": "16"}


def stage(spec: RunSpec, store: Store, **metrics: float) -> None:
    """Put a finished run with some metrics into the store."""
    finish(spec, store, {name.replace("__", "/"): value for name, value in metrics.items()})


SCORES = {
    ("all", "sentiment"): (0.5, 0.7),
    ("all", "acceptability"): (0.7, 0.7),
    ("none", "sentiment"): (0.9, 0.8),
    ("none", "acceptability"): (0.8, 0.9),
}


def staged(store: Store) -> Plan:
    """Two kinds of sharing, two tasks, two seeds; one run of the second is not finished."""
    planned = plan(architectures, store, GIVEN)
    for cell in planned.cells:
        point, parent = cell.point, pivot.pretraining(cell.spec)
        stage(parent, store, val__mlm=2.0 + point["seed"], val__sop_accuracy=0.6)
        if (point["sharing"], point["task"], point["seed"]) != ("none", "acceptability", 1):
            stage(cell.spec, store, val__score=SCORES[point["sharing"], point["task"]][point["seed"]])
    return planned


def test_the_table_says_what_the_runs_say(store: Store) -> None:
    (panel,) = pivot.panels(staged(store), SHAPE, store)
    head, rows = pivot.table(panel, SHAPE)
    assert head == [
        "embedding_size", "sharing", "parameters", "MLM nats", "SOP accuracy", "sentiment", "acceptability",
        "mean of the tasks", "n",
    ]  # fmt: skip
    everything, nothing = (dict(zip(head, row, strict=True)) for row in rows)
    assert (everything["sharing"], nothing["sharing"]) == ("all", "none")
    assert everything["MLM nats"] == "2.500 ± 0.707"  # of 2 and 3
    assert everything["SOP accuracy"] == "0.600 ± 0.000"
    assert everything["sentiment"] == "0.600 ± 0.141"
    assert everything["mean of the tasks"] == "0.650 ± 0.071"  # of .6 at the first seed and .7 at the second
    assert everything["n"] == "2"


def test_a_seed_that_lacks_a_task_is_not_in_the_mean(store: Store) -> None:
    (panel,) = pivot.panels(staged(store), SHAPE, store)
    head, (_, row) = pivot.table(panel, SHAPE)
    said = dict(zip(head, row, strict=True))
    assert said["sentiment"] == "0.850 ± 0.071"
    assert said["acceptability"] == "0.800"
    assert said["mean of the tasks"] == "0.850"  # of .9 and .8, the first seed's
    assert said["n"] == "1/2"


def test_an_empty_store_makes_an_empty_table(store: Store) -> None:
    (panel,) = pivot.panels(plan(architectures, store, GIVEN), SHAPE, store)
    head, rows = pivot.table(panel, SHAPE)
    assert "MLM nats" not in head
    assert [row[-4:] for row in rows] == [["", "", "", "0/2"]] * 2
    assert "nan" not in pivot.markdown([panel], SHAPE)
    assert pivot_figures.save("x", [panel], SHAPE, store) == []


def test_parameters_are_counted_exactly(store: Store) -> None:
    """Embeddings, the map after them, and the layers that are really there; the pooler too, the heads not."""
    planned = plan(
        architectures, store, GIVEN | {"sharing": "all,attention,feed_forward,none", "embedding_size": "128,32"}
    )
    (panel,) = pivot.panels(planned, SHAPE, store)
    width, inner, words = 128, 512, 1950
    attention, feed_forward = 4 * (width * width + width) + 2 * width, 2 * width * inner + inner + width + 2 * width
    for row in panel.rows:
        size, sharing = row.labels
        embeddings = (words + 64 + 2) * size + 2 * size + (size * width + width if size != width else 0)
        layers = attention * (1 if sharing in ("all", "attention") else 4)
        layers += feed_forward * (1 if sharing in ("all", "feed_forward") else 4)
        pooler = width * width + width
        assert row.facts["parameters"] == embeddings + layers + pooler, row.labels


def test_models_that_differ_elsewhere_stand_apart(store: Store) -> None:
    found = pivot.panels(plan(architectures, store, GIVEN | {"duration": "steps:2,steps:3"}), SHAPE, store)
    assert [panel.point["duration"] for panel in found] == ["steps:2", "steps:3"]
    assert [len(panel.rows) for panel in found] == [2, 2]


def test_the_figure_shows_every_mean_and_every_seed(store: Store) -> None:
    (panel,) = pivot.panels(staged(store), SHAPE, store)
    figure = pivot_figures.draw(panel, SHAPE)
    assert [ax.get_title() for ax in figure.axes] == ["mean of the tasks", "sentiment", "acceptability"]
    ax = figure.axes[1]
    line = next(artist for artist in ax.lines if artist.get_label() == "embedding_size 32")
    assert list(line.get_ydata()) == pytest.approx([0.6, 0.85])
    assert list(line.get_xdata()) == [row.facts["parameters"] for row in panel.rows]
    assert sum(len(points.get_offsets()) for points in ax.collections) == 4
    assert ax.get_legend_handles_labels()[1] == ["embedding_size 32", "sharing all", "sharing none"]


def test_two_panels_of_one_model_have_two_figures(store: Store) -> None:
    (panel,) = pivot.panels(staged(store), SHAPE, store)
    keys = pivot_figures.save("x", [panel, replace(panel, point=panel.point | {"size": 8})], SHAPE, store)
    assert len(set(keys)) == 4
    first = [store.get(key) for key in keys]
    pivot_figures.save("x", [panel, panel], SHAPE, store)
    assert [store.get(key) for key in keys][:2] == first[:2]


def questioned(store: Store) -> Panel:
    """What is asked beside masked language modelling, at one seed."""
    planned = plan(objectives, store, {"model": "bert-4x128", "seed": "0", "duration": "steps:2", "size": "16"})
    for i, cell in enumerate(planned.cells):
        name = (
            "val/score"
            if cell.point["task"] in ("sentiment", "acceptability")
            else f"val/{cell.point['task']}_accuracy"
        )
        if cell.spec.init.origin != pivot.pretraining(cell.spec).init.origin:  # not the pretraining itself
            stage(cell.spec, store, **{name.replace("/", "__"): 0.5 + i / 100})
    for spec in {p.run_id: p for p in (pivot.pretraining(c.spec) for c in planned.cells)}.values():
        stage(spec, store, val__mlm_accuracy=0.4, val__nsp_accuracy=0.91, val__sop_accuracy=0.86)
    return pivot.panels(planned, objectives.pivot, store)[0]  # type: ignore[arg-type]


def test_questions_without_fine_tuning_are_columns_and_not_in_the_mean(store: Store) -> None:
    panel = questioned(store)
    head, rows = pivot.table(panel, objectives.pivot)  # type: ignore[arg-type]
    assert head[:3] == ["objective", "steps", "FLOPs"]
    assert head[-6:] == ["nsp", "sop", "sentiment", "acceptability", "mean of the tasks", "n"]
    said = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert (said["mlm"]["nsp"], said["mlm"]["sop"]) == ("", "")
    assert said["mlm+nsp"]["nsp"] == "0.910"
    assert said["mlm+sop"]["sop"] == "0.860"
    for row in panel.rows:
        assert row.mean.mean == pytest.approx(sum(s.mean for s in row.scores.values()) / 2)
        assert not set(row.scores) & {"nsp", "sop"}


def test_a_figure_with_a_row_a_model_has_them_all(store: Store) -> None:
    panel = questioned(store)
    figure = pivot_figures.draw(panel, objectives.pivot)  # type: ignore[arg-type]
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["mean of the tasks", "sentiment", "acceptability", "nsp, not fine-tuned", "sop, not fine-tuned"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["mlm", "mlm+nsp", "mlm+sop"]
    drawn = [line.get_xdata()[0] for line in figure.axes[1].lines if line.get_linestyle() == "None"]
    assert drawn == pytest.approx([row.scores["sentiment"].mean for row in panel.rows])


def test_a_spread_is_over_seeds() -> None:
    assert str(Spread({0: 0.5, 1: 0.7})) == "0.600 ± 0.141"
    assert str(Spread({0: 0.5})) == "0.500"
    assert str(Spread({})) == ""


def test_a_pivot_names_axes_that_exist(question: Sweep) -> None:
    with pytest.raises(ValueError, match="unknown axis of the figure 'sharng'"):
        replace(architectures, pivot=replace(SHAPE, rows=("embedding_size", "sharng")))
    with pytest.raises(ValueError, match="a grid needs a curve, a pivot"):
        replace(question, curve=None)


def test_every_arm_is_another_run() -> None:
    axes = {"text": "world:stories", "model": "albert-4x128", "duration": "steps:9", "task": "sentiment", "size": 16}
    specs = [
        architectures.run(**axes, embedding_size=size, sharing=sharing, seed=seed)
        for size, sharing, seed in itertools.product((128, 32), ("all", "attention", "feed_forward", "none"), (0, 1))
    ]
    assert len({spec.run_id for spec in specs if spec}) == 16
    assert len({pivot.pretraining(spec).run_id for spec in specs if spec}) == 16
