"""What fine-tuning a training's checkpoints scores, step by step: which step is best, and whether it beats the last one.

Every step is compared with the last one, seed by seed, and p is corrected for all of these comparisons: the best of many
steps is also the luckiest. Reference models, which have no steps, are compared with the last step as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

from plm.reading import Reading
from plm.spec import RunSpec, digest
from plm.store import RunFolder, Store
from sweeps.engine import results
from sweeps.engine.embryo_collect import Asking
from sweeps.engine.plan import Plan
from sweeps.engine.record import noted, written
from sweeps.engine.results import Arm
from sweeps.engine.sweep import ByStep

POOLED = ("trajectory", "task", "step", "reference", "seed")
"""Axes of fine-tunings that do not tell curves apart: what a curve is of, where it is, and what it is the mean over."""
SURE = 0.05
"""The corrected p below which a difference from the last step is called beyond noise."""


@dataclass(frozen=True)
class Scores:
    """One task, fine-tuned from the checkpoints of one training."""

    training: str
    task: str
    rest: tuple[tuple[str, Any], ...]
    """The other axes' labels, as far as they vary in the call."""
    arms: tuple[Arm, ...]
    axes: ByStep
    arm_axes: tuple[str, ...]

    @property
    def steps(self) -> dict[int, Arm]:
        """The steps of the training that have a finished seed, in order."""
        there = {arm.point[self.axes.step]: arm for arm in self.arms if arm.estimate}
        return {step: there[step] for step in sorted(step for step in there if step is not None)}

    @property
    def references(self) -> dict[str, Arm]:
        """Other models by their name."""
        found = [arm for arm in self.arms if arm.estimate and arm.point[self.axes.step] is None]
        return {" ".join(str(arm.point[a]) for a in self.arm_axes if a != self.axes.step): arm for arm in found}

    @property
    def best(self) -> int | None:
        """The step of the highest mean, of equal ones the last, among those that have as many seeds as any."""
        most = max((len(arm.seeds) for arm in self.steps.values()), default=0)
        means = {step: arm.estimate.mean for step, arm in self.steps.items() if arm.estimate and len(arm.seeds) == most}
        return max(means, key=lambda step: (means[step], step)) if means else None

    @property
    def name(self) -> str:
        """The training, and what else tells it from the others."""
        return ", ".join([self.training, *(f"{axis} {value}" for axis, value in self.rest)])


def collect(plan: Plan, store: Store) -> list[Scores]:
    """The finished fine-tunings of a plan, by training and task; none if it only reads."""
    axes = plan.sweep.by_step
    assert axes is not None
    if any(isinstance(cell.spec, Reading) for cell in plan.cells):
        return []
    ends: dict[tuple[Any, ...], dict[str, Any]] = {}
    for cell in plan.cells:
        if cell.point[axes.step] is not None:
            before = ends.setdefault(plan.family(cell), cell.labels)
            ends[plan.family(cell)] = max(before, cell.labels, key=lambda labels: labels[axes.step])

    def last(labels: dict[str, Any]) -> dict[str, Any]:
        family = tuple((n, v) for n, v in labels.items() if n != "seed" and n not in plan.sweep.arms)
        end = ends.get(family, labels)
        return labels | {name: end[name] for name in plan.sweep.arms}

    groups: dict[tuple[Any, ...], list[Arm]] = {}
    for arm in results.arms(replace(plan, sweep=replace(plan.sweep, baseline=last)), store):
        groups.setdefault(arm.family, []).append(arm)
    own = (axes.training, axes.analysis)
    varying = {n for key in groups for n, v in key if n not in own and any((n, v) not in other for other in groups)}
    found = []
    for key, arms in groups.items():
        point, rest = dict(key), tuple((n, v) for n, v in key if n in varying)
        training, task = (str(point[axis]) for axis in own)
        found.append(Scores(training, task, rest, tuple(arms), axes, plan.sweep.arms))
    return [scores for scores in found if scores.steps or scores.references]


