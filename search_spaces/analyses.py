"""What is read of a training: which analyses, of which gold data, at which steps of which trainings."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.axis import Axis, Point, Suited, names, suited

if TYPE_CHECKING:
    from plm.analyses import Analysis
    from plm.spec import RunSpec, Source
    from plm.trajectory import Trajectory

EACH, DENSE, LAST, USUAL, ALL, WORLD = "each", "dense", "last", "usual", "all", "world"
SEED = "{seed}"
"""Where the number of a pretraining seed stands in a trajectory."""


def trajectories(*values: str) -> Axis:
    """An axis of trainings: recipes of ours, folders of checkpoints, or models on the hub with their steps."""
    return names(
        *values,
        form="a recipe's name, a run's folder, a folder of folders named after their steps, or a hub id; {seed} in it "
        "stands for the pretraining seed",
    )


def analyses(*values: str | Suited) -> Axis:
    """An axis of analyses and their gold data."""
    return Axis(values, _parse_analysis, "NAME (of the generated language) or NAME:FILE, or each", _expand_analysis)


def steps_of(*values: str | int | Suited) -> Axis:
    """An axis of steps of a training."""
    return Axis(
        values,
        _parse_step,
        "steps, from:to:stride, each (all that are kept), dense (doubling first) or last",
        _expand_step,
    )


def sizes(*values: str | int) -> Axis:
    """An axis of how many things are looked at; `usual` is what each analysis takes by itself."""
    return Axis(
        values, _parse_size, "whole numbers (of sentences, of pairs a paradigm ...), usual, or all", _expand_size
    )


def read_by(analysis: str, size: int | str) -> Analysis:
    """An analysis by its name and gold data, the world's if it names none."""
    from plm.analyses import analysis as found

    name, _, data = analysis.partition(":")
    return found(name, data or WORLD, size=None if size == ALL else int(size))


def moment_of(trajectory: str, step: int, seed: int) -> Source:
    """The model at a step of the training with a pretraining seed.

    Raises:
        ValueError: there is no such training or step; or it says nothing of seeds, and one other than 0 is asked for.
    """
    run = _recipe(trajectory, seed)
    return run.at(step) if run else _trajectory(trajectory, seed).source(step)


def _recipe(trajectory: str, seed: int) -> RunSpec | None:
    """A recipe of ours with a pretraining seed."""
    import dataclasses

    from plm.recipes import NAMED
    from plm.spec import Seeds

    if trajectory not in NAMED:
        return None
    return dataclasses.replace(NAMED[trajectory](), seeds=Seeds(fresh=seed, order=seed, noise=seed))


@functools.lru_cache(maxsize=64)
def _trajectory(trajectory: str, seed: int) -> Trajectory:
    from plm.trajectory import trajectory as found

    if SEED not in trajectory and seed:
        raise ValueError(
            f"seed {seed} of {trajectory}: it is one training. Write {SEED} where the number of its seed stands in its "
            "name, or ask for seed=0."
        )
    return found(trajectory.replace(SEED, str(seed)))


def _parse_analysis(text: str) -> tuple[str, ...]:
    from plm.registry import names as known
    from plm.registry import unknown

    name, _, data = text.partition(":")
    if name not in known("analyses") and text != EACH:
        raise unknown("analysis", name, [EACH, *known("analyses")])
    path = Path(data).expanduser()
    return (f"{name}:{path.resolve()}" if data and path.exists() else text,)


def _expand_analysis(value: str | Suited, point: Point) -> tuple[str, ...]:
    from plm.recipes import NAMED
    from plm.registry import names as known

    found = [one for name in suited_to(value, point) for one in (known("analyses") if name == EACH else [name])]
    for name in found:
        if ":" not in name and point["trajectory"] not in NAMED:
            raise ValueError(
                f"analysis {name} of {point['trajectory']}: say on which gold data, as in {name}:path/to/data. "
                "(Only recipes that learnt the generated language are read on it by themselves.)"
            )
    return tuple(found)


def _parse_step(text: str) -> tuple[str | int, ...]:
    from plm.trajectory import schedule

    if text in (EACH, DENSE, LAST):
        return (text,)
    return schedule(text)


def _expand_step(value: str | int | Suited, point: Point) -> tuple[int, ...]:
    from plm.trajectory import dense_early

    found: list[int] = []
    run = _recipe(point["trajectory"], 0)
    for step in suited_to(value, point):
        if isinstance(step, int):
            found.append(step)
            continue
        if run and step == EACH:
            raise ValueError(f"{point['trajectory']} is a recipe, which comes by every step: ask for step={DENSE}.")
        there = tuple(range(run.total_steps + 1)) if run else _trajectory(point["trajectory"], 0).steps
        wanted = {EACH: there, LAST: there[-1:], DENSE: dense_early(max(1, there[-1]))}[step]
        found += [one for one in wanted if one in there]
    return tuple(dict.fromkeys(found))


def _parse_size(text: str) -> tuple[str | int, ...]:
    if text in (USUAL, ALL):
        return (text,)
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"{text!r} is not a size: write a positive whole number, {USUAL} or {ALL}.")
    return (int(text),)


def _expand_size(value: str | int, point: Point) -> tuple[str | int, ...]:
    from plm.registry import member

    return (member("analyses", point["analysis"].partition(":")[0]).usual if value == USUAL else value,)  # type: ignore[attr-defined]


def suited_to(value: str | int | Suited, point: Point) -> tuple:
    """What a value stands for with the trajectory of a point."""
    return suited(value, {"model": point["trajectory"]})
