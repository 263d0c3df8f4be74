"""The whole paper: what it plans is what the paper ran, priced without any file of it, and drawn in its seven figures."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from staged import stage

from plm import Store, stand_ins
from sweeps.engine import correlation, launch, panels, results
from sweeps.engine.plan import Cell, plan
from sweeps.engine.sweep import Point, points
from sweeps.papers import tamkin2020
from sweeps.papers.tamkin2020 import FIGURES
from sweeps.transferability import sweep


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been fetched."""
    monkeypatch.setattr("plm.stand_ins._is_cached", lambda _: False)
    monkeypatch.setattr("plm.stand_ins._is_prepared", lambda _: False)


@pytest.fixture
def whole() -> list[Point]:
    """All cells, those of them that are no run included."""
    with stand_ins.allowed():
        return points(sweep, {"scale": "paper"})


def test_the_fine_tunings_are_the_papers(whole: list[Point]) -> None:
    def cells(experiment: str, **point: object) -> int:
        return sum({"experiment": experiment, **point}.items() <= cell.items() for cell in whole)

    assert cells("progressive", size=500) == 3 * 13 * 50
    assert cells("progressive", size=5000) == 3 * 13 * 3
    assert cells("progressive", size=50_000) == 3 * 13 * 3
    assert cells("progressive", task="glue/cola", size=8551) == 13 * 3
    assert cells("blocks") == 3 * 10 * (10 + 10 + 2)
    assert cells("singles") == 3 * 3 * (12 + 2)
    assert cells("permutation") == 3 * (10 + 2)
    assert cells("probing") == 3 * 12 * 10
    assert cells("keep_layer_norm") == cells("faster") == 3 * 13 * 3
    assert {cell["seed"] for cell in whole if cell["experiment"] == "permutation"} == {1}


def test_settings_are_the_papers(whole: list[Point], store: Store) -> None:
    with stand_ins.allowed():
        planned = plan(sweep, store, {"scale": "paper", "seed": "1"})
    assert planned.left_out == (
        "left out: task cola has 8,551 training examples; 50,000 were asked for. Choose a size from 1 to 8551, or all.",
    )
    found = [(cell.point, cell.run) for cell in planned.cells if cell.point["size"] != 500]
    there = [cell for cell in whole if cell["seed"] == 1 and cell["size"] != 500]
    assert len(there) - len(found) == 13
    assert {spec.batch_size for _, spec in found} == {8}
    assert {spec.optim.lr for _, spec in found} == {2e-5}
    assert {(spec.optim.weight_decay, spec.optim.warmup_steps) for _, spec in found} == {(0.0, 0)}
    assert {(cell["experiment"] == "probing", str(spec.duration), spec.trained) for cell, spec in found} == {
        (True, "epochs:40", "head"), (False, "epochs:3", "all"),
    }  # fmt: skip
    faster = Counter(spec.optim.redrawn_lr for cell, spec in found if cell["experiment"] == "faster")
    assert faster == {5.0: 3 * 12, 1.0: 3}
    kept = [spec.init for cell, spec in found if cell["experiment"] == "keep_layer_norm" and "1" in cell["change"]]
    assert {getattr(init, "layer_norm", None) for init in kept} == {"keep"}


