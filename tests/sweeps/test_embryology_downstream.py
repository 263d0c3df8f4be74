"""The same fine-tuning from every step of a training: which step is best, beside the last one and other models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from staged import stage

from plm import Store
from plm.recipes import world_bert
from sweeps.embryology import sweep as reading
from sweeps.embryology_downstream import sweep
from sweeps.engine import launch
from sweeps.engine.embryo_collect import ever_asked
from sweeps.engine.embryo_scores import beside, collect, table, verdict
from sweeps.engine.plan import Plan, plan
from sweeps.engine.record import note_cells
from sweeps.engine.shown import Asked


def given(steps: str, task: str, **more: str) -> dict[str, str]:
    return {"trajectory": steps, "task": task, "size": "24", "duration": "steps:3", "seed": "0:3", **more}


def scored(planned: Plan, store: Store) -> dict[str, dict[str, Mapping[int, float]]]:
    return beside(planned, ever_asked(planned, store), store)


def test_the_best_step_is_named_and_held_against_the_last(
    steps: str, toy_task: str, tiny_bert: str, tmp_path: Path, no_view: None, capsys: pytest.CaptureFixture[str]
) -> None:
    store, asked = Store.at(tmp_path), given(steps, toy_task, reference=tiny_bert)
    planned = plan(sweep, store, asked)
    assert len(planned.runs) == 12  # three steps and a reference, three seeds
    known = {0: 0.5, 4: 0.9, 16: 0.7, None: 0.8}
    spread = {0: 0.0, 4: 0.02, 16: 0.01, None: 0.0}
    stage(planned, store, lambda cell: known[at := cell.point["step"]] + spread[at] * (cell.point["seed"] - 1))
    words = [f"{name}={value}" for name, value in asked.items()]
    assert launch.main(sweep, [*words, "--local", "--store", str(tmp_path)]) == 0
    assert "12 runs: 12 finished before, 0 to run" in capsys.readouterr().out
    assert list(tmp_path.glob("sweeps/embryology_downstream/figures/tiny/downstream.png"))
    text = (tmp_path / "sweeps/embryology_downstream/table.md").read_text()
    assert "## toy after fine-tuning tiny" in text
    assert "baseline: the last step. the best step, 4, has +0.200 " in text

    (scores,) = collect(planned, store)
    assert (scores.best, list(scores.steps), list(scores.references)) == (4, [0, 4, 16], ["bert"])
    head, rows = table(scores)
    found = [dict(zip(head, row, strict=True)) for row in rows]
    assert [(row["reference"], row["step"], row[""]) for row in found] == [
        ("none", "0", ""), ("none", "4", "best"), ("none", "16", "last"), ("bert", "", ""),
    ]  # fmt: skip
    assert [row["minus baseline"] for row in found] == ["-0.200", "+0.200", "", "+0.100"]

    # and beside what is read off the same models, and off no others
    read = {"trajectory": steps, "analysis": f"similarity:{_text(tmp_path)}", "size": "3"}
    label = "toy, fine-tuned (size 24, duration steps:3, lr 5e-05, pretraining_seed 0)"
    assert scored(plan(reading, store, read), store) == {"tiny": {label: pytest.approx({0: 0.5, 4: 0.9, 16: 0.7})}}
    assert list(scored(plan(reading, store, read | {"step": "4"}), store)["tiny"][label]) == [4]
    shown = scored(plan(reading, store, read), store)["tiny"]
    other = plan(sweep, store, asked | {"lr": "0.01", "step": "4"})  # unlike runs are curves of their own
    stage(other, store, lambda cell: 0.1)
    note_cells(other, store)
    again = plan(sweep, store, asked | {"seed": "1", "step": "4"})  # and a run that was noted twice counts once
    note_cells(replace(again, cells=tuple(replace(c, point=c.point | {"trajectory": "."}) for c in again.cells)), store)
    assert scored(plan(reading, store, read), store)["tiny"] == {
        label: pytest.approx(shown[label]), label.replace("5e-05", "0.01"): pytest.approx({4: 0.1}),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("of_4", "of_16", "words"),
    [
        (
            (0.90, 0.91, 0.88),
            (0.70, 0.71, 0.69),
            r"the best step, 4, has \+0.197 .*: beyond noise \(p 0.0\d\d by Holm over 2 ",
        ),
        ((0.95, 0.60, 0.80), (0.70, 0.75, 0.75), r"the best step, 4, has \+0.050 .*: not beyond noise \(p 0.7"),
        ((0.60, 0.61, 0.60), (0.70, 0.71, 0.69), r"the best step is the last one, 16"),
        ((0.60, 0.61, 0.60), (), r"the best step so far is 4; the last one is not finished"),
        ((0.99,), (0.70, 0.75, 0.75), r"the best step is the last one, 16"),  # one lucky seed is not three
    ],
)
def test_a_lucky_step_is_not_beyond_noise(
    of_4: tuple[float, ...], of_16: tuple[float, ...], words: str, steps: str, toy_task: str, store: Store
) -> None:
    planned = plan(sweep, store, given(steps, toy_task))
    of = {0: (0.5, 0.5, 0.51), 4: of_4, 16: of_16}
    stage(planned, store, lambda cell: dict(enumerate(of[cell.point["step"]])).get(cell.point["seed"]))
    (scores,) = collect(planned, store)
    assert re.search(words, verdict(scores)), verdict(scores)


def _text(folder: Path) -> Path:
    (folder / "text.txt").write_text("w01 w02\nw03 w04\n")
    return folder / "text.txt"


def test_its_curve_in_mlflow_is_over_the_steps_of_pretraining(
    steps: str, toy_task: str, tiny_bert: str, store: Store
) -> None:
    planned = plan(sweep, store, given(steps, toy_task, reference=tiny_bert))
    stage(planned, store, lambda cell: 0.5 + 0.01 * (cell.point["step"] or 0))
    note_cells(planned, store)
    curves = Asked.read(store, "embryology_downstream").curves
    assert [[step for step, _ in curve.runs] for curve in curves] == [[0, 4, 16]] * 3  # of each seed


def test_a_pretraining_seed_may_be_that_of_the_run(store: Store) -> None:
    given = {"task": "sentiment", "step": "0,last", "seed": "0:2"}
    one, tied = (plan(sweep, store, given | {"pretraining_seed": seed}) for seed in ("0", "same"))
    assert list(one.keep) == [world_bert().run_id]
    assert len(tied.keep) == 2
    assert {cell.labels["pretraining_seed"] for cell in tied.cells} == {"same"}  # so that seeds are one line
    assert {cell.point["step"] for cell in tied.cells} == {0, 4000}


def test_steps_of_a_recipe_are_those_that_reading_keeps(store: Store) -> None:
    fine = plan(sweep, store, {"task": "sentiment"})
    read = plan(reading, store, {"analysis": "similarity"})
    (kept,), (all_kept,) = fine.keep.values(), read.keep.values()
    assert set(kept) <= set(all_kept)
    assert (len(kept), kept[0], kept[-1]) == (8, 0, 4000)


def test_nothing_finished_is_no_best(steps: str, toy_task: str, store: Store) -> None:
    assert collect(plan(sweep, store, given(steps, toy_task)), store) == []
    with pytest.raises(ValueError, match="log:one' is not a number of steps"):
        plan(sweep, store, given(steps, toy_task, step="log:one"))
