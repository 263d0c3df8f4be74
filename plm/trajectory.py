"""Trajectories: which steps of a training are kept, and the checkpoints of one training in order.

A schedule is only numbers, a tuple of steps in order. A `Trajectory` says where the weights of each step are: in a run
of ours, in local folders, or in revisions on the hub. Naming a place reads nothing; `source` gives the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from plm.spec import Checkpoint, RunSpec, Source

if TYPE_CHECKING:
    from plm.store import RunFolder, Store

STEP_NAME = re.compile(r"(?:^|(?<![a-z])(?:step|checkpoint|ckpt|iter)[-_]?)(\d+)(k?)$")
"""How folders and revisions are named after their step: a number, or a name that ends in one; `20k` is 20,000."""

# ---------------------------------------------------------------------------------------------------------------------
# Schedules


def dense_early(last: int, *, dense: int = 512, every: int = 1000) -> tuple[int, ...]:
    """Steps 0, 1, 2, 4, ... doubling up to `dense`, then the multiples of `every`, and the last step.

    Raises:
        ValueError: a number that is not positive.
    """
    if min(last, dense, every) < 1:
        raise ValueError(f"dense_early({last}, dense={dense}, every={every}): the three must be at least 1.")
    doubling = [2**power for power in range(dense.bit_length()) if 2**power <= min(dense, last)]
    first = (dense // every + 1) * every
    return tuple(sorted({0, *doubling, *range(first, last, every), last}))


def intervals(pairs: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """Steps from 0 on: every so many until a step, then at the next pair's distance, each end included.

    Args:
        pairs: (every, until), such as ((10, 100), (100, 1000)).

    Raises:
        ValueError: a distance below 1, or ends that do not rise.
    """
    kept, begin = {0}, 0
    for every, until in pairs:
        if every < 1 or until <= begin:
            raise ValueError(f"every {every} until {until}, after step {begin}: distances are positive and ends rise.")
        kept |= {*range(begin, until, every), until}
        begin = until
    return tuple(sorted(kept))


def schedule(text: str, *, last: int | None = None) -> tuple[int, ...]:
    """Read a schedule: numbers, `A,...,B` (doubling from A to B) and `A:B:S` (from A to at most B in strides of S).

    `0,1,...,512,1000:10000:1000` is dense early and sparse late. `last` stands for the last step where that is known.

    Raises:
        ValueError: not of that form; a doubling that misses its end; `last` where it is not known.
    """
    parts, steps = [part.strip() for part in text.split(",")], set()
    for position, part in enumerate(parts):
        if part == "...":
            if not 0 < position < len(parts) - 1:
                raise _unreadable(text, "`...` stands between two steps")
            steps |= _doubling(_step(parts[position - 1], text, last), _step(parts[position + 1], text, last))
        elif ":" in part:
            if part.count(":") != 2:
                raise _unreadable(text, f"{part!r} is not from:to:stride")
            begin, end, stride = (_step(number, text, last) for number in part.split(":"))
            if stride < 1 or end < begin:
                raise _unreadable(text, f"{part!r} has no steps")
            steps |= set(range(begin, end + 1, stride))
        else:
            steps.add(_step(part, text, last))
    return tuple(sorted(steps))


def _step(number: str, text: str, last: int | None) -> int:
    if number == "last" and last is not None:
        return last
    if number == "last":
        raise _unreadable(text, "the last step is not known here: write its number")
    if not number.isascii() or not number.isdigit():
        raise _unreadable(text, f"{number!r} is not a step")
    return int(number)


def _doubling(begin: int, end: int) -> set[int]:
    steps = {begin}
    while begin and max(steps) < end:
        steps.add(2 * max(steps))
    if end not in steps:
        raise ValueError(f"{begin},...,{end}: doubling from {begin} does not meet {end}.")
    return steps


def _unreadable(text: str, why: str) -> ValueError:
    return ValueError(
        f"schedule {text!r}: {why}. Write steps, doublings and strides, such as 0,1,...,512,1000:10000:1000."
    )


# ---------------------------------------------------------------------------------------------------------------------
# Trajectories


@dataclass(frozen=True)
class Revision:
    """A repository on the hub at one revision; naming it fetches nothing."""

    repo: str
    revision: str | None = None
    """A branch, tag or commit; None: its main branch."""

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


Place: TypeAlias = Checkpoint | Path | Revision


@dataclass(frozen=True)
class Trajectory:
    """The checkpoints of one training, in the order of its steps. Make one with `plm.trajectory`."""

    name: str
    places: tuple[tuple[int, Place], ...]
    """(step, where its weights are), by rising step; a place may turn out to be empty."""
    expected: tuple[int, ...] | None = None
    """The steps that should be there; None: no schedule is known."""
    tokens_per_step: int | None = None
    """Input tokens of one optimizer step, where known."""
    run: RunFolder | None = None
    """The folder of the run of ours that the places are moments of."""

    def __post_init__(self) -> None:
        for (before, one), (step, other) in zip(self.places, self.places[1:], strict=False):
            if before == step:
                raise ValueError(f"{self.name} has step {step} twice: {one} and {other}. Leave one out.")
            assert before < step, self.places

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[tuple[int, Source]]:
        """(step, model), fetched one by one."""
        return ((step, self.source(step)) for step in self.steps)

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(step for step, _ in self.places)

    def source(self, step: int) -> Source:
        """The model at a step, to be loaded, changed, or learnt from; one on the hub is downloaded.

        Raises:
            ValueError: the trajectory has no such step, or there is no model at its place.
        """
        from plm.external import external

        place = dict(self.places).get(step)
        if place is None:
            raise ValueError(f"{self.name} has no step {step}; it has {', '.join(map(str, self.steps)) or 'none'}.")
        if isinstance(place, Revision):
            return external(place.repo, revision=place.revision)
        return external(str(place)) if isinstance(place, Path) else place

    def tokens(self, step: int) -> int | None:
        """Input tokens seen by a step, where known."""
        return None if self.tokens_per_step is None else step * self.tokens_per_step


def trajectory(
    where: RunSpec | str | Path | Sequence[str | Path],
    steps: Iterable[int] | None = None,
    *,
    store: str | Path | Store = "./runs",
    tokens_per_step: int | None = None,
) -> Trajectory:
    """The trajectory of a run, of local folders, or of a model on the hub.

    Args:
        where: A run of ours; or its folder; a folder of folders named after their steps (`step_00000512`, `step1000`,
            `checkpoint-500`, `...-step_20k`), or a list of such; a repository as the hub's client keeps it
            (`models--owner--model`, with `refs` and `snapshots`); a hub id whose branches are steps; a hub id with
            `{step}` in its name (`google/multiberts-seed_0-step_{step}k`, which needs `steps`) or in its revision
            (`owner/model@step{step}-*`, where `*` is any text). A `k` after it means thousands.
        steps: The steps that should be there; None: those that are, and of a run those that it was told to keep.
        store: Where the run is.
        tokens_per_step: Input tokens of one optimizer step, of a model trained elsewhere.

    Raises:
        ValueError: nothing there is named after a step, or a step is there twice.
    """
    expected = None if steps is None else tuple(sorted(set(steps)))
    if isinstance(where, RunSpec):
        from plm.store import Store

        return _of_run(where, Store.at(store).run(where), expected)
    if not isinstance(where, str | Path):
        return _of_folders([Path(path) for path in where], expected, tokens_per_step)
    path = Path(where).expanduser()
    if (path / "spec.json").is_file():
        return _of_run_folder(path.resolve(), expected)
    if (path / "refs").is_dir() and (path / "snapshots").is_dir():
        return _of_copy(path.resolve(), expected, tokens_per_step)
    if path.is_dir():
        inside = [p for p in sorted(path.iterdir()) if p.is_dir() and STEP_NAME.search(p.name.lower())]
        if not inside:
            raise ValueError(f"{path} holds no folder that is named after a step, such as step_00000512.")
        return _of_folders(inside, expected, tokens_per_step)
    if str(where).startswith((".", "/", "~")):
        raise ValueError(f"there is no folder {str(where)!r}. A trajectory is a folder, or a model on the hub.")
    return _of_hub(str(where), expected, tokens_per_step)


def step_of(name: str) -> int:
    """The step that a folder or revision is named after.

    Raises:
        ValueError: none.
    """
    found = STEP_NAME.search(name.lower())
    if not found:
        raise ValueError(f"{name!r} does not say its step: names end like step_00000512, step1000 or checkpoint-500.")
    return int(found[1]) * (1000 if found[2] else 1)


def _of_run(spec: RunSpec, folder: RunFolder, expected: tuple[int, ...] | None) -> Trajectory:
    there = tuple(step_of(name) for name in folder.store.list(f"{folder.key}/checkpoints"))
    if expected is None:
        last = folder.last_attempt() or {}
        reached = spec.total_steps + 1 if folder.get("DONE") is not None else last.get("step", 0)
        expected = tuple(step for step in last.get("keep", ()) if step < reached) or None
    places = tuple((step, spec.at(step)) for step in sorted({*there, *(expected or ())}))
    return Trajectory(spec.run_id, places, expected, spec.batch_size * spec.seq_len, folder)


def _of_run_folder(path: Path, expected: tuple[int, ...] | None) -> Trajectory:
    from plm.store import RunFolder, Store

    if path.parent.name != "runs":
        raise ValueError(f"{path} is a run's folder outside a store (<store>/runs/<run id>): give its checkpoints.")
    try:
        spec = RunSpec.from_json((path / "spec.json").read_text())
    except (ValueError, OSError) as error:  # an OSError: it names a model's folder that has moved since
        raise ValueError(
            f"{path}/spec.json: {error} Its checkpoints alone can be given: {path}/checkpoints."
        ) from error
    if spec.run_id != path.name:
        raise ValueError(f"{path} holds the run {spec.run_id}: the folder was renamed. Give it its name back.")
    return _of_run(spec, RunFolder(Store(path.parents[1]), path.name), expected)


def _of_folders(folders: list[Path], expected: tuple[int, ...] | None, tokens_per_step: int | None) -> Trajectory:
    if not folders:
        raise ValueError("a trajectory of no folders: give at least one.")
    places = sorted(((step_of(p.name), p.resolve()) for p in folders), key=lambda place: place[0])
    if expected is not None:
        places = [place for place in places if place[0] in expected]
    parent = folders[0].resolve().parent
    name = parent.name if all(p.resolve().parent == parent for p in folders) else folders[0].name
    return Trajectory(name, tuple(places), expected, tokens_per_step)


def _of_copy(path: Path, expected: tuple[int, ...] | None, tokens_per_step: int | None) -> Trajectory:
    """A local copy of a repository: `refs/<branch>` holds a commit, whose files lie in `snapshots/<commit>`."""
    refs = [ref for ref in sorted((path / "refs").rglob("*")) if ref.is_file()]
    commits = {ref: path / "snapshots" / ref.read_text().strip() for ref in refs if STEP_NAME.search(ref.name.lower())}
    places = sorted((step_of(ref.name), folder) for ref, folder in commits.items())
    if not places:
        raise ValueError(
            f"{path}: of its revisions ({', '.join(ref.name for ref in refs) or 'none'}) none is named after a step, such "
            "as step1000."
        )
    if expected is not None:
        places = [place for place in places if place[0] in expected]
    name = path.name.removeprefix("models--").replace("--", "/")
    return Trajectory(name, tuple(places), expected, tokens_per_step)


def _of_hub(pattern: str, expected: tuple[int, ...] | None, tokens_per_step: int | None) -> Trajectory:
    repo, _, revision = pattern.partition("@")
    if "{step}" in repo:
        places = [(step, Revision(_filled(repo, step), revision or None)) for step in expected or ()]
        if not places:
            raise ValueError(f"{pattern}: which steps there are cannot be listed; say them.")
        return Trajectory(pattern, tuple(places), expected, tokens_per_step)
    found = [(step, Revision(repo, name)) for name, step in _named_after_steps(_branches(repo), revision)]
    if not found:
        raise ValueError(f"{repo} has no revision that is named after a step like {revision or 'step1000'}.")
    if expected is not None:
        found = [place for place in found if place[0] in expected]
    return Trajectory(pattern, tuple(sorted(found, key=lambda place: place[0])), expected, tokens_per_step)


def _filled(pattern: str, step: int) -> str:
    """A name with its step; thousands where `k` follows."""
    if "{step}k" in pattern and step % 1000:
        raise ValueError(f"{pattern}: step {step} is not a number of thousands.")
    return pattern.replace("{step}k", f"{step // 1000}k").replace("{step}", str(step))


def _named_after_steps(names: list[str], pattern: str) -> Iterator[tuple[str, int]]:
    """(name, step) of those that a pattern fits; without one, of those that end like a step."""
    if pattern and "{step}" not in pattern:
        raise ValueError(f"revision {pattern!r}: write {{step}} where the step stands.")
    fits = re.compile(re.escape(pattern).replace(r"\{step\}", r"(\d+)").replace(r"\*", ".*")) if pattern else None
    for name in names:
        found = fits.fullmatch(name) if fits else None
        if found:
            yield name, int(found[1]) * (1000 if "{step}k" in pattern else 1)
        elif not fits and STEP_NAME.search(name.lower()):
            yield name, step_of(name)


def _branches(repo: str) -> list[str]:
    from huggingface_hub import HfApi

    try:
        return [branch.name for branch in HfApi().list_repo_refs(repo).branches]
    except Exception as error:  # the hub's client raises a different type for each way of not being there
        raise ValueError(
            f"the revisions of {repo} could not be had from the hub ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}). Without a network, give local folders."
        ) from error
