"""Figures of what fine-tuning scores from each step of a training, over a log axis of steps: a panel a task.

Trainings differ in colour, dash and marker; what has no steps, the commonest label, the model before its first step and
reference models, is a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plm.curves import COLOURS, MARKERS, STYLE
from plm.store import Store
from sweeps.engine import results
from sweeps.engine.embryo_figures import STEP, over_steps
from sweeps.engine.embryo_scores import Scores, verdict
from sweeps.engine.figures import DASHES, GUESS, captioned, headed, legend, put

WIDTH, HEIGHT, LEGEND = 4.0, 3.4, 2.6
"""Inches of a panel, and of the room beside them."""


def save(name: str, found: Sequence[Scores], store: Store) -> list[str]:
    """Draw and write the figure; its keys in the store."""
    if not any(scores.steps for scores in found):
        return []
    trainings = list(dict.fromkeys(scores.training for scores in found))
    return put(draw(found), name, trainings[0] if len(trainings) == 1 else "trainings", "downstream", store)


def draw(found: Sequence[Scores]) -> Figure:
    """A panel a task: a line a training, its best step marked."""
    tasks, names = (list(dict.fromkeys(every)) for every in ([s.task for s in found], [s.name for s in found]))
    last = max(step for scores in found for step in scores.steps)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(tasks), figsize=(LEGEND + WIDTH * len(tasks), HEIGHT + 0.8), squeeze=False, layout="constrained"
        )
        for ax, task in zip(axes[0], tasks, strict=True):
            own = [scores for scores in found if scores.task == task]
            for scores in own:
                _line(ax, scores, names.index(scores.name), len(names) > 1)
            _levels(ax, own)
            _frame(ax, own)
            over_steps(ax, last)
            ax.set_xlabel(STEP)
            ax.set_title(f"{task} ({results.metric_of(own[0].arms[0])})", fontsize=9)
        axes[0][0].set_ylabel("score on the evaluation split, after fine-tuning")
        handles, labels = legend(list(axes[0]))
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=7.5)
        headed(figure, "fine-tuned from each step: " + ", ".join(names))
        captioned(figure, _caption(found))
    return figure


def _line(ax: Axes, scores: Scores, i: int, several: bool) -> None:
    """Means with their seeds and intervals; a star at the best; a thin level at what the untrained model comes to."""
    colour, marker, steps = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], scores.steps
    found = {step: arm.estimate for step, arm in steps.items() if arm.estimate}
    at = list(found)
    name = scores.name if several else "mean over seeds (small points: each)"
    ax.plot(at, [e.mean for e in found.values()], color=colour, marker=marker, markersize=4, label=name, linewidth=1.5,
            linestyle=DASHES[i % len(DASHES)])  # fmt: skip
    for step, each in found.items():
        ax.scatter([step] * len(each.values), each.values, s=5, color=colour, alpha=0.5, linewidths=0, marker=marker)
    bands = {step: each.over_seeds for step, each in found.items() if each.over_seeds}
    ax.fill_between(
        list(bands), [b.low for b in bands.values()], [b.high for b in bands.values()], color=colour, alpha=0.15,
        linewidth=0,
    )  # fmt: skip
    if scores.best is not None:
        ax.plot([scores.best], [found[scores.best].mean], linestyle="", marker="*", markersize=13, color=colour,
                markerfacecolor="white", label="best step", clip_on=False, zorder=5)  # fmt: skip
    if 0 in found:
        ax.axhline(found[0].mean, color=colour, linewidth=0.9, dashes=(1, 2), label="the model before its first step")


def _levels(ax: Axes, own: Sequence[Scores]) -> None:
    """What has no steps."""
    levels = {name: arm.estimate.mean for scores in own for name, arm in scores.references.items() if arm.estimate}
    for i, (name, level) in enumerate(levels.items()):
        ax.axhline(level, color="0.15", linewidth=1.1, linestyle=DASHES[1 + i % 3], label=f"reference: {name}")
    for guess in {arm.guess for scores in own for arm in scores.arms if arm.guess is not None}:
        ax.axhline(guess, label="commonest label", **GUESS)


def _frame(ax: Axes, own: Sequence[Scores]) -> None:
    """Show what was scored: intervals of few seeds may reach far beyond, and are cut."""
    arms = [arm for scores in own for arm in scores.arms]
    values = [value for arm in arms if arm.estimate for value in arm.estimate.values]
    values += [arm.guess for arm in arms if arm.guess is not None]
    room = max(0.1 * float(np.ptp(values)), 0.02)
    ax.set_ylim(min(values) - room, max(values) + room)
    ax.grid(axis="y", color="0.92")
    ax.set_axisbelow(True)


def _caption(found: Sequence[Scores]) -> list[str]:
    arms = [arm for scores in found for arm in scores.arms]
    own = (*found[0].axes.axes, "reference")
    same = ", ".join(f"{axis} {value}" for axis, value in results.fixed(arms).items() if axis not in own)
    seeds = f"{mean(len(arm.seeds) for arm in arms if arm.estimate):.3g}"
    lines = [f"{same}; bands: 95% over seeds (t), cut at the frame; n = {seeds} seeds a step", results.cost(arms)]
    return lines + [f"{scores.task}, {scores.name}: {verdict(scores)}" for scores in found]
