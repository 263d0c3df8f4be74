"""The figure of a search with two criteria: what it was selected by, the front, and the front measured again.

What was selected by is a slice of the training data, and what is reported is the evaluation split at fresh seeds; a grid
that has run the same question whole stands beside the latter as the truth to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from plm.curves import COLOURS, STYLE
from plm.metrics import REPORTED
from plm.spec import RunSpec
from plm.store import RunFolder, Store
from search_spaces.axis import label
from sweeps.engine.figures import captioned, put
from sweeps.engine.found import Tried, about, chances, on_front
from sweeps.engine.front import front
from sweeps.engine.record import noted
from sweeps.engine.setting import Setting
from sweeps.engine.stats import seeds_interval


@dataclass(frozen=True)
class Reference:
    """A cell of the grid beside: its second criterion, and the metric at each of its seeds."""

    second: float
    values: tuple[float, ...]
    labels: tuple[tuple[str, Any], ...]
    """The axes that vary within the grid."""


def references(setting: Setting, store: Store) -> list[Reference]:
    """The finished cells of the grid beside that have the search's fixed values; none where nothing is to be beside."""
    search, metric = setting.sweep.search, setting.sweep.metric
    fixed = {name: str(label(value)) for name, value in setting.point.items()}
    groups: dict[tuple[tuple[str, Any], ...], list[RunFolder]] = {}
    for cell in noted(search.beside, store) if search.beside else ():
        point, run = cell["point"], RunFolder(store, cell["run_id"])
        same = all(str(point[name]) == value for name, value in fixed.items() if name in point)
        if same and run.status() == "done":
            groups.setdefault(tuple((n, v) for n, v in point.items() if n != "seed"), []).append(run)
    found = []
    for labels, runs in groups.items():
        spec = RunSpec.from_json((runs[0].get("spec.json") or b"").decode())
        values = tuple(float(run.result()["metrics"][metric]) for run in runs)
        found.append(Reference(setting.second(spec), values, labels))
    return found


def save(setting: Setting, trials: Sequence[Tried], store: Store) -> list[str]:
    """Draw and write the figure; its keys in the store, none where there is no second criterion or no trial yet."""
    if setting.sweep.search.second is None or not on_front(setting, trials):
        return []
    figure = draw(setting, trials, references(setting, store))
    return put(figure, setting.sweep.name, setting.name, "front", store)


def draw(setting: Setting, trials: Sequence[Tried], beside: Sequence[Reference]) -> Figure:
    """Left the trials and the front that they were selected for; right the front measured again, and the truth."""
    second, metric = setting.sweep.search.second, setting.sweep.metric
    assert second is not None
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(10.4, 4.6), sharex=True, sharey=True, layout="constrained")
        seconds = [*(t.second or 0.0 for t in trials), *(r.second for r in beside)]
        ends = min(seconds), max(seconds)
        _selected(axes[0], setting, trials, ends)
        _reported(axes[1], setting, trials, beside, ends)
        for ax, title in zip(
            axes, ("selected by: a slice of the training data", "reported: evaluation split"), strict=True
        ):
            ax.set_title(title, fontsize=9)
            ax.set_xlabel(second.name)
            if all(t.second is None or float(t.second).is_integer() for t in trials):
                ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.grid(axis="y", color="0.92")
            ax.set_axisbelow(True)
            ax.legend(frameon=False, fontsize=7, loc="best")
        axes[0].set_ylabel(f"{metric} ({REPORTED[metric][0]})")
        captioned(figure, [*about(setting, trials), *_beside(setting, beside)])
    return figure


def _beside(setting: Setting, beside: Sequence[Reference]) -> list[str]:
    """What the grid beside was run with."""
    if not beside:
        return []
    names = [name for name, _ in beside[0].labels if name not in setting.point]
    same = {name for name in names if len({dict(r.labels)[name] for r in beside}) == 1}
    fixed = ", ".join(f"{name} {dict(beside[0].labels)[name]}" for name in names if name in same)
    return [f"{setting.sweep.search.beside}: {len(beside)} cells of {len(beside[0].values)} seeds, all at {fixed}"]


def _selected(ax: Axes, setting: Setting, trials: Sequence[Tried], ends: tuple[float, float]) -> None:
    placed = [(t.second or 0.0, t) for t in trials]
    given_up = [(x, mean(t.selected)) for x, t in placed if t.outcome == "pruned" and t.selected]
    done = [(x, t.value) for x, t in placed if t.value is not None]
    _points(ax, given_up, "x", "0.6", "given up after fewer seeds", 14)
    _points(ax, done, "o", COLOURS[0], "a trial, mean of all its seeds", 18)
    best, chance = on_front(setting, trials), chances(setting, trials, reported=False)
    _stairs(ax, setting, [(t.second or 0.0, t.value or 0.0) for t in best], ends, f"{COLOURS[0]} -", "front")
    for t in best:
        said = f"{t.point.get('mask', t.number)}" + (f"\nP {chance[t.number]:.2f}" if t.number in chance else "")
        ax.annotate(
            said, (t.second or 0.0, t.value or 0.0), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=6
        )


def _reported(
    ax: Axes, setting: Setting, trials: Sequence[Tried], beside: Sequence[Reference], ends: tuple[float, float]
) -> None:
    truth = [(r.second, mean(r.values)) for r in beside]
    _points(ax, truth, "D", "0.6", f"a cell of {setting.sweep.search.beside}", 12)
    on = front([v for _, v in truth], setting.costs(x for x, _ in truth), smaller=setting.smaller)
    _stairs(ax, setting, sorted(p for p, is_on in zip(truth, on, strict=True) if is_on), ends, "0.45 --", "their front")
    again = [t for t in trials if t.reported]
    for i, t in enumerate(again):
        x, band = t.second or 0.0, seeds_interval(t.reported)
        if band:
            ax.plot(
                [x, x],
                [band.low, band.high],
                color=COLOURS[1],
                linewidth=1.4,
                label=None if i else "95% over seeds (t)",
            )
        ax.scatter([x + 0.05] * len(t.reported), t.reported, s=5, color=COLOURS[1], alpha=0.5, linewidths=0)
    points = sorted((t.second or 0.0, mean(t.reported)) for t in again)
    _points(ax, points, "s", COLOURS[1], "the search's front at fresh seeds", 24)


def _points(ax: Axes, placed: Sequence[tuple[float, float]], marker: str, colour: str, name: str, size: float) -> None:
    if placed:
        x, y = zip(*placed, strict=True)
        ax.scatter(x, y, size, marker=marker, color=colour, label=name, linewidths=0.9, zorder=3)


def _stairs(
    ax: Axes, setting: Setting, placed: Sequence[tuple[float, float]], ends: tuple[float, float], look: str, name: str
) -> None:
    """A line along which nothing better is known: it steps where a point begins, and goes on to the end."""
    second = setting.sweep.search.second
    smaller = second is None or second.smaller
    if placed:
        x, y = map(list, zip(*placed, strict=True))
        x, y = ([*x, ends[1]], [*y, y[-1]]) if smaller else ([ends[0], *x], [y[0], *y])
        colour, style = look.split()
        ax.step(x, y, style, where="post" if smaller else "pre", color=colour, linewidth=1.2, label=name)
