"""Figures of several tasks: a column a task, a row for what else is set beside, arms where a `Panels` places them.

Every mean has its seeds as points and its 95% interval; how many seeds a point has stands in the legend, how many runs
and how much computing in the caption. Lines differ in marker and dash as well as in shade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from plm.curves import COLOURS, MARKERS, STYLE
from plm.store import Store
from sweeps.engine.drawing import Mark, Panels
from sweeps.engine.figures import DASHES, GUESS, captioned, headed, legend, put, subject
from sweeps.engine.results import Arm, cost, fixed, metric_of

Setting = tuple[tuple[str, Any], ...]
"""The axes that tell lines apart, each with its value."""
Key = tuple[Setting, str]
"""And the line's own name."""
Line = tuple[Key, int]
"""And whether it is a control."""
WIDTH, HEIGHT, LEGEND = 3.6, 3.3, 2.6
"""Inches of a panel, and of the room beside them."""
DODGE = 0.035
"""How far lines stand aside, so that their intervals do not hide each other."""
CAPTIONS = {
    "lines": "small points: seeds; bars and bands: 95% over seeds (t), cut at the frame",
    "seeds": "small points: seeds; bars and bands: 95% over seeds (t), cut at the frame",
    "violins": "a point is the mean of an arm over its seeds; bands: 95% over seeds (t), cut at the frame",
    "map": "±: half of the 95% interval over seeds (t); bold: it leaves zero out",
}


@dataclass(frozen=True)
class Placed:
    """An arm with a finished seed, at one of its places."""

    arm: Arm
    mark: Mark
    key: Key
    control: int
    """0: no control."""

    @property
    def n(self) -> int:
        """Finished seeds."""
        return len(self.arm.seeds)


@dataclass(frozen=True)
class Look:
    """How a line is drawn, and what the legend calls it."""

    name: str
    colour: str
    marker: str
    dash: str | tuple[int, tuple[int, ...]]
    aside: float
    """How far it stands from its x."""
    room: float
    """How wide it may be."""


def save(name: str, drawn: Sequence[Panels], found: Sequence[Arm], store: Store) -> list[str]:
    """Draw and write each figure for each model; their keys in the store."""
    from sweeps.engine.maps import draw as draw_map

    keys: list[str] = []
    for model in dict.fromkeys(arm.point.get("model", "") for arm in found):
        for panels in drawn:
            arms = [arm for arm in found if arm.point.get("model", "") == model and arm.estimate]
            figure = (draw_map if panels.kind == "map" else draw)(panels, arms)
            if figure is not None:
                keys += put(figure, name, subject(str(model), ""), panels.name, store)
    return keys


def draw(panels: Panels, arms: Sequence[Arm]) -> Figure | None:
    """One figure of the arms of one model; None: it has no place for them."""
    placed = place(panels, arms)
    if not placed:
        return None
    columns, rows = grid(panels, placed)
    looks = _looks(panels, placed)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(rows), len(columns), figsize=(LEGEND + WIDTH * len(columns), 0.7 + HEIGHT * len(rows)), sharex=True,
            sharey="col", squeeze=False, layout="constrained",
        )  # fmt: skip
        for i, row in enumerate(rows):
            for j, task in enumerate(columns):
                here = [one for one in placed if of_panel(panels, one.arm) == (task, row)]
                _panel(axes[i][j], panels, here, looks)
                _ticks(axes[i][j], panels, [one.mark.x for one in placed if one.mark.x is not None])
                axes[i][j].set_title(title(panels, here, row if len(rows) > 1 else ()), fontsize=9)
            axes[i][0].set_ylabel("score on the evaluation split")
        for ax in axes[-1]:
            ax.set_xlabel(panels.label)
        for ax, task in zip(axes[0], columns, strict=True):
            _limit(ax, [one for one in placed if of_panel(panels, one.arm)[0] == task])
        handles, labels = legend(list(axes.flat))
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=7.5)
        finish(figure, panels, placed)
    return figure


def place(panels: Panels, arms: Sequence[Arm]) -> list[Placed]:
    """Where each finished arm stands. A control that is the very run of an arm beside it is left out."""
    marked = [(arm, mark) for arm in arms if arm.estimate for mark in panels.place(arm.point)]
    own = _own(panels, marked)
    controls = list(dict.fromkeys(arm.point[panels.control] for arm in arms)) if panels.control else []
    found: list[Placed] = []
    seen: set[tuple[Any, ...]] = set()
    for arm, mark in marked:
        control = controls.index(arm.point[panels.control]) if panels.control else 0
        key = (tuple((axis, arm.point[axis]) for axis in own), mark.line)
        if (where := (key, mark.x, *of_panel(panels, arm), arm.runs)) not in seen:
            seen.add(where)
            found.append(Placed(arm, mark, key, control))
    return found


