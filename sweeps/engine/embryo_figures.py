"""Figures of what grows when, over a log axis of steps: each class beside its baseline, all classes rescaled, their order,
and all analyses of a training at a glance.

Trainings differ in colour and dash, classes in colour, dash and marker; step 0 stands left of step 1.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plm.covariates import ADJUSTED
from plm.curves import COLOURS, MARKERS, STYLE
from plm.store import Store
from sweeps.engine.embryo import CLEAR, LEVELS, Curve, Growth
from sweeps.engine.embryo_tables import (
    baseline,
    baseline_said,
    by_analysis,
    by_number,
    caption,
    count,
    floor_said,
    ordered,
    reached,
    short,
)
from sweeps.engine.figures import DASHES, captioned, headed, legend, put

WIDTH, HEIGHT, ACROSS = 2.3, 1.9, 5
"""Inches of a small panel, and how many stand beside each other."""
MOST = 14
"""Lines that one panel can hold; of more classes those that have most rows."""
WRAPPED = 44
"""Characters of a line of a page's legend."""
STEP = "pretraining step (log scale)"
SAYS = {ADJUSTED: "share right, frequency, surprise and class size taken off"}
"""Families whose name does not say what they are."""


def save(
    name: str, found: Sequence[Growth], ever: Sequence[Growth],
    beside: Mapping[str, Mapping[str, Mapping[int, float]]], store: Store,
) -> list[str]:  # fmt: skip
    """Draw and write all figures; their keys in the store.

    Args:
        found: What is asked for now.
        ever: What was ever, of the same trainings: each of them has a page for all that is known of it.
        beside: Training -> task -> step -> score, of what was fine-tuned from the same models.
    """
    keys: list[str] = []
    groups = by_analysis(found)
    short = [analysis.partition(",")[0] for analysis in groups]
    for analysis, growths in groups.items():
        first, *_ = analysis.partition(",")
        of = re.sub(r"[:, ]+", "-", first if short.count(first) == 1 else analysis)
        kinds = dict.fromkeys(kind for growth in growths for kind in growth.kinds)
        for kind in kinds:
            apart = f"-{kind}" if kind and len(kinds) > 1 else ""
            keys += put(classes(growths, kind), name, of, f"classes{apart}", store)
            if growths[0].member.unit:  # a share of things that are right, which has a plateau
                keys += put(order(growths, kind), name, of, f"order{apart}", store)
                if any(growth.names(ADJUSTED) for growth in growths):
                    keys += put(order(growths, kind, ADJUSTED), name, of, f"order{apart}-{ADJUSTED}", store)
        for family in growths[0].member.curves[1:]:
            if any(growth.names(family) for growth in growths):
                keys += put(several(growths, family), name, of, family, store)
    for training in dict.fromkeys(growth.training for growth in ever):
        own = [
            growth for growth in ever if growth.training == training and growth.kinds and not growth.member.anecdotal
        ]
        if own:
            keys += put(glance(own, beside.get(training, {})), name, training.replace("/", "--"), "glance", store)
    return keys


