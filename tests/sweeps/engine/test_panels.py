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
    yield Mark("none") if "1" not in mask else Mark("redrawn", int(mask, 2))


LINES = Panels("lines", place, reads=("mask",), label="redrawn layers, as a number", control="scheme")
MAP = Panels("map", place, reads=("mask", "scheme"), label="redrawn layers, as a number", kind="map")


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
    assert [round(place) for place in x] == [1, 2, 3]
    assert y == pytest.approx([0.79, 0.79, 0.69])
    assert drawn["redrawn, scheme matched"][1] == pytest.approx([0.78, 0.78, 0.68])


def at_two_rates(arms: list[Arm]) -> list[Arm]:
    """The same arms at another rate too, where all score a tenth less."""
    lower = [
        replace(
            arm, point=arm.point | {"lr": 1e-4}, runs=tuple(f"{run} slower" for run in arm.runs),
            estimate=arm.estimate and estimate_of_values([value - 0.1 for value in arm.estimate.values]),
        )
        for arm in arms
    ]  # fmt: skip
    return [*(replace(arm, point=arm.point | {"lr": 1e-3}) for arm in arms), *lower]


@pytest.mark.parametrize("reads", [("mask",), ("mask", "lr")])
def test_an_axis_that_varies_tells_lines_apart(question: Sweep, store: Store, reads: tuple[str, ...]) -> None:
    """Even where the question says by mistake that its lines go along it."""
    figure = panels.draw(replace(LINES, reads=reads), at_two_rates(found(question, store)))
    assert figure is not None
    drawn = lines(figure.axes[0])
    assert drawn["redrawn, lr 0.001"][1] == pytest.approx([0.79, 0.79, 0.69])
    assert drawn["redrawn, lr 0.0001"][1] == pytest.approx([0.69, 0.69, 0.59])
    assert drawn["none, lr 0.0001"][1] == pytest.approx([0.79, 0.79])
    assert drawn["redrawn, lr 0.0001, scheme matched"][1] == pytest.approx([0.68, 0.68, 0.58])


def test_a_violin_spreads_over_nothing_but_what_it_is_of(question: Sweep, store: Store) -> None:
    violins = Panels("violins", lambda cell: [Mark("redrawn", 0.0)], ("mask", "scheme"), "", kind="violins")
    placed = panels.place(violins, at_two_rates(found(question, store)))
    assert {one.key for one in placed} == {((("lr", rate),), "redrawn") for rate in (1e-3, 1e-4)}


def test_what_differs_between_lines_but_not_within_one_is_not_in_their_names(question: Sweep, store: Store) -> None:
    arms = [
        replace(arm, point=arm.point | {"lr": 10.0 ** -arm.point["mask"].count("1")}) for arm in found(question, store)
    ]
    by_count = Panels(
        "count", lambda cell: [Mark(str(cell["lr"]), int(cell["mask"], 2))], ("mask",), "", control="scheme"
    )
    assert {one.key for one in panels.place(by_count, arms)} == {((), name) for name in ("1.0", "0.1", "0.01")}


def test_two_arms_are_never_at_one_place(question: Sweep, store: Store) -> None:
    """One layer redrawn is two arms, which a question may not have thought of."""
    count = Panels("count", lambda cell: [Mark("redrawn", cell["mask"].count("1"))], ("mask",), "", control="scheme")
    placed = panels.place(count, found(question, store))
    assert {one.key[0] for one in placed} == {(("mask", mask),) for mask in ("00", "10", "01", "11")}


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


@pytest.mark.parametrize("reads", [("mask", "scheme"), ("mask", "scheme", "lr")])
def test_a_map_has_panels_for_what_else_varies(question: Sweep, store: Store, reads: tuple[str, ...]) -> None:
    arms = [arm for arm in at_two_rates(found(question, store)) if arm.point["scheme"] == "bert"]
    figure = maps.draw(replace(MAP, reads=reads), arms)
    assert figure is not None
    rates = figure.axes[:4]  # the fifth is the colour bar
    assert [ax.get_title().partition(",\n")[2] for ax in rates] == [
        "lr 0.001; baseline 0.890", "lr 0.001; baseline 0.890", "lr 0.0001; baseline 0.790", "lr 0.0001; baseline 0.790",
    ]  # fmt: skip
    for ax in rates:
        assert len({text.get_position() for text in ax.texts}) == len(ax.texts) == 4


def test_a_control_has_a_panel_of_a_map(question: Sweep, store: Store) -> None:
    figure = maps.draw(replace(MAP, reads=("mask",), control="scheme"), found(question, store))
    assert figure is not None
    assert [ax.get_title().partition(",\n")[2].partition(";")[0] for ax in figure.axes[:4:2]] == [
        "scheme bert", "scheme matched",
    ]  # fmt: skip


def test_what_is_clearly_better_is_bold_too(question: Sweep, store: Store) -> None:
    def better(cell: Cell) -> float:
        uneven = 5 * cell.point["seed"] - 4 if cell.point["mask"] == "01" else 0
        gain = (10 + cell.point["seed"] % 2) * (cell.point["mask"] == "11")
        return (50 + cell.point["seed"] + uneven + gain) / 100

    figure = maps.draw(MAP, [arm for arm in found(question, store, better) if arm.point["scheme"] == "bert"])
    assert figure is not None
    said = {text.get_text(): text.get_fontweight() for text in figure.axes[0].texts}
    assert said == {"baseline": "normal", "+0.000": "normal", "+0.010\n±0.124": "normal", "+0.103\n±0.014": "bold"}


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