def _own(panels: Panels, marked: Sequence[tuple[Arm, Mark]]) -> list[str]:
    """The axes that tell lines apart: those that vary within a line that does not go along them.

    And whatever else tells two arms apart that would stand at one place: only of a violin is a place many arms'.
    """
    control = None if panels.kind == "map" else panels.control  # a shade cannot be dashed
    lines: dict[Any, dict[tuple[str, ...], Arm]] = {}
    places: dict[Any, dict[tuple[str, ...], Arm]] = {}
    for arm, mark in marked:
        lines.setdefault(mark.line, {}).setdefault(arm.runs, arm)
        if panels.kind != "violins" or mark.x is None:
            where = (mark, arm.point[control] if control else None, *of_panel(panels, arm))
            places.setdefault(where, {}).setdefault(arm.runs, arm)

    def varies(axis: str) -> bool:
        groups = places if axis in panels.reads else lines
        return any(len({arm.point[axis] for arm in group.values()}) > 1 for group in groups.values())

    shown = {"model", "task", control, *panels.beside}
    return [axis for axis in (marked[0][0].point if marked else ()) if axis not in shown and varies(axis)]


def of_panel(panels: Panels, arm: Arm) -> tuple[str, tuple[Any, ...]]:
    """The column and the row of an arm's panel."""
    return str(arm.point.get("task", "")), tuple(arm.point[axis] for axis in panels.beside)


