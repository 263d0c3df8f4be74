"""Figures of pretrained models side by side: score against a number of theirs, or a row a model.

Seeds are small points, a mean has its 95% interval over seeds (t); what is told apart differs in marker and dash too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plm.curves import COLOURS, MARKERS, STYLE
from plm.store import Store
from sweeps.engine.figures import captioned, headed, put
from sweeps.engine.pivot import Panel, Row, Spread, caption, columns
from sweeps.engine.stats import seeds_interval
from sweeps.engine.sweep import Pivot

Pick = Callable[[Row], Spread]


def save(name: str, found: Sequence[Panel], pivot: Pivot, store: Store) -> list[str]:
    """Draw and write a figure for each panel with a finished run; their keys in the store."""
    keys: list[str] = []
    several = len({panel.title for panel in found}) < len(found)
    for number, panel in enumerate(found):
        if not _subplots(panel):
            continue
        place = panel.title + (f"-{number}" if several else "")
        keys += put(draw(panel, pivot), name, place, "tasks", store)
    return keys


def draw(panel: Panel, pivot: Pivot) -> Figure:
    """One figure: a subplot for the mean of the tasks, for each task, and for each question put without fine-tuning."""
    subplots = _subplots(panel)
    with plt.rc_context(STYLE):
        height = 3.9 if pivot.against else 1.9 + 0.32 * len(panel.rows)
        figure, axes = plt.subplots(
            1, len(subplots), figsize=(1.2 + 2.9 * len(subplots), height), sharey=not pivot.against, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for ax, (title, pick) in zip(axes[0], subplots.items(), strict=True):
            ax.set_title(title, fontsize=9)
            (_against if pivot.against else _rows)(ax, panel, pivot, pick)
        if pivot.against:
            axes[0][0].set_ylabel("score on the evaluation split")
            figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
        headed(figure, panel.title)
        captioned(figure, [f"{caption(panel, pivot)[0]}; bars: 95% over seeds (t)"])
    return figure


def _subplots(panel: Panel) -> dict[str, Pick]:
    """Title -> what is drawn, for what has a finished run."""
    tasks, asked = columns(panel, "scores"), columns(panel, "asked")
    found: dict[str, Pick] = {"mean of the tasks": lambda row: row.mean} if len(tasks) > 1 else {}
    found |= {task: lambda row, task=task: row.scores.get(task, Spread({})) for task in tasks}  # type: ignore[misc]
    found |= {f"{name}, not fine-tuned": lambda row, name=name: row.asked.get(name, Spread({})) for name in asked}  # type: ignore[misc]
    return {title: pick for title, pick in found.items() if any(pick(row).values for row in panel.rows)}


def _against(ax: Axes, panel: Panel, pivot: Pivot, pick: Pick) -> None:
    """Score against a fact: a line for each value of the first axis, a marker for each of the others'."""
    assert pivot.against is not None
    lines, kinds = ([*dict.fromkeys(row.labels[part] for row in panel.rows)] for part in (slice(1), slice(1, None)))
    for i, line in enumerate(lines):
        rows = [row for row in panel.rows if row.labels[:1] == line and pick(row).values]
        rows.sort(key=lambda row: row.facts[pivot.against])  # type: ignore[index]
        colour, x, y = (
            COLOURS[i % len(COLOURS)],
            [row.facts[pivot.against] for row in rows],
            [pick(row).mean for row in rows],
        )
        style: dict[str, Any] = {"linestyle": ("-", "--", "-.", ":")[i % 4], "linewidth": 1.2}
        ax.plot(x, y, color=colour, label=f"{pivot.rows[0]} {line[0]}", **style)
        for at, row in zip(x, rows, strict=True):
            marker = MARKERS[kinds.index(row.labels[1:]) % len(MARKERS)]
            ax.plot([at], [pick(row).mean], color=colour, marker=marker, markersize=6)
            _spread(ax, at, pick(row), colour, upright=True)
    for j, kind in enumerate(kinds):
        name = ", ".join(f"{axis} {value}" for axis, value in zip(pivot.rows[1:], kind, strict=True))
        ax.plot([], [], color="0.3", marker=MARKERS[j % len(MARKERS)], linestyle="none", label=name)
    ax.set_xlabel(pivot.against)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g}M" if value else "0")
    ax.grid(axis="y", color="0.92")
    ax.set_axisbelow(True)


def _rows(ax: Axes, panel: Panel, pivot: Pivot, pick: Pick) -> None:
    """A row a model, the first on top; a thin line at the height of the first."""
    names = [", ".join(map(str, row.labels)) for row in panel.rows]
    for i, row in enumerate(panel.rows):
        found, marker = pick(row), MARKERS[i % len(MARKERS)]
        if found.values:
            _spread(ax, i, found, COLOURS[0], upright=False)
            ax.plot([found.mean], [i], color=COLOURS[0], marker=marker, markersize=6, linestyle="none")
    first = pick(panel.rows[0])
    if first.values:
        ax.axvline(first.mean, color="0.5", linewidth=0.8, dashes=(6, 4))
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="x", color="0.92")
    ax.set_axisbelow(True)
    if "not fine-tuned" in ax.get_title():
        ax.axvline(0.5, color="0.4", linewidth=1, linestyle=":")
    ax.set_xlabel("accuracy; chance is 0.5" if "not fine-tuned" in ax.get_title() else "score")


def _spread(ax: Axes, at: float, spread: Spread, colour: str, upright: bool) -> None:
    """The seeds and the interval of one mean."""
    values = list(spread.values.values())
    ends = seeds_interval(values)
    places, interval = [at] * len(values), [at, at]
    if ends:
        line = [ends.low, ends.high]
        ax.plot(*((interval, line) if upright else (line, interval)), color=colour, linewidth=0.9, alpha=0.8)
    ax.scatter(*((places, values) if upright else (values, places)), s=9, color=colour, alpha=0.55, linewidths=0)