def classes(growths: Sequence[Growth], kind: str) -> Figure:
    """A panel a class that any training has: its curve, its band, and what scores as much without it."""
    having = _having(growths, kind)
    names = list(having)
    across = min(ACROSS, len(names))
    down = -(-len(names) // across)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            down, across, figsize=(3.4 + WIDTH * across, 1.5 + HEIGHT * down), sharex=True, sharey=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for ax, name in zip(axes.flat, names, strict=False):
            for i, growth in enumerate(growths):
                if name in growth.names(growth.member.curves[0]):
                    _class(ax, growth, name, i, beside=growth is having[name])
            ax.set_title(
                " ".join(filter(None, (short(name), f"(n {n})" if (n := count(having[name], name)) else ""))),
                fontsize=8,
            )
            over_steps(ax, _last(growths))
        for i, ax in enumerate(axes.flat):
            ax.set_visible(i < len(names))
            ax.tick_params(labelbottom=i + across >= len(names))
        figure.supylabel(growths[0].member.curves[0], fontsize=9)
        figure.supxlabel(STEP, fontsize=9)
        _finish(figure, list(axes.flat[: len(names)]), growths)
    return figure


def _having(growths: Sequence[Growth], kind: str) -> dict[str, Growth]:
    """The classes of a kind in the order of the first training that has each, and that training."""
    found: dict[str, Growth] = {}
    for growth in growths:
        for name in ordered(growth, kind) if kind in growth.kinds else ():
            found.setdefault(name, growth)
    return found


def _class(ax: Axes, growth: Growth, name: str, i: int, *, beside: bool) -> None:
    """One training's curve of a class; `beside`: and its baseline."""
    colour, dash = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
    ax.plot(growth.steps, growth.curve(name), color=colour, linestyle=dash, linewidth=1.5, label=growth.training)
    if band := growth.band(name):
        ax.fill_between(growth.steps, *band, color=colour, alpha=0.2, linewidth=0)
    single = f"single/{short(name)}"
    if single in growth.names("single"):
        ax.plot(
            growth.steps, growth.curve(single), color=colour, linestyle=":", linewidth=1,
            label=f"{growth.training}, words of one piece",
        )  # fmt: skip
    if beside and (level := baseline(growth, name)) is not None:
        ax.axhline(level, color="0.45", linewidth=0.9, dashes=(5, 3), label=baseline_said(growth))


def order(growths: Sequence[Growth], kind: str, family: str | None = None) -> Figure:
    """Beside each other for each training: all curves as shares of their last value, and when they pass levels of it.

    Args:
        family: Whose numbers of the classes are drawn; None: the first of the analysis. Their order stays that of the first.
    """
    names = _most(_having(growths, kind))
    tall = max(3.4, 1.5 + 0.25 * len(names))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(growths), 2, figsize=(10.5, 0.9 + tall * len(growths)), squeeze=False, layout="constrained"
        )
        for (left, right), growth in zip(axes, growths, strict=True):
            own = [name for name in names if name in growth.kinds.get(kind, ())]
            if family is not None:
                own = [one for name in own if (one := f"{family}/{short(name)}") in growth.names(family)]
            looks = {short(name): _look(i) for i, name in enumerate(names)}  # a class's, in each training
            for name in own:
                curve = rescaled(growth.curve(name), growth.floor(name))
                left.plot(growth.steps, curve, label=short(name), **looks[short(name)])
            left.axhline(1.0, color="0.7", linewidth=0.8)
            floor = growth.member.floor
            said = f"from {floor_said(growth)} (0) to the last (1)"
            left.set_ylabel(said if floor else "share of the last step's value")
            left.set_title(", ".join([growth.training, *filter(None, [SAYS.get(family or "")])]), fontsize=9)
            left.set_ylim(-0.2 if floor else 0, 1.3)
            over_steps(left, _last(growths))
            left.set_xlabel(STEP)
            _dots(right, growth, own)
            over_steps(right, _last(growths))
            right.set_xlabel(STEP)
        axes[0][0].legend(*legend(list(axes[:, 0])), fontsize=7, frameon=False, ncols=2, loc="upper left")
        _finish(figure, [], growths)
    return figure


def _dots(ax: Axes, growth: Growth, names: Sequence[str]) -> None:
    """When each class passes each share of its plateau; an arrow: not by the last step."""
    last = growth.steps[-1]
    ax.plot([], [], color="0.4", linestyle="", marker=">", markersize=4, markerfacecolor="white", label="not reached")
    for level, marker, colour in zip(LEVELS, "o^s", ("#1b3a5c", "#3f7d58", "#c8553d"), strict=True):
        ax.plot([], [], color=colour, linestyle="", marker=marker, markersize=4, label=f"{level:.0%} of plateau")
        for y, name in enumerate(names):
            crossing = growth.risen(name, level)
            at = y + 0.22 * (level - LEVELS[1]) / 0.3
            x = last if crossing.step is None else crossing.step
            ends = (crossing.low, crossing.high)
            if name in growth.resampled:
                ax.plot([last if e is None else e for e in ends], [at, at], color=colour, linewidth=1, alpha=0.6)
            ax.plot(
                [x], [at], color=colour, linestyle="", marker=marker if crossing.step is not None else ">", markersize=4,
                markerfacecolor=colour if crossing.step is not None else "white",
            )  # fmt: skip
    ax.set_yticks(range(len(names)), [short(name) for name in names])
    ax.invert_yaxis()
    ax.grid(axis="y", color="0.93")
    ax.set_axisbelow(True)
    ax.legend(fontsize=7, frameon=False, loc="lower left")
    ax.set_title("when it is reached for good (bars: 95%)", fontsize=9)


