"""Learning curves of pretraining runs: perplexity on the evaluation split, beside what n-grams reach.

Runs are lines with markers, references dashes without; every line has its own of either, so that a print in black and
white can be read. The axis of perplexity is logarithmic, so that equal distances are equal nats.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from plm.store import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES = {"steps": ("step", "optimizer steps"), "tokens": ("train/tokens", "tokens seen")}
METRIC = "val/perplexity"
COLOURS = ("#1b3a5c", "#c8553d", "#3f7d58", "#8a6f9e", "#7a7a7a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ((6, 3), (1, 2), (6, 2, 1, 2), (10, 4), (3, 1, 1, 1, 1, 1))
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "plm",
    "svg.fonttype": "none",
}


def points(run: RunFolder, x: str = "steps") -> list[tuple[float, float]]:
    """(steps or tokens seen, perplexity) at each evaluation of a run so far, ascending.

    Raises:
        ValueError: another x, or a run that was not evaluated as a language model.
    """
    if x not in AXES:
        raise ValueError(f"x {x!r}: a curve is drawn against {' or '.join(AXES)}.")
    found = sorted((line[AXES[x][0]], line[METRIC]) for line in run.metrics() if METRIC in line)
    if not found:
        raise ValueError(f"{run.where} has no {METRIC} yet: only language models that were evaluated have a curve.")
    return found


def draw(runs: Mapping[str, RunFolder], references: Mapping[str, float] | None = None, *, x: str = "steps") -> Figure:
    """Draw the curves of some runs by label, and the perplexity of each reference as a level line.

    Args:
        references: Nats per predicted token by label, from `plm.reference.ngram_nats`.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, StrMethodFormatter
    from numpy import exp

    lines = {label: points(run, x) for label, run in runs.items()}
    with rc_context(STYLE):
        figure = Figure(figsize=(6.8, 3.8), layout="constrained")
        ax = figure.subplots()
        for i, (label, line) in enumerate(lines.items()):
            look: dict[str, Any] = {
                "color": COLOURS[i % len(COLOURS)],
                "marker": MARKERS[i % len(MARKERS)],
                "markersize": 4,
            }
            ax.plot(*zip(*line, strict=True), label=f"{label} ({_short(line[-1][1])})", linewidth=1.4, **look)
        for i, (label, nats) in enumerate((references or {}).items()):
            level = float(exp(nats))
            dashes = (0, DASHES[i % len(DASHES)])
            ax.axhline(level, color="#444444", linewidth=1, linestyle=dashes, label=f"{label} ({_short(level)})")
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.4g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_major_formatter(EngFormatter(sep=" ") if x == "tokens" else StrMethodFormatter("{x:,.0f}"))
        ax.set_xlim(left=0)
        ax.set_xlabel(AXES[x][1])
        ax.set_ylabel("perplexity on the evaluation split")
        figure.legend(loc="outside right upper", frameon=False)
    return figure


def _short(perplexity: float) -> str:
    return f"{perplexity:,.0f}" if perplexity >= 100 else f"{perplexity:.3g}"


def image(figure: Figure, kind: str) -> bytes:
    """A figure as the bytes of a `png` or `svg` file; the same figure, the same bytes."""
    from matplotlib import rc_context

    sink = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(sink, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return sink.getvalue()
