"""Answers: from the finished runs of one call's cells and their kept predictions, the table.

Everything is recomputed from the store each time; nothing is read back from logs. A table averages over `seed` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plm.metrics import METRICS, REPORTED
from plm.objects import side_by_side
from plm.predictions import from_parquet, predicted
from plm.spec import RunSpec
from plm.store import RunFolder, Store
from sweeps.engine.markdown import section
from sweeps.engine.plan import Cell, Plan
from sweeps.engine.record import environment
from sweeps.engine.stats import (
    Estimate,
    Interval,
    PairedDifference,
    difference_of_values,
    estimate,
    estimate_of_values,
    holm,
    paired_difference,
)


@dataclass(frozen=True)
class Arm:
    """One cell of a sweep over its seeds."""

    point: dict[str, Any]
    """Axis name -> value as shown, without `seed`."""
    family: tuple[Any, ...]
    """What it shares with the arms it is compared among."""
    asked: int
    """Seeds that were asked for."""
    seeds: tuple[int, ...]
    """Seeds that are finished."""
    runs: tuple[str, ...]
    estimate: Estimate | None
    """None: no seed is finished."""
    difference: PairedDifference | None
    """From the baseline, over the seeds that both have; None: it is the baseline, or there is none."""
    is_baseline: bool
    p_holm: float | None
    """Corrected within the family; None: undefined."""
    comparisons: int
    """How many p-values the correction is over; arms of the same runs have one between them."""
    metric: str
    guess: float | None
    """What always guessing the commonest label scores; None for a regression."""
    environments: tuple[str, ...]
    notes: tuple[str, ...]
    spent: dict[str, tuple[float, float]]
    """Finished run -> its seconds and FLOPs."""

    @property
    def seconds(self) -> float:
        """Of computing."""
        return sum(seconds for seconds, _ in self.spent.values())


def arms(plan: Plan, store: Store) -> list[Arm]:
    """Summarise the finished runs of a plan, in the order of its cells."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in plan.cells:
        if plan.sweep.metric != "val/score" or hasattr(cell.run.data, "task"):  # a pretraining itself has no score
            groups.setdefault(without_seed(cell.labels), []).append(cell)
    read = side_by_side(lambda cells: _Scores.read(cells, store, plan.sweep.metric), groups.values())
    scores = dict(zip(groups, read, strict=True))
    differences = {key: _difference(plan, cells[0], scores) for key, cells in groups.items()}
    families: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for key, cells in groups.items():
        families.setdefault(plan.family(cells[0]), []).append(key)
    runs = {key: tuple(cell.spec.run_id for cell in cells) for key, cells in groups.items()}
    compared = {key: (runs[key], runs.get(_baseline(plan, cells[0]))) for key, cells in groups.items()}
    corrected: dict[tuple[Any, ...], tuple[float | None, int]] = {}
    for keys in families.values():
        p_values = {compared[key]: d.p for key in keys if (d := differences[key]) and d.p is not None}
        once = dict(zip(p_values, holm(list(p_values.values())), strict=True))  # the same runs are the same hypothesis
        corrected |= {key: (once.get(compared[key]), len(once)) for key in keys}
    return [_arm(plan, cells, scores[key], differences[key], *corrected[key]) for key, cells in groups.items()]


def without_seed(labels: dict[str, Any]) -> tuple[Any, ...]:
    """The labels of an arm, whose seeds are folded."""
    return tuple((name, value) for name, value in labels.items() if name != "seed")


def _baseline(plan: Plan, cell: Cell) -> tuple[Any, ...]:
    return without_seed(plan.sweep.baseline(cell.labels))


def _arm(
    plan: Plan,
    cells: list[Cell],
    scores: _Scores,
    difference: PairedDifference | None,
    p: float | None,
    comparisons: int,
) -> Arm:
    found = None
    if scores.predictions:
        found = estimate(list(scores.predictions.values()), scores.labels, scores.weighted)
    elif scores.values:
        found = estimate_of_values(list(scores.values.values()))
    return Arm(
        point=dict(without_seed(cells[0].labels)),
        family=plan.family(cells[0]),
        asked=len(cells),
        seeds=tuple(scores.values),
        runs=tuple(c.spec.run_id for c in cells),
        estimate=found,
        difference=difference,
        is_baseline=_baseline(plan, cells[0]) == without_seed(cells[0].labels),
        p_holm=p,
        comparisons=comparisons,
        metric=scores.metric,
        guess=scores.guess(),
        environments=tuple(sorted(scores.environments)),
        notes=tuple(sorted(scores.notes)),
        spent=scores.spent,
    )


