"""Figures of what layers are worth: the scores of all masks by how many layers they keep, and each layer's worth."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from plm.curves import COLOURS, STYLE
from plm.metrics import METRICS
from plm.store import Store
from sweeps.engine.figures import captioned, headed, put, subject
from sweeps.engine.importance import Importance, Panel, Worth, caption


def save(sweep: str, found: Sequence[Panel], store: Store) -> list[str]:
    """Draw and write the figures, one for each model and task; their keys in the store."""
    groups: dict[tuple[str, str], list[Panel]] = {}
    for panel in found:
        if panel.arms:
            groups.setdefault((str(panel.point.get("model", "")), str(panel.point.get("task", ""))), []).append(panel)
    return [key for of, panels in groups.items() for key in put(draw(panels), sweep, subject(*of), "importance", store)]


def draw(panels: Sequence[Panel]) -> Figure:
    """A row for each panel: its masks, and its layers."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(panels), 2, figsize=(9.2, 3.6 * len(panels) + 0.8), squeeze=False, layout="constrained"
        )
        for (left, right), panel in zip(axes, panels, strict=True):
            _masks(left, panel)
            if panel.found:
                _layers(right, panel.found)
            else:
                right.set_axis_off()
            varied = [n for n, v in panel.point.items() if len({str(p.point[n]) for p in panels}) > 1]
            left.set_title(", ".join(f"{n} {panel.point[n]}" for n in varied), fontsize=9)
        headed(figure, panels[0].title)
        captioned(figure, caption(panels[0]))
    return figure


def _masks(ax: Axes, panel: Panel) -> None:
    """Each mask a point; the best of each number of kept layers are joined, and the worst."""
    kept = np.array([mask.count("0") for mask in panel.masks])
    means = np.array([arm.estimate.mean for arm in panel.arms if arm.estimate])
    ax.scatter(kept, means, s=18, facecolors="white", edgecolors=COLOURS[0], linewidths=0.9, zorder=3)
    numbers = sorted(set(kept.tolist()))
    for pick, style, name in ((max, "-", "best mask"), (min, ":", "worst mask")):
        ends = [pick(means[kept == number]) for number in numbers]
        ax.plot(numbers, ends, style, color=COLOURS[0], linewidth=1.2, label=f"{name} of each number")
    for number in numbers:  # which it is
        best = max((i for i in range(len(kept)) if kept[i] == number), key=lambda i: means[i])
        ax.annotate(
            panel.masks[best], (number, means[best]), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=6
        )
    metric = panel.arms[0].metric
    ax.set_ylabel(f"{metric} on the evaluation split")
    if metric in METRICS and ax.get_ylim()[1] > 1.03:
        ax.set_ylim(top=1.05)
    ax.set_xlabel("preserved layers (a mask: 1 = redrawn, from the input side)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", color="0.92")
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize=7, loc="lower right")


def _layers(ax: Axes, found: Importance) -> None:
    for offset, worths, name, look in (
        (-0.12, found.effects, "effect of keeping it", ("o", COLOURS[0], COLOURS[0])),
        (0.12, found.shapley, "Shapley value", ("s", COLOURS[1], "white")),
    ):
        _worths(ax, offset, worths, name, look)
    ax.axhline(0, color="0.5", linewidth=0.8)
    ax.set_xlabel("layer, from the input side")
    ax.set_ylabel("what keeping the layer adds")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", color="0.92")
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize=7)


def _worths(ax: Axes, offset: float, worths: Sequence[Worth], name: str, look: tuple[str, str, str]) -> None:
    """Means with their interval over seeds, a thinner one over masks, and each seed a point."""
    marker, colour, face = look
    for layer, worth in enumerate(worths):
        x = layer + offset
        ax.scatter([x + 0.06] * len(worth.values), worth.values, s=5, color=colour, alpha=0.5, linewidths=0)
        for band, width in ((worth.over_seeds, 1.6), (worth.over_masks, 0.7)):
            if band:
                ax.plot([x, x], [band.low, band.high], color=colour, linewidth=width)
        ax.plot(
            [x], [worth.mean], marker, color=colour, markerfacecolor=face, markersize=6, label=None if layer else name
        )
