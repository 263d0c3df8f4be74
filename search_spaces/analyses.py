"""What is read of a training: which analyses, of which gold data, at which steps of which trainings."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.axis import Axis, Point, names

if TYPE_CHECKING:
    from plm.analyses import Analysis
    from plm.spec import RunSpec, Source
    from plm.trajectory import Trajectory

EACH, DENSE, LAST, USUAL, ALL, WORLD = "each", "dense", "last", "usual", "all", "world"
LOG = "log:"
"""Before a number of steps that lie at about equal distances on a log scale."""
SEED, SAME = "{seed}", "same"
"""Where the number of a pretraining seed stands in a trajectory; and the pretraining seed that is a run's own seed."""
NONE = "none"
"""No reference model: the training itself."""


def trajectories(*values: str) -> Axis:
    """An axis of trainings: recipes of ours, folders of checkpoints, or models on the hub with their steps."""
    return names(
        *values,
        form="a recipe's name, a spec.json of one still to be trained, a run's folder, a folder of folders named after "
        "their steps, or a hub id; {seed} in it stands for the pretraining seed",
    )


def analyses(*values: str) -> Axis:
    """An axis of analyses and their gold data."""
    return Axis(
        values,
        _parse_analysis,
        "NAME (of the generated language) or NAME:FILE, or each; NAME:FILE@field=value",
        _expand_analysis,
    )


def steps_of(*values: str | int) -> Axis:
    """An axis of steps of a training; it comes after those of the training and of its pretraining seed."""
    form = (
        "steps, from:to:stride, each (all that are kept, and dense of a recipe), dense (doubling first), log:8 (eight of "
        "those), or last"
    )
    return Axis(values, _parse_step, form, _expand_step)


def sizes(*values: str | int) -> Axis:
    """An axis of how many things are looked at; `usual` is what each analysis takes by itself."""
    return Axis(
        values, _parse_size, "whole numbers (of sentences, of pairs a paradigm ...), usual, or all", _expand_size
    )


def pretraining_seeds(*values: int | str) -> Axis:
    """An axis of pretraining seeds beside that of a run's own; `same` ties the two."""
    from search_spaces.seeds import seeds

    def parse(text: str) -> tuple[int | str, ...]:
        return (SAME,) if text == SAME else seeds(1).parse(text)

    return Axis(
        values, parse, f"whole numbers, a range such as 0:3, or {SAME} (each seed has a pretraining of its own)"
    )


def references(*values: str) -> Axis:
    """An axis of models that a training is held against, after the training itself."""

    def parse(text: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys((NONE, *known.parse(text))))

    known = names(NONE, *values, form="a recipe's name, a hub id, or a local folder")
    return Axis(known.values, parse, known.form)


@functools.lru_cache(maxsize=64)  # asked for at each step of each training
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
    """A training that is known before it is done, by a recipe of ours or a file, with a pretraining seed."""
    import dataclasses

    from plm.recipes import NAMED
    from plm.spec import Seeds

    if trajectory in NAMED:
        run = NAMED[trajectory]()
    elif trajectory.endswith(".json") and Path(trajectory).is_file():
        run = _written(trajectory)
    else:
        return None
    return dataclasses.replace(run, seeds=Seeds(fresh=seed, order=seed, noise=seed))


