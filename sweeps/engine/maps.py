"""Figures of differences from the baseline as shades: a row for each line, a column for each x, the number in the cell.

The shade is the mean over seeds of the paired difference; the number has half of its 95% interval over seeds beside it,
and stands in bold where that interval leaves zero out. What else tells lines apart has panels of its own, because it has
baselines of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plm.curves import STYLE
from sweeps.engine.drawing import Panels
from sweeps.engine.panels import Placed, finish, grid, of_panel, place, title
from sweeps.engine.results import Arm

CELL = (0.95, 0.62)
"""Inches of a cell."""


def draw(panels: Panels, arms: Sequence[Arm]) -> Figure | None:
    """One figure of the arms of one model; None: it has no place for them."""
    placed = [one for one in place(panels, arms) if one.arm.is_baseline or one.arm.difference]
    if not placed:
        return None
    columns, _ = grid(panels, placed)
    rows = list(dict.fromkeys((of_panel(panels, one.arm)[1], one.key[0]) for one in placed))
    lines = list(dict.fromkeys(one.mark.line for one in placed))
    places = sorted({one.mark.x or 0.0 for one in placed})
    most = max(abs(_difference(one)) for one in placed) or 1.0
    size = (1.6 + CELL[0] * len(places) * len(columns), 1.4 + (0.5 + CELL[1] * len(lines)) * len(rows))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False, layout="constrained")
        for i, (row, own) in enumerate(rows):
            for j, task in enumerate(columns):
                here = [one for one in placed if of_panel(panels, one.arm) == (task, row) and one.key[0] == own]
                shades = _panel(axes[i][j], here, lines, places, most)
                setting = ", ".join(f"{axis} {value}" for axis, value in own)
                said = f"{title(panels, here, row)},\n{setting}" if own else title(panels, here, row)
                level = [arm for arm in arms if arm.is_baseline and of_panel(panels, arm) == (task, row)]
                level = [arm for arm in level if {*own} <= {*arm.point.items()}]
                axes[i][j].set_title(f"{said}; {_level(level)}", fontsize=9)
                axes[i][j].set_xticks(range(len(places)), [(panels.named or "{:g}".format)(x) for x in places])
                axes[i][j].set_xlabel(panels.label if i == len(rows) - 1 else "")
        figure.colorbar(shades, ax=axes, label="score minus the baseline's", shrink=0.7)
        finish(figure, panels, placed)
    return figure


def _panel(ax: Axes, here: Sequence[Placed], lines: list[str], places: list[float], most: float) -> Any:
    """The shades and numbers of one panel, the first line at the bottom."""
    values = np.full((len(lines), len(places)), np.nan)
    for one in here:
        y, x = lines.index(one.mark.line), places.index(one.mark.x or 0.0)
        assert np.isnan(values[y, x])  # two arms in one cell would be read as one
        values[y, x] = _difference(one)
        dark = abs(values[y, x]) > 0.6 * most
        ax.text(
            x, y, _said(one), ha="center", va="center", fontsize=6.5, color="white" if dark else "black",
            fontweight="bold" if _clear(one) else "normal",
        )  # fmt: skip
    shades = ax.imshow(values, cmap="RdBu", vmin=-most, vmax=most, aspect="auto", origin="lower")
    ax.set_yticks(range(len(lines)), lines)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return shades


def _level(baselines: Sequence[Arm]) -> str:
    """What the baseline of a panel scores."""
    means = [arm.estimate.mean for arm in baselines if arm.estimate]
    return f"baseline {means[0]:.3f}" if means else "no baseline"


def _difference(one: Placed) -> float:
    return one.arm.difference.mean if one.arm.difference else 0.0


def _said(one: Placed) -> str:
    if one.arm.difference is None:
        return "baseline"
    band = one.arm.difference.over_seeds
    half = f"\n±{(band.high - band.low) / 2:.3f}" if band else ""
    return f"{one.arm.difference.mean:+.3f}{half}"


def _clear(one: Placed) -> bool:
    band = one.arm.difference.over_seeds if one.arm.difference else None
    return bool(band) and (band.low > 0 or band.high < 0)  # type: ignore[union-attr]