def rows(folder: Path, count: int) -> str:
    """A task of so many training rows, of the words that the tiny encoder reads."""
    folder.mkdir()
    for split, size in (("train", count), ("validation", 8)):
        lines = [{"sentence": f"ba be {'bi' if i % 3 else 'bo'}", "label": i % 2} for i in range(size)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def test_what_a_task_is_too_small_for_is_named(encoder: str, tmp_path: Path, store: Store) -> None:
    given = {"scale": "small", "model": encoder, "task": rows(tmp_path / "mid", 600), "seed": "1"}
    planned = plan(sweep, store, given)
    assert {(cell.point["experiment"], cell.point["size"]) for cell in planned.cells} == {("progressive", 500)}
    assert planned.left_out == (
        "left out: task mid has 600 training examples; 2,000 were asked for. Choose a size from 1 to 600, or all. "
        "Nothing is left of experiment=blocks,singles,permutation,probing,keep_layer_norm,faster.",
    )


def test_a_size_that_was_asked_for_and_is_not_there_is_refused(encoder: str, tmp_path: Path, store: Store) -> None:
    given = {"scale": "small", "model": encoder, "task": rows(tmp_path / "mid", 600), "seed": "1"}
    with pytest.raises(ValueError, match=r"has 600 training examples; 1,000,000 were asked for\. Choose a size from 1"):
        plan(sweep, store, given | {"size": "100,1000000"})
    assert plan(sweep, store, given | {"size": "100,all"}).left_out == ()


def test_a_task_that_is_too_small_for_everything_says_so(encoder: str, toy: str, store: Store) -> None:
    with pytest.raises(
        ValueError, match=r"no cell for these values\. left out: task toy has 64 .* 500 were asked .* 2,000"
    ):
        plan(sweep, store, {"scale": "small", "model": encoder, "task": toy})


def test_smaller_scales_have_seeds_enough_for_intervals() -> None:
    """With two, an interval is thirteen standard errors to each side."""
    with stand_ins.allowed():
        for scale in ("tiny", "small"):
            counts = Counter(
                tuple(v for name, v in cell.items() if name != "seed") for cell in points(sweep, {"scale": scale})
            )
            assert min(counts.values()) == 3


def test_a_plan_needs_no_file_of_it(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["scale=paper", "experiment=blocks", "seed=1:3", "--dry-run", "--store", str(store.root)]
    assert launch.main(sweep, [*words, "--rate", "1e13"]) == 0
    said = capsys.readouterr().out
    assert "known by their numbers alone, not fetched: bert-base-uncased, cola, qnli, sst2" in said
    assert "132 cells, 132 runs: 0 finished, 132 to run" in said
    assert "GPU-hours at 1.0e+13 FLOPs a second (--rate)" in said
    assert not store.root.exists()


def test_hours_are_flops_over_the_rate(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["scale=paper", "experiment=blocks", "seed=1", "--dry-run", "--store", str(store.root), "--rate"]
    hours = []
    for rate in ("1e12", "2e12"):
        assert launch.main(sweep, [*words, rate]) == 0
        hours.append(float(capsys.readouterr().out.split(" GPU-hours")[0].split()[-1]))
    assert hours[0] == pytest.approx(2 * hours[1], rel=0.01)
    assert launch.main(sweep, ["scale=paper", "--table", "--store", str(store.root)]) == 2  # to run, it must be fetched
    assert "could not be had" in capsys.readouterr().err


def test_correlations_are_among_permutations_alone(store: Store) -> None:
    given = {"experiment": "permutation", "scheme": "bert", "seed": "1:3"}

    def score(cell: Cell) -> float:
        return Random(cell.spec.run_id).randrange(50, 100) / 100

    stage(plan(sweep, store, given), store, score)
    assert sweep.correlation is not None
    found = correlation.pairs(sweep.correlation, results.arms(plan(sweep, store, given), store))
    assert {pair.n for pair in found} == {8}  # of the paper's ten, one moves none of four layers, and two are the same


def test_the_figure_says_where_a_probe_is_not_linear() -> None:
    cell = {"experiment": "probing", "change": "first:2/4"}
    named = {
        model: [m.line for m in tamkin2020.progressive(cell | {"model": model})] for model in ("world-bert", "tiny")
    }
    assert named == {"world-bert": ["probe, not linear (pooler trained too)"], "tiny": ["probe"]}


def test_every_figure_is_drawn_from_any_model(encoder: str, toy: str, store: Store) -> None:
    given = {"model": encoder, "task": toy, "size": "16", "seed": "1:3", "scheme": "bert"}
    given |= {"duration": "steps:3", "lr": "1e-3"}

    def score(cell: Cell) -> float:
        return 0.5 + 0.1 * cell.point["change"].count("0") + 0.01 * cell.point["seed"]

    stage(plan(sweep, store, given), store, score)
    arms = results.arms(plan(sweep, store, given), store)
    keys = panels.save("t", FIGURES, arms, store)
    drawn = {Path(key).stem for key in keys}
    assert drawn == {figure.name for figure in FIGURES}
    figures = {figure.name: panels.draw(figure, arms) for figure in FIGURES}
    lines = {
        name: {
            str(line.get_label())
            for ax in figure.axes
            for line in ax.lines
            if not str(line.get_label()).startswith("_")
        }
        for name, figure in figures.items()
        if figure
    }
    assert {"fine-tuned", "probe"} <= lines["progressive"]
    assert {"redrawn layers five times as fast", "all at one rate"} <= lines["faster"]
    assert {"norms kept", "norms reset"} <= lines["keep_layer_norm"]
    assert {"layers in order", "all layers redrawn"} <= lines["permutations"]


@pytest.mark.parametrize(
    ("varied", "names"),
    [
        ({"lr": "1e-4,1e-3"}, {"lr 0.0001", "lr 0.001"}),
        ({"duration": "steps:2,steps:3"}, {"duration steps:2", "duration steps:3"}),
        ({"scale": "small,paper"}, {"scale small", "scale paper"}),
    ],
)
def test_what_the_command_line_varies_tells_lines_apart(
    varied: dict[str, str], names: set[str], encoder: str, toy: str, store: Store
) -> None:
    given = {"model": encoder, "task": toy, "size": "16", "seed": "1:3", "scheme": "bert", "lr": "1e-3"}
    given |= {"duration": "steps:3"} | varied
    stage(plan(sweep, store, given), store, lambda cell: 0.5 + 0.01 * cell.point["seed"])
    arms = results.arms(plan(sweep, store, given), store)
    for figure in FIGURES:
        placed = panels.place(figure, arms)
        assert {" ".join(map(str, *one.key[0])) for one in placed} == names, figure.name
        if figure.kind != "violins":
            assert len({(one.key, one.mark.x) for one in placed}) == len(placed)


def test_what_an_experiment_has_of_its_own_is_not_in_the_names_of_lines(encoder: str, toy: str, store: Store) -> None:
    """Probes are trained for longer, and at another rate."""
    given = {"scale": "small", "model": encoder, "task": toy, "size": "16", "seed": "1:3", "scheme": "bert"}
    stage(plan(sweep, store, given), store, lambda cell: 0.5 + 0.01 * cell.point["seed"])
    arms = results.arms(plan(sweep, store, given), store)
    assert len({arm.point["duration"] for arm in arms}) == len({arm.point["lr"] for arm in arms}) == 2
    assert {one.key for one in panels.place(FIGURES[0], arms)} == {((), "fine-tuned"), ((), "probe")}


@pytest.mark.parametrize("change", ["0011,000111", "000111", "order:3/6", "order:11/4", "first:0/4", "0110,1011"])
def test_a_change_that_no_experiment_has_is_refused(store: Store, change: str) -> None:
    wrong = change.rpartition(",")[2]
    with pytest.raises(
        ValueError, match=rf"axis change: {wrong} is in no experiment on world-bert, which has 4 layers: w"
    ):
        plan(sweep, store, {"change": change})


def test_a_change_of_another_experiment_says_which(store: Store) -> None:
    with pytest.raises(ValueError, match=r"there is experiment=progressive,.*faster\. .* there is change=0000,"):
        plan(sweep, store, {"experiment": "singles", "change": "0011"})


@pytest.mark.parametrize("schemes", ["bert,shuffle", "shuffle,bert,released", "matched"])
def test_what_draws_nothing_is_run_under_one_scheme(store: Store, schemes: str) -> None:
    """Under another it would be the same run, and another comparison to correct for."""
    planned = plan(
        sweep, store, {"experiment": "permutation,probing", "scheme": schemes, "seed": "1", "task": "sentiment"}
    )
    there = Counter((cell.point["change"], cell.point["scheme"]) for cell in planned.cells)
    assert len({change for change, _ in there if ":" in change}) == 9 + 4  # one of the ten permutes nothing
    assert {scheme for change, scheme in there if ":" in change} == {schemes.partition(",")[0]}
    assert {scheme for change, scheme in there if change in ("0000", "1111")} == {*schemes.split(",")}
    assert {*there.values()} == {1}