def grid(panels: Panels, placed: Sequence[Placed]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The columns and the rows."""
    where = [of_panel(panels, one.arm) for one in placed]
    return list(dict.fromkeys(task for task, _ in where)), list(dict.fromkeys(row for _, row in where))


def title(panels: Panels, here: Sequence[Placed], row: tuple[Any, ...]) -> str:
    """What a panel is of."""
    first = here[0].arm if here else None
    said = [f"{first.point.get('task', '')} ({metric_of(first)})"] if first else ["nothing finished"]
    return ", ".join([*said, *(f"{axis} {value}" for axis, value in zip(panels.beside, row, strict=False))])


def finish(figure: Figure, panels: Panels, placed: Sequence[Placed]) -> None:
    """The title and the caption."""
    arms = list({id(one.arm): one.arm for one in placed}.values())
    headed(figure, str(arms[0].point.get("model", "")))
    same = ", ".join(f"{axis} {value}" for axis, value in fixed(arms).items() if axis not in ("model", "task"))
    counts = {one.n for one in placed}
    seeds = f"n = {min(counts)} seeds everywhere" if len(counts) == 1 else "n: seeds of each point"
    captioned(figure, [same, f"{CAPTIONS[panels.kind]}; {seeds}", cost(arms)])


def _looks(panels: Panels, placed: Sequence[Placed]) -> dict[Line, Look]:
    """How each line and level looks: lines differ in colour and marker, levels in dash, controls are open and dashed."""
    groups: dict[Line, list[Placed]] = {}
    for one in placed:
        groups.setdefault((one.key, one.control), []).append(one)
    levels = [key for key, _ in groups if all(one.mark.x is None for one in placed if one.key == key)]
    alike = list(dict.fromkeys(key for key, _ in groups if key not in levels))
    settings = list(dict.fromkeys(own for (own, _), _ in groups))
    found: dict[Line, Look] = {}
    beside = [line for line in groups if line[0] not in levels]
    step = 0.85 / max(1, len(beside)) if panels.kind == "seeds" else DODGE
    for (key, control), ones in groups.items():
        i = (levels if key in levels else alike).index(key)
        colour = COLOURS[i % len(COLOURS)]
        if key in levels:
            colour = COLOURS[settings.index(key[0]) % len(COLOURS)] if key[0] else "0.2"
        found[key, control] = Look(
            name=_name(ones, panels, placed),
            colour=colour,
            marker=MARKERS[(i + i // len(COLOURS)) % len(MARKERS)],  # a pair of colour and marker returns late
            dash=DASHES[(2 * i + control if key in levels else control) % len(DASHES)],
            aside=0.0 if key in levels else step * (beside.index((key, control)) - (len(beside) - 1) / 2),
            room=0.9 * step,
        )
    return found


def _panel(ax: Axes, panels: Panels, here: Sequence[Placed], looks: dict[Line, Look]) -> None:
    for line, look in looks.items():
        own = [one for one in here if (one.key, one.control) == line]
        for level in (one for one in own if one.mark.x is None):
            _level(ax, level, look)
        points = sorted((one for one in own if one.mark.x is not None), key=lambda one: one.mark.x or 0.0)
        if points:
            {"lines": _line, "seeds": _seeds, "violins": _violin}[panels.kind](ax, points, look)
    for guess in {one.arm.guess for one in here if one.arm.guess is not None}:
        ax.axhline(guess, label="commonest label", **GUESS)
    ax.grid(axis="y", color="0.92")
    ax.set_axisbelow(True)


def _limit(ax: Axes, column: Sequence[Placed]) -> None:
    """Show what was scored: intervals of two or three seeds may reach far beyond, and are cut at the frame."""
    values = [value for one in column if one.arm.estimate for value in one.arm.estimate.values]
    values += [one.arm.guess for one in column if one.arm.guess is not None]
    room = max(0.35 * float(np.ptp(values)), 0.02)
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, min(values) - room), min(high, max(values) + room, 1.03))  # no score is above 1


def _ticks(ax: Axes, panels: Panels, places: Sequence[float]) -> None:
    if panels.named:
        there = sorted(set(places))
        ax.set_xticks(there, [panels.named(x) for x in there])
    elif all(float(x).is_integer() for x in places):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _name(ones: Sequence[Placed], panels: Panels, everywhere: Sequence[Placed]) -> str:
    """A line of the legend; how many seeds its points have, where not all points of the figure have as many."""
    own, line = ones[0].key
    said = [*([line] if line else []), *(f"{axis} {value}" for axis, value in own)]
    if panels.control and ones[0].control:
        said.append(f"{panels.control} {ones[0].arm.point[panels.control]}")
    counts = {one.n for one in ones}
    seeds = f" (n={min(counts)}{f' to {max(counts)}' if len(counts) > 1 else ''})"
    return ", ".join(said) + (seeds if len({one.n for one in everywhere}) > 1 else "")


def _level(ax: Axes, one: Placed, look: Look) -> None:
    """A mean across the panel, with its interval."""
    assert one.arm.estimate is not None
    width, band = 0.8 if one.control else 1.3, one.arm.estimate.over_seeds
    ax.axhline(_mean(one), color=look.colour, linestyle=look.dash, linewidth=width, label=look.name)
    if band and not one.control:
        ax.axhspan(band.low, band.high, color=look.colour, alpha=0.1, linewidth=0)


def _line(ax: Axes, points: Sequence[Placed], look: Look) -> None:
    """Means joined by a line, each with its interval and its seeds."""
    control = points[0].control
    places = [(one.mark.x or 0.0) + look.aside for one in points]
    ax.plot(
        places, [_mean(one) for one in points], color=look.colour, marker=look.marker, markersize=5, label=look.name,
        linewidth=1.0 if control else 1.6, linestyle=look.dash, markerfacecolor="white" if control else look.colour,
    )  # fmt: skip
    for x, one in zip(places, points, strict=True):
        _spread(ax, x, one, look, np.zeros(one.n))


def _seeds(ax: Axes, points: Sequence[Placed], look: Look) -> None:
    """Each seed a point beside its mean, which has its interval."""
    face = "none" if points[0].control else look.colour
    for one in points:
        x = (one.mark.x or 0.0) + look.aside
        places = np.linspace(-0.5, 0.5, one.n) * look.room if one.n > 1 else np.zeros(1)
        _spread(ax, x, one, look, places, size=12, face=face)
        ends = [x - look.room / 2, x + look.room / 2]
        ax.plot(ends, [_mean(one)] * 2, color=look.colour, linewidth=1.8, linestyle=look.dash)
    ax.plot([], [], color=look.colour, marker=look.marker, markersize=4, linestyle=look.dash, label=look.name, mfc=face)


def _violin(ax: Axes, points: Sequence[Placed], look: Look) -> None:
    """The spread of the arms of a line, each arm a point."""
    for x in dict.fromkeys(one.mark.x or 0.0 for one in points):
        means, at = [_mean(one) for one in points if (one.mark.x or 0.0) == x], x + look.aside
        if len(means) > 1 and np.ptp(means) > 0:
            body = ax.violinplot(means, positions=[at], widths=0.5, showextrema=False)["bodies"][0]  # type: ignore[index]
            body.set(facecolor=look.colour, alpha=0.2, edgecolor="none")
        places = at + np.linspace(-0.1, 0.1, len(means)) * (len(means) > 1)  # beside each other: some score the same
        ax.scatter(places, means, s=16, c=look.colour, alpha=0.7, lw=0, marker=look.marker, label=look.name)


def _spread(ax: Axes, x: float, one: Placed, look: Look, beside: Any, size: float = 5, face: str | None = None) -> None:
    """The seeds of a point, and its interval."""
    assert one.arm.estimate is not None
    values, band, hollow = one.arm.estimate.values, one.arm.estimate.over_seeds, face == "none"
    ax.scatter(
        x + beside, values, s=size, alpha=0.5, linewidths=0.7 * hollow, marker=look.marker,
        facecolors=face or look.colour, edgecolors=look.colour,
    )  # fmt: skip
    if band:
        ax.plot([x, x], [band.low, band.high], color=look.colour, linewidth=0.9, alpha=0.5 if one.control else 0.9)


def _mean(one: Placed) -> float:
    assert one.arm.estimate is not None
    return one.arm.estimate.mean