def title(scores: Scores) -> str:
    """What a table is of."""
    return f"{scores.task} after fine-tuning {scores.name}"


def table(scores: Scores) -> tuple[list[str], list[list[str]]]:
    """Headings and rows, a step after the other, then the references; the best step and the last one are named."""
    head, rows = results.table(scores.arms)
    step, steps = scores.axes.step, [arm.point[scores.axes.step] for arm in scores.arms]
    last = max((s for s in steps if s is not None), default=None)
    words = {scores.best: "best", last: "last"} if scores.best != last else {last: "best and last"}
    order = sorted(range(len(rows)), key=lambda i: (steps[i] is None, steps[i] or 0))
    shown = [[word.replace("None", "") for word in rows[i]] for i in order]
    at = head.index(step) if step in head else 0
    return [*head[:at], "", *head[at:]], [
        [*row[:at], words.get(steps[i], "") if steps[i] is not None else "", *row[at:]]
        for i, row in zip(order, shown, strict=True)
    ]


def caption(scores: Scores) -> list[str]:
    """What must be known to read the table."""
    return [*results.caption(scores.arms), f"baseline: the last step. {verdict(scores)}"]


def verdict(scores: Scores) -> str:
    """Whether the best step beats the last one, in words."""
    if scores.best is None:
        return "no step is finished"
    arm = scores.steps[scores.best]
    if arm.is_baseline:
        return f"the best step is the last one, {scores.best:,}"
    if arm.difference is None:
        return f"the best step so far is {scores.best:,}; the last one is not finished"
    between, n = arm.difference.over_seeds, len(arm.difference.values)
    said = f"the best step, {scores.best:,}, has {arm.difference.mean:+.3f} over the last"
    if arm.p_holm is None or between is None:
        return f"{said} (n {n}): without seeds that differ nobody knows whether that is noise"
    how = "beyond noise" if arm.p_holm < SURE else "not beyond noise"
    over = f"95% over seeds {between.low:+.3f} to {between.high:+.3f}, n {n}"
    return f"{said} ({over}): {how} (p {arm.p_holm:.3f} by Holm over {arm.comparisons} comparisons)"


# ---------------------------------------------------------------------------------------------------------------------
# Beside readings


def beside(plan: Plan, known: Iterable[Asking], store: Store) -> dict[str, dict[str, Mapping[int, float]]]:
    """Training -> task -> step -> mean score, of what calls of another sweep have fine-tuned from the models that are read
    or were by earlier calls.

    Args:
        known: The readings of these models, as `embryo_collect.ever_asked` finds them.
    """
    axes, found = plan.sweep.by_step, dict[tuple[str, str], dict[int, list[float]]]()
    assert axes is not None
    read = {digest(reading.source): (str(labels[axes.training]), int(labels[axes.step])) for labels, reading in known}
    points = {cell["run_id"]: cell["point"] for cell in (noted(axes.beside, store) if axes.beside else ())}
    for run_id, point in points.items():  # a run counts once, by what the last call that asked for it says of it
        run = RunFolder(store, run_id)
        spec = written(run) if run.status() == "done" else None
        if isinstance(spec, RunSpec) and (place := read.get(digest(spec.init.origin))):
            others = (f"{n} {v}" for n, v in point.items() if n not in POOLED)
            task = f"{point['task']}, fine-tuned ({', '.join(others)})"
            score = float(run.result()["metrics"]["val/score"])
            found.setdefault((place[0], task), {}).setdefault(place[1], []).append(score)
    shown: dict[str, dict[str, Mapping[int, float]]] = {}
    for (training, task), steps in found.items():
        shown.setdefault(training, {})[task] = _means(steps)
    return shown


def _means(scores: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """Of the steps that have as many seeds as any."""
    most = max(map(len, scores.values()))
    return {step: mean(own) for step, own in sorted(scores.items()) if len(own) == most}
