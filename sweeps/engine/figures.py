"""Figures of a sweep's answers, one for each model and task.

Every line carries its seeds as points and its interval as a band; lines differ in marker and dash as well as in shade, so
that a black-and-white print can be read.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from plm.curves import COLOURS, MARKERS, STYLE, image
from plm.metrics import METRICS
from plm.store import Store, sha256
from sweeps.engine.plan import Plan
from sweeps.engine.record import folder
from sweeps.engine.results import Arm, caption, headline, panels
from sweeps.engine.sweep import Curve

DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (9, 3)), (0, (7, 1, 1, 1, 1, 1)))
GUESS: dict[str, Any] = {"color": "0.5", "linestyle": (0, (1, 4)), "linewidth": 1.2}
"""What guessing scores: a dash that no level has."""
CHARACTERS = 17
"""Of a caption, on an inch."""


def save(plan: Plan, found: Sequence[Arm], store: Store) -> list[str]:
    """Draw and write the figures; their keys in the store."""
    keys = []
    for (model, task), panel in panels(found):
        if plan.sweep.curve is None or not any(arm.estimate for arm in panel):
            continue
        keys += put(draw(plan.sweep.curve, panel), plan.sweep.name, subject(model, task), "curve", store)
    return keys


def subject(model: str, task: str) -> str:
    """The name of the folder with the figures of a model and a task; a sweep may have neither axis."""
    return "-".join(filter(None, (model, task))) or "all"


def put(figure: Figure, sweep: str, of: str, name: str, store: Store) -> list[str]:
    """Write a figure of something as png and svg, and close it; the keys in the store."""
    keys = [f"{folder(sweep)}/figures/{_short(of)}/{name}.{kind}" for kind in ("png", "svg")]
    for key in keys:
        store.put(key, image(figure, key.rpartition(".")[2]))
    plt.close(figure)
    return keys


def _short(of: str) -> str:
    """A folder's name; filesystems take 255 bytes."""
    name = of.replace("/", "--")
    return name if len(name.encode()) <= 200 else f"{name[:45]}-{sha256(of.encode())[:12]}"


def draw(curve: Curve, panel: Sequence[Arm]) -> Figure:
    """One figure: a subplot for each value of the axis drawn beside, a line for each value of the line axis."""
    beside = _values(panel, curve.beside)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(beside), figsize=(3.4 + 4.2 * len(beside), 4.2), sharey=True, squeeze=False, layout="constrained"
        )
        for ax, value in zip(axes[0], beside, strict=True):
            _subplot(ax, curve, [arm for arm in panel if _value(arm, curve.beside) == value])
            if len(beside) > 1:
                ax.set_title(str(value), fontsize=9)
        if (
            panel[0].metric in METRICS and axes[0][0].get_ylim()[1] > 1.03
        ):  # no score is above 1, though an interval may reach beyond
            axes[0][0].set_ylim(top=1.03)
        axes[0][0].set_ylabel(f"{panel[0].metric} on the evaluation split")
        handles, labels = legend(axes[0])
        figure.legend(handles, labels, loc="outside right upper", frameon=False)
        first = panel[0].point
        headed(figure, headline(str(first.get("model", "")), str(first.get("task", ""))))
        lines = caption(panel)
        captioned(figure, [lines[0], lines[1] + "; bands: 95% over seeds (t)", *lines[3:]])
    return figure


def _values(arms: Sequence[Arm], axis: str | None) -> list[Any]:
    """The values of an axis among some arms; one None where there is no such axis."""
    return list(dict.fromkeys(_value(arm, axis) for arm in arms))


def _value(arm: Arm, axis: str | None) -> Any:
    return None if axis is None else arm.point[axis]


def headed(figure: Figure, title: str) -> None:
    """Give a figure its title, on the left, where no legend is."""
    figure.suptitle(title, fontsize=10, x=0.02, ha="left")


def captioned(figure: Figure, lines: Sequence[str]) -> None:
    """Write a caption below a figure, in lines that are no wider."""
    room = int(figure.get_figwidth() * CHARACTERS)
    figure.supxlabel("\n".join(part for line in lines for part in textwrap.wrap(line, room)), fontsize=7)


def legend(axes: Sequence[Axes]) -> tuple[list[Artist], list[str]]:
    """What the legend of several panels says, each line once."""
    found = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    return list(found.values()), list(found)


def _subplot(ax: Axes, curve: Curve, arms: Sequence[Arm]) -> None:
    apart = (curve.axis, curve.control, curve.beside, "model", "task")
    own = [axis for axis in arms[0].point if axis not in apart and (axis == curve.line or len(_values(arms, axis)) > 1)]
    controls = _values(arms, curve.control)
    width = max(curve.position(a.point[curve.axis]) for a in arms) - min(
        curve.position(a.point[curve.axis]) for a in arms
    )
    for i, line in enumerate(dict.fromkeys(tuple(a.point[axis] for axis in own) for a in arms)):
        name = ", ".join(f"{axis} {value}" for axis, value in zip(own, line, strict=True))
        for j, control in enumerate(controls):
            chosen = [
                (curve.position(arm.point[curve.axis]) + 0.015 * j * width, arm)
                for arm in arms
                if arm.estimate
                and tuple(arm.point[axis] for axis in own) == line
                and _value(arm, curve.control) == control
            ]
            if chosen:
                chosen.sort(key=lambda placed: placed[0])
                _line(ax, chosen, name if len(controls) == 1 else f"{name}, {curve.control} {control}", i, j)
    for guess in {a.guess for a in arms if a.guess is not None}:
        ax.axhline(guess, label="commonest label", **GUESS)
    ax.set_xlabel(curve.label)
    if all(curve.position(arm.point[curve.axis]).is_integer() for arm in arms):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", color="0.92")
    ax.set_axisbelow(True)


def _line(ax: Axes, placed: Sequence[tuple[float, Arm]], name: str, line: int, control: int) -> None:
    """One line with its seeds; the first control has a band, and a thin line at the height of its baseline."""
    colour, marker = COLOURS[line % len(COLOURS)], MARKERS[line % len(MARKERS)]
    found = [(x, arm, arm.estimate) for x, arm in placed if arm.estimate]
    ax.plot(
        [x for x, *_ in found],
        [estimate.mean for *_, estimate in found],
        color=colour,
        marker=marker,
        markersize=5,
        linewidth=1.0 if control else 1.6,
        linestyle=DASHES[control % len(DASHES)],
        label=name,
        markerfacecolor="white" if control else colour,
    )
    for x, _, estimate in found:
        ax.scatter(
            [x] * len(estimate.values), estimate.values, s=5, color=colour, alpha=0.5, linewidths=0, marker=marker
        )
    if control:
        return
    bands = [(x, band) for x, _, estimate in found if (band := estimate.over_seeds)]
    low, high = [band.low for _, band in bands], [band.high for _, band in bands]
    ax.fill_between([x for x, _ in bands], low, high, color=colour, alpha=0.15, linewidth=0)
    for _, arm, estimate in found:
        if arm.is_baseline:
            ax.axhline(estimate.mean, color=colour, linewidth=0.7, alpha=0.6, dashes=(8, 4))
