"""The figure of a search: how its best value came down, and the value against each axis that the space chose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from plm.curves import COLOURS, STYLE
from plm.metrics import REPORTED
from plm.store import Store
from search_spaces.space import questions
from sweeps.engine.figures import captioned, put
from sweeps.engine.found import Tried, about
from sweeps.engine.setting import Setting

COLUMNS, ROOM = 3, 40
"""Panels side by side; letters that fit below one."""


def save(setting: Setting, trials: Sequence[Tried], store: Store) -> list[str]:
    """Draw and write the figure; its keys in the store."""
    if not any(t.value is not None for t in trials):
        return []
    return put(draw(setting, trials), setting.sweep.name, setting.name, "search", store)


def draw(setting: Setting, trials: Sequence[Tried]) -> Figure:
    """The history first, then a panel for each axis that varies."""
    names = list(dict.fromkeys(name for t in trials for name in t.point))
    names = [n for n in names if len({str(t.point.get(n)) for t in trials}) > 1]
    rows = -(-(1 + len(names)) // COLUMNS)
    columns = min(COLUMNS, 1 + len(names))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(3.4 * columns, 3.0 * rows + 0.8), sharey=True, squeeze=False, layout="constrained"
        )
        panels = list(axes.flat)
        _history(panels[0], setting, trials)
        for ax, name in zip(panels[1:], names, strict=False):
            _slice(ax, setting, trials, name)
        for ax in panels[1 + len(names) :]:
            ax.set_axis_off()
        metric = setting.sweep.metric
        figure.supylabel(f"{metric} ({REPORTED[metric][0]})", fontsize=9)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
        captioned(figure, about(setting, trials))
    return figure


def _history(ax: Axes, setting: Setting, trials: Sequence[Tried]) -> None:
    done = [(t.number, t) for t in trials if t.value is not None]
    best = list(accumulate((t.value or 0.0 for _, t in done), min if setting.smaller else max))
    ax.step([n for n, _ in done], best, where="post", color=COLOURS[0], linewidth=1.2, label="best so far, selected by")
    _values(ax, done)
    _given_up(ax, [t.number for t in trials if t.outcome in ("pruned", "diverged")])
    ax.set_xlabel("trial")


def _slice(ax: Axes, setting: Setting, trials: Sequence[Tried], name: str) -> None:
    known, question = {t.point[name] for t in trials if name in t.point}, questions(setting.space).get(name)
    numeric = question is not None and not question.choices
    words = (
        [] if numeric else [str(v) for v in (question.choices if question else sorted(known, key=str)) if v in known]
    )

    def place(value: Any) -> float:
        return float(value) if numeric else float(words.index(str(value)))

    with_axis = [t for t in trials if name in t.point]
    _values(ax, [(place(t.point[name]), t) for t in with_axis if t.value is not None])
    _given_up(ax, [place(t.point[name]) for t in with_axis if t.outcome in ("pruned", "diverged")])
    if question is not None and question.log:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    if not numeric:
        crowded = sum(map(len, words)) > ROOM
        ax.set_xticks(range(len(words)), words, rotation=90 if crowded else 0, fontsize=5 if crowded else None)
        ax.set_xlim(-0.5, len(words) - 0.5)
    ax.set_xlabel(name)


def _values(ax: Axes, placed: Sequence[tuple[float, Tried]]) -> None:
    """Each trial's mean, its seeds as small points, and what was reported of it."""
    for x, t in placed:
        ax.scatter([x] * len(t.selected), t.selected, s=5, color=COLOURS[0], alpha=0.35, linewidths=0)
    ax.scatter(
        [x for x, _ in placed],
        [t.value or 0.0 for _, t in placed],
        s=22,
        color=COLOURS[0],
        label="a trial, selected by",
    )
    again = [(x, v) for x, t in placed for v in t.reported]
    if again:
        ax.scatter(
            [x for x, _ in again],
            [v for _, v in again],
            s=26,
            marker="x",
            color=COLOURS[1],
            label="a fresh seed, reported",
        )
    ax.grid(axis="y", color="0.92")
    ax.set_axisbelow(True)


def _given_up(ax: Axes, where: Sequence[float]) -> None:
    """Ticks at the lower edge: what was given up has no value that compares."""
    ax.plot(
        where,
        [0.02] * len(where),
        "|",
        color="0.45",
        markersize=9,
        transform=ax.get_xaxis_transform(),
        label="given up early",
    )