@dataclass(frozen=True)
class _Scores:
    """The metric of one cell's finished seeds, and the predictions that it is computed from where it is a task's."""

    values: dict[int, float]
    predictions: dict[int, np.ndarray]
    """Empty: the metric is not one of predictions against labels, so only seeds can be drawn anew."""
    labels: np.ndarray
    metric: str
    """A task's metric, or the name that runs report it by."""
    environments: frozenset[str]
    notes: frozenset[str]
    spent: dict[str, tuple[float, float]]

    @property
    def weighted(self) -> Callable[..., Any]:
        return METRICS[self.metric].weighted

    @staticmethod
    def read(cells: list[Cell], store: Store, metric: str) -> _Scores:
        values, predictions, labels = dict[int, float](), dict[int, np.ndarray](), np.empty(0)
        notes, environments, spent = set[str](), set[str](), dict[str, tuple[float, float]]()
        of_task = _metric(cells[0].run, metric)
        for cell in cells:
            run = RunFolder(store, cell.spec.run_id)
            if run.status() != "done":
                continue
            result, seed = run.result(), cell.point.get("seed", 0)
            if metric not in result["metrics"]:
                raise ValueError(f"{run.run_id} reports no {metric}; it reports {', '.join(result['metrics'])}.")
            values[seed] = float(result["metrics"][metric])
            if of_task:
                records = from_parquet(run.get("predictions.parquet") or b"")
                predictions[seed] = predicted(records)
                labels = np.array([r["label"] for r in records])
            notes |= set(result["notes"])
            environments.add(environment(run))
            spent[run.run_id] = result["seconds"], result["flops"]
        return _Scores(values, predictions, labels, of_task or metric, frozenset(environments), frozenset(notes), spent)

    def guess(self) -> float | None:
        if not len(self.labels) or self.metric in ("pearson", "spearman"):
            return None
        values, counts = np.unique(self.labels, return_counts=True)
        return METRICS[self.metric].score(np.full(len(self.labels), values[counts.argmax()]), self.labels)


def _metric(spec: RunSpec, metric: str) -> str | None:
    """The task's metric that runs report by that name; None: it is not one of a task's."""
    metrics: tuple[str, ...] = getattr(getattr(spec.data, "task", None), "metrics", ())
    if metrics and metric == "val/score":
        return metrics[0]
    name = metric.removeprefix("val/")
    return name if name in metrics else None


def _difference(plan: Plan, cell: Cell, scores: dict[tuple[Any, ...], _Scores]) -> PairedDifference | None:
    here, baseline = without_seed(cell.labels), _baseline(plan, cell)
    if baseline == here or baseline not in scores:
        return None
    ours, theirs = scores[here], scores[baseline]
    seeds = [s for s in ours.values if s in theirs.values]
    if not seeds:
        return None
    if not (ours.predictions and theirs.predictions):
        return difference_of_values([ours.values[s] for s in seeds], [theirs.values[s] for s in seeds])
    return paired_difference(
        [ours.predictions[s] for s in seeds], [theirs.predictions[s] for s in seeds], ours.labels, ours.weighted
    )


# ---------------------------------------------------------------------------------------------------------------------
# Showing it

HEADINGS = (
    "n",
    "mean",
    "95% seeds (t)",
    "95% examples",
    "95% both (Multi-Bootstrap)",
    "minus baseline",
    "95% both",
    "p (Holm)",
    "each seed",
)


def panels(found: Sequence[Arm]) -> Iterator[tuple[tuple[str, str], list[Arm]]]:
    """The arms of each (model, task)."""
    groups: dict[tuple[str, str], list[Arm]] = {}
    for arm in found:
        groups.setdefault((str(arm.point.get("model", "")), str(arm.point.get("task", ""))), []).append(arm)
    yield from groups.items()