@functools.lru_cache(maxsize=64)  # asked for at each of its steps
def _written(file: str) -> RunSpec:
    from plm.spec import RunSpec

    try:
        return RunSpec.from_json(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def _trajectory(trajectory: str, seed: int) -> Trajectory:
    """A training by folder or hub id; of a run of ours with all steps that it was told to keep, reached or not."""
    if SEED not in trajectory and seed:
        raise ValueError(
            f"seed {seed} of {trajectory}: it is one training. Write {SEED} where the number of its seed stands in its "
            "name, or ask for seed=0."
        )
    where = trajectory.replace(SEED, str(seed))
    inside = Path(where).expanduser()
    parts = [inside / name for name in ("", "attempts", "checkpoints", "refs")]
    return _found(where, tuple(tuple(sorted(os.listdir(part))) for part in parts if part.is_dir()))


@functools.lru_cache(maxsize=64)
def _found(where: str, there: tuple[tuple[str, ...], ...]) -> Trajectory:
    """As `_trajectory`; `there` is what lies in its folder, which may grow while somebody trains."""
    from plm.trajectory import trajectory

    found = trajectory(where)
    attempt = found.run.last_attempt() if found.run else None
    kept = (attempt or {}).get("keep")
    return trajectory(where, steps=kept) if kept else found


def _parse_analysis(text: str) -> tuple[str, ...]:
    from plm.names import parted
    from plm.registry import names as known
    from plm.registry import unknown

    name, _, data = text.partition(":")
    if name not in known("analyses") and text != EACH:
        raise unknown("analysis", name, [EACH, *known("analyses")])
    data, *fields = parted(data, "@")
    paths = [Path(part).expanduser() for part in parted(data, "+")] if data else []
    parts = [str(path.resolve()) if path.exists() else str(path) for path in paths]
    return (f"{name}:{'@'.join(['+'.join(parts), *fields])}" if parts else text,)


def _expand_analysis(value: str, point: Point) -> tuple[str, ...]:
    from plm.registry import names as known

    if ":" not in value and not _of_the_world(point):
        raise ValueError(
            f"analysis {value} of {point['trajectory']}: say on which gold data, as in reconstruction:path/to/data. "
            "(Only trainings on the generated language are read on it by themselves.)"
        )
    return tuple(known("analyses")) if value == EACH else (value,)


def _of_the_world(point: Point) -> bool:
    """Whether a training is one of ours on the generated language."""
    from plm.data.corpus import Corpus
    from plm.data.world import World
    from plm.spec import RunSpec

    trajectory, seed = point["trajectory"], pretraining_seed(point)
    run = _recipe(trajectory, seed)
    folder = None if run else _trajectory(trajectory, seed).run
    if folder:
        run = RunSpec.from_json((folder.get("spec.json") or b"").decode())
    data = run and run.data
    return isinstance(data, Corpus) and all(isinstance(text, World) for text in data.texts)


def _parse_step(text: str) -> tuple[str | int, ...]:
    from plm.trajectory import schedule

    if text.startswith(LOG):
        if not text.removeprefix(LOG).isdecimal() or int(text.removeprefix(LOG)) < 2:
            raise ValueError(f"{text!r} is not a number of steps: write {LOG}8, for instance; two at least.")
        return (text,)
    return (text,) if text in (EACH, DENSE, LAST) else schedule(text)


def _expand_step(value: str | int, point: Point) -> tuple[int | None, ...]:
    """The steps; None: a reference model is read as it is."""
    if point.get("reference", NONE) != NONE:
        return (None,)
    if isinstance(value, int):
        return (value,)
    return tuple(_symbolic(value, point["trajectory"], pretraining_seed(point)))


def _symbolic(step: str, trajectory: str, seed: int) -> Sequence[int]:
    from plm.trajectory import dense_early

    run = _recipe(trajectory, seed)
    there = dense_early(run.total_steps) if run else _trajectory(trajectory, seed).steps
    if not there:
        raise ValueError(f"{trajectory} has no checkpoint yet, and nobody has said which steps it will keep.")
    if step == DENSE:
        wanted = dense_early(max(1, there[-1]))
        return [one for one in there if one in wanted]
    return {EACH: there, LAST: there[-1:]}.get(step) or spaced(there, int(step.removeprefix(LOG)))


def spaced(there: Sequence[int], count: int) -> list[int]:
    """So many of some steps, the first and the last among them, at about equal distances on a log scale."""
    if len(there) <= count:
        return list(there)
    chosen = {there[0], there[-1]}
    while len(chosen) < count:  # the step that is farthest from all chosen ones, as long as there are too few
        rest = [step for step in there if step not in chosen]
        chosen.add(max(rest, key=lambda step: min(abs(math.log1p(step) - math.log1p(one)) for one in chosen)))
    return sorted(chosen)


def pretraining_seed(point: Point) -> int:
    """The seed of the training that a point is about: its own axis, if there is one, else `seed`."""
    seed = point.get("pretraining_seed", SAME)
    return int(point["seed"] if seed == SAME else seed)


def _parse_size(text: str) -> tuple[str | int, ...]:
    if text in (USUAL, ALL):
        return (text,)
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"{text!r} is not a size: write a positive whole number, {USUAL} or {ALL}.")
    return (int(text),)


def _expand_size(value: str | int, point: Point) -> tuple[str | int, ...]:
    from plm.registry import member

    return (member("analyses", point["analysis"].partition(":")[0]).usual if value == USUAL else value,)  # type: ignore[attr-defined]
