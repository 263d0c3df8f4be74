"""Figures of several tasks, maps and correlations: what is drawn is what the runs say, where the question places it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from scipy import stats
from staged import stage

from plm import RunSpec, Store, finetune, reinit, steps
from search_spaces.finetuning import models, schemes, tasks
from search_spaces.masks import masks, unablated
from search_spaces.seeds import seeds
from sweeps.engine import correlation, maps, panels, results
from sweeps.engine.drawing import Correlation, Mark, Panels
from sweeps.engine.plan import Cell, plan
from sweeps.engine.results import Arm
from sweeps.engine.stats import estimate_of_values
from sweeps.engine.sweep import Sweep


def place(cell: dict[str, Any]) -> Iterator[Mark]:
    """Nothing redrawn is a level."""
    mask = cell["mask"]
    yield Mark("none") if "1" not in mask else Mark("redrawn", mask.count("1"))


LINES = Panels("lines", place, reads=("mask",), label="redrawn layers", control="scheme")
MAP = Panels("map", place, reads=("mask", "scheme"), label="redrawn layers", kind="map")


@pytest.fixture
def question(encoder: str, toy: str, tmp_path: Path) -> Sweep:
    """Two tasks of the same rows, under two names."""
    (tmp_path / "other").symlink_to(toy)

    def run(*, model: str, task: str, scheme: str, mask: str, seed: int) -> RunSpec:
        size = 24 if task == toy else 25  # other runs
        init = reinit(model, mask, scheme=scheme, seed=seed)
        return finetune(task, init=init, size=size, seed=seed, duration=steps(3), dtype="float32")

    return Sweep(
        run,
        over={
            "model": models(encoder),
            "task": tasks(toy, str(tmp_path / "other")),
            "scheme": schemes("bert", "matched"),
            "mask": masks("00", "10", "01", "11"),
            "seed": seeds(3),
        },
        baseline=lambda cell: cell | {"mask": unablated(cell["mask"])},
        arms=("mask", "scheme"),
        figures=(LINES, MAP),
    )


def score(cell: Cell) -> float | None:
    """.9 less a tenth for each redrawn layer, less a hundredth for the control, and a hundredth for each seed."""
    point = cell.point
    less = 10 * point["mask"].count("1") + (point["scheme"] == "matched" and "1" in point["mask"]) + point["seed"]
    return (90 - less) / 100


def found(question: Sweep, store: Store, score: Callable[[Cell], float | None] = score) -> list[Arm]:
    stage(plan(question, store), store, score)
    return results.arms(plan(question, store), store)


def lines(ax: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """What the legend names, with its points."""
    return {
        str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata()))  # type: ignore[arg-type]
        for line in ax.lines
        if not str(line.get_label()).startswith("_")
    }


def test_a_panel_a_task_with_its_lines_levels_and_controls(question: Sweep, store: Store) -> None:
    figure = panels.draw(LINES, found(question, store))
    assert figure is not None
    assert [ax.get_title() for ax in figure.axes] == ["toy (accuracy)", "other (accuracy)"]
    drawn = lines(figure.axes[0])
    assert set(drawn) == {"none", "redrawn", "redrawn, scheme matched", "commonest label"}
    assert drawn["none"][1] == pytest.approx([0.89, 0.89])
    x, y = drawn["redrawn"]
    assert [round(place) for place in x] == [1, 1, 2]
    assert y == pytest.approx([0.79, 0.79, 0.69])
    assert drawn["redrawn, scheme matched"][1] == pytest.approx([0.78, 0.78, 0.68])


def test_a_control_that_is_the_run_beside_it_is_drawn_once(question: Sweep, store: Store) -> None:
    placed = panels.place(LINES, found(question, store))
    levels = [one for one in placed if one.mark.line == "none"]
    assert [one.control for one in levels] == [0, 0]  # one a task: nothing redrawn has no scheme


def test_the_caption_counts_runs_once_and_says_n(question: Sweep, store: Store) -> None:
    arms = found(question, store)
    figure = panels.draw(LINES, arms)
    assert figure is not None
    said = figure._supxlabel.get_text()  # type: ignore[attr-defined]
    assert "n = 3 seeds everywhere" in said
    assert "(42 runs, 42 min of computing, 4.2e+13 FLOPs)" in said  # 48 cells, of which 6 are also another's
    assert "(42 runs, 42 min" in results.cost(arms)


def test_title_and_caption_have_their_places(question: Sweep, store: Store) -> None:
    """A title as wide as a panel, beside a legend; a caption that is wider than the figure."""
    said = {
        "model": "bert-4x256 trained on some text, at step 1500",
        "given": "what all of the arms have in common " * 4,
    }
    arms = found(question, store)
    arms = [replace(arm, point=arm.point | said) for arm in arms if arm.point["task"] == arms[0].point["task"]]
    for panels_, draw in ((LINES, panels.draw), (MAP, maps.draw)):
        figure = draw(panels_, arms)
        assert figure is not None
        figure.canvas.draw()
        title, caption = figure._suptitle, figure._supxlabel  # type: ignore[attr-defined]
        for legend in figure.legends:
            assert title.get_window_extent().x1 < legend.get_window_extent().x0
        below = caption.get_window_extent()
        assert 0 <= below.x0 < below.x1 <= figure.bbox.width, caption.get_text()


def test_levels_and_what_guessing_scores_have_dashes_of_their_own(question: Sweep, store: Store) -> None:
    levels = Panels("levels", lambda cell: [Mark(cell["mask"])], ("mask",), "", control="scheme")
    figure = panels.draw(levels, found(question, store))
    assert figure is not None
    drawn = {str(line.get_label()): line._unscaled_dash_pattern for line in figure.axes[0].lines}  # type: ignore[attr-defined]
    guess = drawn.pop("commonest label")
    firsts = [str(dash) for name, dash in drawn.items() if "matched" not in name]
    assert len(firsts) == 4
    assert len(set(firsts[:3])) == 3
    assert str(guess) not in map(str, drawn.values())


def test_arms_that_score_the_same_are_seen_beside_each_other(question: Sweep, store: Store) -> None:
    violins = Panels("violins", lambda cell: [Mark("redrawn", 0.0)], ("mask",), "", kind="violins", control="scheme")
    figure = panels.draw(violins, found(question, store, lambda cell: 0.5 + 0.01 * cell.point["seed"]))
    assert figure is not None
    points = figure.axes[0].collections[0].get_offsets()
    assert len({round(x, 6) for x, _ in points.tolist()}) == len(points) == 4  # type: ignore[union-attr]


def test_points_of_fewer_seeds_say_so(question: Sweep, store: Store) -> None:
    def some(cell: Cell) -> float | None:
        return None if cell.point["seed"] == 2 and cell.point["mask"] == "11" else score(cell)

    figure = panels.draw(LINES, found(question, store, some))
    assert figure is not None
    assert {"none (n=3)", "redrawn (n=2 to 3)"} <= set(lines(figure.axes[0]))


def test_intervals_are_those_of_the_table(question: Sweep, store: Store) -> None:
    arms = found(question, store)
    figure = panels.draw(LINES, arms)
    assert figure is not None
    bars = [tuple(line.get_ydata()) for line in figure.axes[0].lines if str(line.get_label()).startswith("_")]  # type: ignore[arg-type]
    arm = next(arm for arm in arms if arm.point["mask"] == "11" and arm.point["scheme"] == "bert")
    assert arm.estimate is not None
    assert arm.estimate.over_seeds is not None
    assert any(bar == pytest.approx((arm.estimate.over_seeds.low, arm.estimate.over_seeds.high)) for bar in bars)


def test_a_panel_shows_all_seeds_and_no_more_than_scores(question: Sweep, store: Store) -> None:
    def apart(cell: Cell) -> float:
        return 0.9 if cell.point["seed"] else 0.4  # the interval of the mean reaches from 0 to 1.5

    figure = panels.draw(LINES, found(question, store, apart))
    assert figure is not None
    for low, high in (ax.get_ylim() for ax in figure.axes):
        assert 0.2 < low < 0.4
        assert 0.9 < high <= 1.03


def test_a_map_says_differences_and_which_are_clear(question: Sweep, store: Store) -> None:
    def one_layer(cell: dict[str, Any]) -> Iterator[Mark]:
        if cell["mask"].count("1") == 1 and cell["scheme"] == "bert":
            yield Mark(f"layer {cell['mask'].index('1')}", 0.0)

    def noisy(cell: Cell) -> float:
        uneven = 3 * (cell.point["seed"] - 1) if cell.point["mask"] == "01" else 0
        return (
            80 + uneven + cell.point["seed"] - (10 + (cell.point["seed"] == 1)) * (cell.point["mask"] == "10")
        ) / 100

    figure = maps.draw(Panels("map", one_layer, ("mask", "scheme"), "x", kind="map"), found(question, store, noisy))
    assert figure is not None
    said = {text.get_text().split("\n")[0]: text.get_fontweight() for text in figure.axes[0].texts}
    assert said == {"-0.103": "bold", "+0.000": "normal"}
    assert figure.axes[0].get_title().endswith("baseline 0.810")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["layer 0", "layer 1"]


def test_figures_are_written_where_something_is_finished(question: Sweep, store: Store) -> None:
    assert panels.save("q", question.figures, results.arms(plan(question, store), store), store) == []
    keys = panels.save("q", question.figures, found(question, store), store)
    assert [Path(key).name for key in keys] == ["lines.png", "lines.svg", "map.png", "map.svg"]
    assert all(store.get(key) for key in keys)


# ---------------------------------------------------------------------------------------------------------------------
# Correlations

MASKS = Correlation("mask", among=lambda mask: "1" in mask)
VALUES = ("0001", "0010", "0011", "0100", "0101", "0110", "0111", "0000")


def arm(task: str, mask: str, values: tuple[float, ...]) -> Arm:
    return Arm(
        point={"task": task, "size": 24, "mask": mask}, family=(), asked=len(values), seeds=tuple(range(len(values))),
        runs=(f"{task}-{mask}",), estimate=estimate_of_values(values), difference=None, is_baseline=False, p_holm=None, comparisons=0,
        metric="accuracy", guess=None, environments=(), notes=(), spent={},
    )  # fmt: skip


@pytest.fixture
def arms() -> list[Arm]:
    draw = np.random.default_rng(0)
    return [arm(task, mask, tuple(draw.uniform(size=3))) for task in ("toy", "other") for mask in VALUES]


def means(arms: list[Arm], task: str) -> list[float]:
    return [a.estimate.mean for a in arms if a.estimate and a.point["task"] == task and "1" in a.point["mask"]]


def test_correlations_are_those_of_the_means_over_seeds(arms: list[Arm]) -> None:
    between, *same = correlation.pairs(MASKS, arms)
    expected, ranks = (test(means(arms, "toy"), means(arms, "other")) for test in (stats.pearsonr, stats.spearmanr))
    assert (between.tasks, between.n) == (("toy", "other"), 7)  # the baseline is not among them
    assert (between.pearson, between.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert (between.spearman, between.p_spearman) == pytest.approx((ranks.statistic, ranks.pvalue))
    assert [pair.tasks for pair in same] == [("toy", "toy"), ("other", "other")]


def test_a_task_agrees_with_itself_as_far_as_its_seeds_do() -> None:
    quality = np.random.default_rng(1).normal(size=2000)
    noise = np.random.default_rng(2).normal(size=(2000, 4))
    scores = quality[:, None] + noise  # half of the variance is noise: single seeds correlate by .5, means of 4 by .8
    arms = [arm("toy", f"1{i}", tuple(row)) for i, row in enumerate(scores)]
    (itself,) = correlation.pairs(MASKS, arms)
    assert itself.pearson == pytest.approx(0.8, abs=0.03)
    assert itself.p is None


def test_arms_of_the_same_runs_are_one_point(arms: list[Arm]) -> None:
    again = [replace(a, point=a.point | {"mask": "1000"}) for a in arms if a.point["mask"] == "0001"]
    assert len(again) == 2
    assert correlation.pairs(MASKS, [*arms, *again]) == correlation.pairs(MASKS, arms)


def test_the_table_of_correlations_names_the_tasks(arms: list[Arm]) -> None:
    text = correlation.markdown(MASKS, correlation.pairs(MASKS, arms))
    assert "| toy and other | 7 |" in text
    assert "| toy and itself, other seeds | 7 |" in text
    assert correlation.markdown(MASKS, []) == ""


def test_too_few_arms_have_no_correlation(arms: list[Arm]) -> None:
    assert correlation.pairs(MASKS, [a for a in arms if a.point["mask"] in VALUES[:3]]) == []


def test_scores_that_are_all_alike_have_no_correlation() -> None:
    alike = [arm(task, mask, (0.5, 0.5)) for task in ("toy", "other") for mask in VALUES]
    assert correlation.pairs(MASKS, alike) == []


def test_an_unknown_kind_of_figure_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kind of figure 'maps'.*map"):
        Panels("map", place, reads=("mask",), label="redrawn layers", kind="maps")