def table(panel: Sequence[Arm]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of one (model, task); axes with one value are left to the caption."""
    shown = [a for a in panel[0].point if a not in ("model", "task") and len({arm.point[a] for arm in panel}) > 1]
    rows = []
    for arm in panel:
        e, d = arm.estimate, arm.difference
        rows.append(
            [
                *(str(arm.point[a]) for a in shown),
                f"{len(arm.seeds)}" if len(arm.seeds) == arm.asked else f"{len(arm.seeds)}/{arm.asked}",
                _number(e.mean if e else None),
                *(_interval(i) for i in ((e.over_seeds, e.over_examples, e.over_both) if e else (None,) * 3)),
                _number(d.mean if d else None, signed=True),
                _interval(d.over_both if d else None, signed=True),
                _p(arm.p_holm),
                " ".join(_number(v) for v in (e.values if e else ())),
            ]
        )
    return [*shown, *HEADINGS], rows


def caption(panel: Sequence[Arm]) -> list[str]:
    """What must be known to read a panel: metric, fixed axes, comparisons, how much of it is there, what to beware of."""
    first = panel[0]
    tests = [(a.family, a.runs) for a in panel if a.p_holm is not None]
    lines = [
        f"{described(first.metric)}; " + ", ".join(f"{a} {v}" for a, v in fixed(panel).items()),
        cost(panel),
        "p: paired t over seeds against the baseline, corrected for the comparisons within each group of arms: "
        + ", ".join(map(str, dict.fromkeys(a.comparisons for a in panel)))
        + " (arms of the same runs are one)" * (len({*tests}) < len(tests))
        if any(a.is_baseline for a in panel)
        else "no baseline among these cells, so no differences: ask for it too",
    ]
    environments = {e for a in panel for e in a.environments}
    if len(environments) > 1:
        lines.append(f"mixed environments: {'; '.join(sorted(environments))}")
    lines += sorted({f"{note} (in {sum(note in a.notes for a in panel)} arms)" for a in panel for note in a.notes})
    return lines


def fixed(panel: Sequence[Arm]) -> dict[str, Any]:
    """The axes that have one value among some arms."""
    return {a: v for a, v in panel[0].point.items() if len({arm.point[a] for arm in panel}) == 1}


def cost(panel: Sequence[Arm]) -> str:
    """How much of some arms is there, and what it took; a run that answers several arms counts once."""
    done, asked = sum(len(a.seeds) for a in panel), sum(a.asked for a in panel)
    spent = {run_id: each for a in panel for run_id, each in a.spent.items()}
    return (
        f"{done} of {asked} cells finished ({len({r for a in panel for r in a.runs})} runs, "
        f"{sum(seconds for seconds, _ in spent.values()) / 60:.0f} min of computing, "
        f"{sum(flops for _, flops in spent.values()):.1e} FLOPs)"
    )


def markdown(found: Sequence[Arm]) -> str:
    """All panels as Markdown."""
    return "".join(section(headline(*of), *table(panel), caption(panel)) for of, panel in panels(found))


def headline(model: str, task: str) -> str:
    """What a panel is of; a sweep may have neither axis."""
    return ", ".join(filter(None, (task, model))) or "all"


def metric_of(arm: Arm) -> str:
    """An arm's metric without its split."""
    return arm.metric.removeprefix("val/")


def described(metric: str) -> str:
    """A metric with what a reader needs to know of it."""
    if metric not in REPORTED:
        return metric
    unit, direction = REPORTED[metric]
    return f"{metric} ({unit}; {'smaller' if direction == 'min' else 'larger'} is better)"


def _number(value: float | None, signed: bool = False) -> str:
    return "" if value is None else f"{value:{'+' if signed else ''}.3f}"


def _interval(interval: Interval | None, signed: bool = False) -> str:
    return "" if interval is None else f"{_number(interval.low, signed)} to {_number(interval.high, signed)}"


def _p(p: float | None) -> str:
    return "" if p is None else "<.001" if p < 0.001 else f"{p:.3f}"
