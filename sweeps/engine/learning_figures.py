"""Perplexity by step: a line an arm with the spread of its seeds, its teacher as a level, and where it passes that.

Below it how far each arm is from its control, seed by seed: what a teacher does early is much less than what is learned
meanwhile. Distances on the axis of perplexity are nats. Lines differ in marker and dash as well as in colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from plm.curves import COLOURS, MARKERS, STYLE
from plm.store import Store
from sweeps.engine.figures import DASHES, captioned, legend, put
from sweeps.engine.learning import (
    BUDGETS,
    ENDS,
    EVALUATIONS,
    LOGARITHMIC,
    MOMENTS,
    SCORED,
    Line,
    Panel,
    caption,
    passes,
)
from sweeps.engine.stats import seeds_interval

WIDTH, HEIGHT, BELOW, LEGEND = 4.2, 3.6, 2.2, 2.2
ACROSS = 3
"""Panels beside each other, at most."""
WIDE = 50
"""A range of perplexities in which powers of ten alone are marked."""
NEAR = 0.1
"""Nats up to which differences stand to scale where others are larger than one."""
X = {
    EVALUATIONS: "optimizer steps",
    BUDGETS: "optimizer steps of the whole run",
    MOMENTS: "optimizer steps of the pretraining",
    ENDS: "optimizer steps of the whole pretraining",
}


def save(sweep: str, panels: Sequence[Panel], store: Store) -> list[str]:
    """Draw and write a figure for each way of reading; their keys in the store."""
    keys: list[str] = []
    for over in dict.fromkeys(panel.over for panel in panels):
        keys += put(draw([panel for panel in panels if panel.over == over]), sweep, "all", f"learning-{over}", store)
    return keys


def draw(panels: Sequence[Panel]) -> Figure:
    """The panels, three in a row, below each its differences."""
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    below = any(_apart(panel, line)[0] for panel in panels for line in panel.lines)
    heights = [HEIGHT, BELOW] if below else [HEIGHT]
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(heights) * down, across, figsize=(LEGEND + WIDTH * across, sum(heights) * down), squeeze=False,
            height_ratios=heights * down, layout="constrained",
        )  # fmt: skip
        rows = [_shared(axes[i :: len(heights)], len(panels)) for i in range(len(heights))]
        for i, panel in enumerate(panels):
            if below:
                rows[0][i].sharex(rows[1][i])
                rows[0][i].tick_params(labelbottom=False)
            for line in panel.lines:
                _line(rows[0][i], line, names.index(line.name), panel.over)
                if below:
                    _difference(rows[1][i], panel, line, names.index(line.name))
            rows[-1][i].set_xlabel(X[panel.over])
        for ax, panel in zip(rows[0], panels, strict=True):
            _frame(ax, panel, len(panels) > 1)
        if below:
            _frame_below(rows[1], panels[0].over)
        of_tasks = panels[0].over in SCORED
        said = "score on the evaluation split" if of_tasks else "perplexity on the evaluation split (log scale)"
        for ax in rows[0][::across]:
            ax.set_ylabel(said)
        for ax in rows[1][::across] if below else ():
            ax.set_ylabel("score above the control" if of_tasks else "nats above the control")
        handles, labels = legend(rows[0])
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
        crosses = "" if of_tasks else "; crosses: as good as the teacher"
        apart = "; below: 95% over seeds (t) of the difference from the control of the same seed" * below
        captioned(figure, [caption(panels[0])[0], f"bands: lowest to highest seed{crosses}{apart}"])
    return figure


def _shared(axes: np.ndarray, count: int) -> list[Axes]:
    """So many axes in the order of reading, with one scale; what is left of the last row is taken away."""
    for ax in axes.flat[count:]:
        ax.remove()
    shown = list(axes.flat[:count])
    for i, ax in enumerate(shown[1:], 1):
        ax.sharey(shown[0])
        ax.tick_params(labelleft=i % axes.shape[1] == 0)
    return shown


def _line(ax: Axes, line: Line, number: int, over: str) -> None:
    """One arm."""
    height = np.negative if over in SCORED else np.exp
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    tracks = list(line.tracks.values())
    steps = [step for step in tracks[0].steps if all(step in track.steps for track in tracks)]
    losses = np.array([[dict(zip(t.steps, t.losses, strict=True))[step] for step in steps] for t in tracks])
    ax.plot(
        steps, height(losses.mean(0)), color=colour, marker=marker, markersize=4, linewidth=1.6,
        linestyle=DASHES[number % len(DASHES)], label=f"{line.name} (n = {len(tracks)})",
        markerfacecolor="white" if line.is_control else colour,
    )  # fmt: skip
    ax.fill_between(steps, height(losses.min(0)), height(losses.max(0)), color=colour, alpha=0.15, linewidth=0)
    for level in dict.fromkeys(t.teacher for t in tracks if t.teacher is not None):
        ax.axhline(exp(level), color="0.45", linewidth=0.9, dashes=(1, 2), label="a teacher's perplexity")
    found = [(passes(track, logarithmic=over in LOGARITHMIC), track.teacher) for track in tracks]
    crossed = [(at.step, level) for at, level in found if at and level is not None and not at.bound]
    if crossed:
        ax.plot(
            [step for step, _ in crossed], [exp(level) for _, level in crossed], "x", color=colour, markersize=7,
            markeredgewidth=1.6,
        )  # fmt: skip


def _apart(panel: Panel, line: Line) -> tuple[list[float], np.ndarray]:
    """The steps that all pairs share, and how far a line is above its control there, a row a seed."""
    both = [[dict(zip(t.steps, t.losses, strict=True)) for t in pair] for pair in panel.pairs(line)]
    steps = sorted(set.intersection(*(ours.keys() & theirs.keys() for ours, theirs in both))) if both else []
    sign = -1 if panel.over in SCORED else 1
    return steps, sign * np.array([[ours[step] - theirs[step] for step in steps] for ours, theirs in both])


def _difference(ax: Axes, panel: Panel, line: Line, number: int) -> None:
    """How far a line is above its control: the mean over seeds, and where there are several its interval."""
    steps, apart = _apart(panel, line)
    if not steps:
        return
    colour = COLOURS[number % len(COLOURS)]
    ax.plot(
        steps, apart.mean(0), color=colour, marker=MARKERS[number % len(MARKERS)], markersize=4, linewidth=1.6,
        linestyle=DASHES[number % len(DASHES)],
    )  # fmt: skip
    bands = [seeds_interval(column.tolist()) for column in apart.T]
    known = [(step, band) for step, band in zip(steps, bands, strict=True) if band]
    if known:
        at, low, high = zip(*((step, band.low, band.high) for step, band in known), strict=True)
        ax.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)


def _frame_below(axes: Sequence[Axes], over: str) -> None:
    low, high = axes[0].get_ylim()
    far = over not in SCORED and max(-low, high) > 1  # one arm that is far off would flatten all others
    for ax in axes:
        if far:
            ax.set_yscale("symlog", linthresh=NEAR)
            ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.axhline(0, color="0.3", linewidth=0.9)
        ax.grid(axis="y", color="0.92")
        ax.set_axisbelow(True)


def _frame(ax: Axes, panel: Panel, titled: bool) -> None:
    if panel.over not in SCORED:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if high < WIDE * low else (1,)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.grid(axis="y", color="0.92")
    ax.set_axisbelow(True)
    if titled:
        ax.set_title(panel.title, fontsize=9)
