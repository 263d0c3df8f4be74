"""Rows, tables and figures, recomputed from the store."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score
from tiny import SIZES

from plm import Bert, RunSpec, Store, pretrain, steps, train
from plm.predictions import from_parquet, predicted
from search_spaces.finetuning import learning_rates
from search_spaces.seeds import seeds
from sweeps.engine import figures, record, results
from sweeps.engine.plan import Plan, plan
from sweeps.engine.sweep import Curve, Sweep


@pytest.fixture
def finished(question: Sweep, store: Store) -> Plan:
    planned = plan(question, store)
    for spec in planned.runs.values():
        train(spec, store=store)
    record.note_cells(planned, store)
    return plan(question, store)


def read(store: Store, name: str) -> list[dict[str, object]]:
    return parquet.read_table(io.BytesIO(store.get(f"sweeps/{name}/results.parquet") or b"")).to_pylist()


def test_a_row_holds_every_axis_and_metric(finished: Plan, store: Store) -> None:
    record.save(finished.sweep, store)
    rows = read(store, finished.sweep.name)
    assert len(rows) == 6
    assert {"run_id", "status", *finished.sweep.axes, "val/score", "val/loss", "seconds", "environment"} <= set(rows[0])
    assert [row["mask"] for row in rows] == sorted(row["mask"] for row in rows)  # type: ignore[type-var]
    assert {row["model"] for row in rows} == {"tiny"}


def test_scores_can_be_recomputed_from_the_predictions(finished: Plan, store: Store) -> None:
    for row in record.collect(finished.sweep.name, store):
        records = from_parquet(store.get(f"runs/{row['run_id']}/predictions.parquet") or b"")
        labels = [r["label"] for r in records]
        assert row["val/score"] == pytest.approx(accuracy_score(labels, predicted(records)), abs=1e-12)


def test_results_are_the_union_of_all_calls(finished: Plan, question: Sweep, store: Store) -> None:
    more = plan(question, store, {"seed": "2"})
    record.note_cells(more, store)
    record.save(more.sweep, store)
    rows = read(store, question.name)
    assert len(rows) == 9
    assert sorted(str(row["status"]) for row in rows) == ["done"] * 6 + ["missing"] * 3


def test_an_axis_of_words_and_numbers_is_one_of_words(
    question: Sweep, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"run_id": "a", "size": "none", "val/loss": 1.0}, {"run_id": "b", "size": 1000}]
    monkeypatch.setattr(record, "collect", lambda *_: rows)
    record.save(question, store)
    assert {row["run_id"]: row["size"] for row in read(store, question.name)} == {"a": "none", "b": "1000"}


def test_a_damaged_results_file_is_made_anew(finished: Plan, store: Store) -> None:
    store.put(f"sweeps/{finished.sweep.name}/results.parquet", b"garbage")
    record.save(finished.sweep, store)
    assert len(read(store, finished.sweep.name)) == 6


def test_a_damaged_record_of_the_calls_is_named(finished: Plan, store: Store) -> None:
    for garbage in (b"{}", b"garbage"):
        store.put(f"sweeps/{finished.sweep.name}/sweep.json", garbage)
        with pytest.raises(ValueError, match=r"sweep\.json is damaged"):
            record.save(finished.sweep, store)


def test_only_the_baseline_is_the_baseline(question: Sweep, store: Store) -> None:
    planned = plan(question, store, {"mask": "01,11", "seed": "0"})
    arms = results.arms(planned, store)
    assert not any(arm.is_baseline for arm in arms)
    assert any("no baseline among these cells" in line for line in results.caption(arms))
    assert [arm.is_baseline for arm in results.arms(plan(question, store), store)] == [True, False, False]


def test_an_arm_is_a_cell_over_its_seeds(finished: Plan, store: Store) -> None:
    arms = results.arms(finished, store)
    rows = record.collect(finished.sweep.name, store)
    assert [arm.point["mask"] for arm in arms] == ["00", "01", "11"]
    for arm in arms:
        values = [row["val/score"] for row in rows if row["mask"] == arm.point["mask"]]
        assert arm.estimate is not None
        assert list(arm.estimate.values) == pytest.approx(values)
        assert arm.estimate.mean == pytest.approx(np.mean(values))


def test_differences_are_paired_by_seed_with_the_unablated_baseline(finished: Plan, store: Store) -> None:
    base, *others = results.arms(finished, store)
    assert base.difference is None
    assert base.estimate is not None
    for arm in others:
        assert arm.difference is not None
        assert arm.estimate is not None
        assert arm.difference.mean == pytest.approx(arm.estimate.mean - base.estimate.mean)
        apart = np.subtract(arm.estimate.values, base.estimate.values)
        if np.ptp(apart) > 0:
            assert arm.difference.p == pytest.approx(stats.ttest_1samp(apart, 0).pvalue)


def test_a_table_of_an_unfinished_sweep_says_so(question: Sweep, store: Store) -> None:
    planned = plan(question, store)
    train(planned.runs[planned.missing[0]], store=store)
    text = results.markdown(results.arms(planned, store))
    assert "| 00 | 1/2 |" in text
    assert "1 of 6 cells finished" in text
    assert "nan" not in text.lower()


def test_a_place_that_a_run_came_back_to_is_named_once(finished: Plan, store: Store) -> None:
    folder = store.run(finished.cells[0].spec)
    (here,) = json.loads(folder.get("environment.json") or b"")
    elsewhere = here | {"device": "cuda: another"}
    folder.put("environment.json", json.dumps([here, elsewhere, here | {"commit": "another"}]).encode())
    one, other = record.environment(folder).split(" + ")
    assert one.startswith(here["device"])
    assert other.startswith("cuda: another")


def test_mixed_environments_are_named(finished: Plan, store: Store) -> None:
    arms = results.arms(finished, store)
    mixed = [replace(arms[0], environments=("cpu: a", "cpu: b")), *arms[1:]]
    assert any(line.startswith("mixed environments: ") and "cpu: a; cpu: b" in line for line in results.caption(mixed))


def test_the_figure_has_a_line_its_seeds_and_the_guess(finished: Plan, store: Store) -> None:
    arms = results.arms(finished, store)
    figure = figures.draw(finished.sweep.curve, arms)
    ax = figure.axes[0]
    line = next(artist for artist in ax.lines if artist.get_label() == "lr 0.001")
    assert list(line.get_xdata()) == [0, 1, 2]
    assert list(line.get_ydata()) == pytest.approx([a.estimate.mean for a in reversed(arms) if a.estimate])
    assert (
        sum(
            len(points.get_offsets())
            for points in ax.collections
            if hasattr(points, "get_sizes") and len(points.get_sizes())
        )
        >= 6
    )
    assert "commonest label" in ax.get_legend_handles_labels()[1]


def test_subplots_beside_each_other_show_all_of_their_points(finished: Plan, store: Store) -> None:
    low = results.arms(finished, store)
    high = [
        replace(a, point=a.point | {"task": "other"}, estimate=a.estimate and replace(a.estimate, mean=0.99))
        for a in low
    ]
    figure = figures.draw(finished.sweep.curve, [*low, *high])
    assert len(figure.axes) == 2
    for ax in figure.axes:
        assert max(max(line.get_ydata()) for line in ax.lines) <= ax.get_ylim()[1]


def test_figures_are_the_same_bytes_twice(finished: Plan, store: Store) -> None:
    arms = results.arms(finished, store)
    keys = figures.save(finished, arms, store)
    first = [store.get(key) for key in keys]
    assert sorted(Path(key).suffix for key in keys) == [".png", ".svg"]
    assert [store.get(key) for key in figures.save(finished, arms, store)] == first


def test_the_cells_of_all_calls_are_noted_for_the_view(question: Sweep, store: Store) -> None:
    record.note_cells(plan(question, store, {"seed": "0"}), store)
    record.note_cells(plan(question, store), store)
    noted = json.loads(store.get(f"sweeps/{question.name}/sweep.json") or b"")
    assert len(noted["cells"]) == 6
    assert noted["axes"] == list(question.axes)


def test_a_metric_of_no_task_has_seeds_alone_and_its_own_direction(
    toy_corpus: str, still_bert: str, store: Store
) -> None:
    def run(*, lr: float, seed: int) -> RunSpec:
        return pretrain(
            Bert(**SIZES, dropout=0.0),
            toy_corpus,
            vocabulary=still_bert,
            duration=steps(8),
            lr=lr,
            batch_size=4,
            seq_len=16,
            seed=seed,
            dtype="float32",
        )

    sweep = Sweep(
        run,
        over={"lr": learning_rates(1e-9, 3e-2), "seed": seeds(2)},
        baseline=lambda cell: cell | {"lr": 1e-9},
        arms=("lr",),
        curve=Curve(axis="lr", position=float, label="learning rate", line="lr"),
        metric="val/loss",
    )
    planned = plan(sweep, store)
    reported = {run_id: train(spec, store=store).metrics["val/loss"] for run_id, spec in planned.runs.items()}
    still, learnt = results.arms(plan(sweep, store), store)
    assert learnt.estimate is not None
    assert learnt.difference is not None
    assert learnt.estimate.values == tuple(reported[run_id] for run_id in learnt.runs)
    assert learnt.estimate.over_examples is None
    expected = [reported[a] - reported[b] for a, b in zip(learnt.runs, still.runs, strict=True)]
    assert learnt.difference.values == pytest.approx(expected, abs=1e-12)
    assert min(map(abs, expected)) > 0
    assert "smaller is better" in results.markdown([still, learnt])
    assert figures.save(planned, [still, learnt], store) == [
        f"sweeps/test_results/figures/all/curve.{kind}" for kind in ("png", "svg")
    ]
    figure = figures.draw(sweep.curve, [still, learnt])  # type: ignore[arg-type]
    assert figure.axes[0].get_ylim()[1] > 3.5  # nats are not cut at one