def several(growths: Sequence[Growth], family: str) -> Figure:
    """A row of panels a training, a panel for each kind of classes, a line for each number of a family."""
    found = [_by_kind(growth, family) for growth in growths]
    kinds = list(dict.fromkeys(kind for each in found for kind in each))
    across, down = len(kinds), len(growths)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            down, across, figsize=(0.8 + 4.6 * across, 1.3 + 3.0 * down), sharex=True, sharey=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for ax, ((growth, named_by_kind), kind) in zip(
            axes.flat, product(zip(growths, found, strict=True), kinds), strict=True
        ):
            names = named_by_kind.get(kind, [])
            shown, said = _commonest(growth, names)
            for i, name in enumerate(shown):
                ax.plot(growth.steps, growth.curve(name), label=short(name).removeprefix(f"{kind}/"), **_look(i))
            named = [growth.training] * (down > 1 or not kind)
            ax.set_title(", ".join(filter(None, [*named, kind, said])), fontsize=9)
            over_steps(ax, _last(growths))
            if names:
                ax.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        figure.supylabel(SAYS.get(family, family), fontsize=9)
        for ax in axes[-1]:
            ax.set_xlabel(STEP)
        _finish(figure, [], growths, drawn=False)
    return figure


def _by_kind(growth: Growth, family: str) -> dict[str, list[str]]:
    """A family's names by the kind of their class, in the order of their numbers; that of no class is among the first."""
    kind_of = {short(name): kind for kind, names in growth.kinds.items() for name in names}
    first = next(iter(growth.kinds), "")
    found: dict[str, list[str]] = {}
    for name in growth.names(family):
        found.setdefault(first if "/" not in name else kind_of.get(short(name), first), []).append(name)
    return {kind: sorted(names, key=by_number) for kind, names in found.items()}


def glance(growths: Sequence[Growth], beside: Mapping[str, Mapping[int, float]]) -> Figure:
    """One page of a training: when each ability comes, fine-tuning's scores among them; below, what is no ability."""
    able = {f"{growth.analysis} ({growth.member.curves[0]}": _whole(growth) for growth in growths if growth.member.unit}
    able |= {f"{task} (score": (tuple(scores), np.array(list(scores.values()))) for task, scores in beside.items()}
    others = [growth for growth in growths if growth.member.unit is None]
    heights = [3.6] * bool(able) + [1.3] * len(others)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(heights), 1, figsize=(10.2, 1.2 + sum(heights)), sharex=True, squeeze=False, layout="constrained",
            height_ratios=heights,
        )  # fmt: skip
        if able:
            _gains(axes[0][0], able)
        for ax, growth in zip(axes[bool(able) :, 0], others, strict=True):
            _range(ax, growth)
        for ax in axes.flat:
            over_steps(ax, _last(growths))
        axes[-1][0].set_xlabel(STEP)
        handles, labels = legend(list(axes.flat))
        labels = [textwrap.fill(label, WRAPPED) for label in labels]  # long names would leave no room for the curves
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=7.5)
        headed(figure, f"{growths[0].training}: when each ability comes")
        rows = ", ".join(f"{growth.analysis} {growth.rows:,}" for growth in growths)
        captioned(figure, [f"in brackets the value at the first step and at the last; rows a step: {rows}"])
    return figure


def _whole(growth: Growth) -> tuple[tuple[int, ...], Curve]:
    """Steps, and one number for all of an analysis: that of no class, or the mean over classes."""
    family = growth.member.curves[0]
    names = [family] if family in growth.names(family) else growth.names(family)
    return growth.steps, np.mean([growth.curve(name) for name in names], axis=0)


def _gains(ax: Axes, curves: Mapping[str, tuple[Sequence[int], Curve]]) -> None:
    """Each curve from 0 at the first step to 1 at the last; of one that does not rise only the name."""
    for i, (name, (steps, curve)) in enumerate(curves.items()):
        gain, label = curve[-1] - curve[0], f"{name} {curve[0]:.2f} to {curve[-1]:.2f})"
        if len(steps) < 2:
            ax.plot([], [], linestyle="", label=f"{name} {curve[0]:.2f}): read at step {steps[0]:,} alone")
        elif gain < CLEAR:
            said = "falls" if gain <= -CLEAR else "hardly rises"
            ax.plot([], [], linestyle="", label=f"{label}: {said}")
        else:
            ax.plot(steps, (curve - curve[0]) / gain, label=label, **_look(i))
    ax.axhline(1.0, color="0.7", linewidth=0.8)
    ax.set_ylim(-0.2, 1.3)
    ax.set_ylabel("share of the gain from first to last step")


def _range(ax: Axes, growth: Growth) -> None:
    """The mean of an analysis over its layers or heads, and from the least to the greatest."""
    family = growth.member.curves[0]
    names = growth.names(family)
    each, layer = np.array([growth.curve(name) for name in names]), " layers" * ("layer_" in names[0])
    ax.plot(growth.steps, each.mean(0), color="0.2", linewidth=1.3)
    ax.fill_between(growth.steps, each.min(0), each.max(0), color="0.2", alpha=0.15, linewidth=0)
    ax.set_title(
        f"{growth.analysis}: {family}, mean of {len(each)}{layer} (shaded: least to greatest)", fontsize=8, loc="left"
    )


def rescaled(curve: Curve, floor: float = 0.0) -> Curve:
    """A curve from 0 at its floor to 1 at the last step (Chiang et al. 2020, plot_pos.py -r, where the floor is zero).

    Where it ends hardly above its floor there is nothing to draw.
    """
    gain = curve[-1] - floor
    return (curve - floor) / gain if gain > (CLEAR if floor else 0) else np.full(len(curve), math.nan)


def _most(having: Mapping[str, Growth]) -> list[str]:
    """As many classes as a panel can hold: those that are reached, of most rows."""
    worth = {name: (reached(growth, name) is None, -float(count(growth, name) or 0)) for name, growth in having.items()}
    most = sorted(having, key=worth.__getitem__)[:MOST]
    return [name for name in having if name in most]


def _commonest(growth: Growth, names: Sequence[str]) -> tuple[list[str], str]:
    """As many names as a panel can hold, those of no class and of most rows, and which of how many; all, if it holds them."""
    if len(names) <= MOST:
        return list(names), ""
    counts = {name: float(count(growth, name) or 0) for name in names}
    most = sorted(names, key=lambda name: ("/" in name, -counts[name]))[:MOST]
    said = f"the {MOST} of most words of {len(names)}" if any(counts.values()) else f"the first {MOST} of {len(names)}"
    return [name for name in names if name in most], said


def _look(i: int) -> dict[str, Any]:
    return {
        "color": COLOURS[i % len(COLOURS)],
        "linestyle": DASHES[i // len(COLOURS) % len(DASHES)],
        "marker": MARKERS[i % len(MARKERS)],
        "markersize": 3.5,
        "linewidth": 1.2,
    }


def _last(growths: Sequence[Growth]) -> int:
    return max(growth.steps[-1] for growth in growths)


def over_steps(ax: Axes, last: int) -> None:
    """A log axis that has room for step 0."""
    powers = [10**k for k in range(int(math.log10(max(last, 1))) + 1)]
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    ax.set_xticks([0, *powers], ["0", *(f"{p:,}" for p in powers)])
    ax.set_xlim(-0.1, last * 1.15)
    ax.minorticks_off()
    ax.grid(axis="x", color="0.94")
    ax.set_axisbelow(True)


def _finish(figure: Figure, axes: Sequence[Axes], growths: Sequence[Growth], *, drawn: bool = True) -> None:
    """Legend, title and caption, with what intervals are of where they are drawn."""
    if axes:
        handles, labels = legend(axes)
        where: Any = "outside right upper" if len(axes) > 1 else "outside right center"  # where the title is the widest
        figure.legend(handles, labels, loc=where, frameon=False, fontsize=7.5)
    others = ", ".join(f"{axis} {value}" for axis, value in growths[0].rest)
    headed(figure, growths[0].analysis + f" ({others})" * bool(others))
    lines = [(f"{g.training}: " if len(growths) > 1 else "") + "; ".join(caption(g)[: 1 + drawn]) for g in growths]
    captioned(figure, lines)
