"""Whether a trajectory is what it says: which checkpoints are missing, damaged, copies, strangers, or misnamed.

Public trajectories have such defects (identical step 0 and step 1, the last step's shard in a middle one, whole stretches
that are the final model), and a study over them draws them as findings. Hashes and headers are asked first; where they do
not suffice, samples of the weights are compared with those of other steps. No model is built.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool

from plm import kinship
from plm.inventory import Seen, look
from plm.kinship import Relations
from plm.trajectory import Trajectory
from plm.verdict import Notes, Verdict, modules, some

FADED = 0.1
"""Matrices at an end of the series are judged if a correlation of this size would show in them."""
WHOLE = 0.7
"""The share of strange matrices from which the checkpoint as a whole is said not to belong."""
HOME = 1.2
"""Of copies, the first that lies no more than this much farther from its neighbours than the nearest is the original."""


def audit(trajectory: Trajectory, *, fetch: bool = False) -> Verdict:
    """Say which checkpoints of a trajectory are not what they should be.

    Args:
        fetch: Download checkpoints on the hub to compare their weights; else the hub is asked for hashes only.

    Raises:
        ValueError: the trajectory has no steps, or the hub cannot be asked.
    """
    if not trajectory.places and not trajectory.expected:
        raise ValueError(f"{trajectory.name} has no checkpoint to look at.")
    notes = Notes()
    _gaps(trajectory, notes)
    seen = [s for step, place in trajectory.places if (s := look(trajectory, step, place, notes, fetch))]
    _compare("tensors", [(s, tuple(sorted(s.layout.items()))) for s in seen if s.layout], notes, _layouts_differ)
    _compare("config", [(s, json.dumps(s.config, sort_keys=True)) for s in seen if s.config], notes, _configs_differ)
    compared = _relations(seen)
    originals = _whole_copies(seen, compared, notes)
    _shared_parts(originals, compared, notes)
    if compared:
        _strange(compared, [at for at, s in enumerate(compared.seen) if s in originals], notes)
    findings = notes.sorted()
    steps = tuple(sorted({*trajectory.steps, *(f.step for f in findings)}))
    return Verdict(trajectory.name, steps, findings, *(("weights", compared.moved()) if compared else ("hashes", {})))


def _gaps(trajectory: Trajectory, notes: Notes) -> None:
    """Steps that a schedule promises; without one, holes in a regular series of steps."""
    if trajectory.expected is not None:
        for step in sorted({*trajectory.expected} - {*trajectory.steps}):
            notes.add(step, "missing", "the schedule has it")
        return
    for before, after, steps in holes(trajectory.steps):
        for step in steps:
            notes.add(step, "missing", f"the steps around {before} and {after} are regular and would have it")


def holes(steps: tuple[int, ...]) -> list[tuple[int, int, tuple[int, ...]]]:
    """(before, after, what lies between) wherever steps that rise or double regularly leave some out.

    Where a schedule changes its pace, or ends, a gap can be meant; what may be meant is not called a hole.
    """
    gaps = [after - before for before, after in pairwise(steps)]
    ratios = [after / before if before else 0.0 for before, after in pairwise(steps)]
    found: list[tuple[int, int, tuple[int, ...]]] = []
    for at, (before, after) in enumerate(pairwise(steps)):
        if any(ratios[i : i + 3] == [r] * 3 for i, r in enumerate(ratios[: at + 1]) if r > 1 and i >= at - 2):
            continue  # it doubles along
        ratio = ratios[at - 1] if at else 0.0
        if ratio > 1 and ratios[at + 1 : at + 3] == [ratio] * 2 and ratios[at] == ratio**2:
            found.append((before, after, (int(before * ratio),)))
        elif gap := _regular(gaps, at, doubles=ratios[at] == 2):
            found.append((before, after, tuple(range(before + gap, after, gap))))
    return found


def _regular(gaps: list[int], at: int, *, doubles: bool) -> int | None:
    """The distance that a wider gap skips, if there is one that fits.

    Schedules are dense first, so a gap is no wider than those after it, but for the last, which may be cut short; and a
    pace is kept for more than one gap.
    """
    fitting = {*gaps[at + 1 : -1]}
    if 0 < at < len(gaps) - 1 and gaps[at] <= 3 * gaps[at - 1]:
        goes_on = gaps[-1] == gaps[at - 1]
        alone = not doubles and at > 1 and gaps[at - 2] == gaps[at - 1] and gaps[at] != gaps[at + 1]
        fitting |= {gaps[at - 1]} if goes_on or alone else set()
    return max((gap for gap in fitting if gap < gaps[at] and gaps[at] % gap == 0), default=None)


# ---------------------------------------------------------------------------------------------------------------------
# Whether they belong together


def _compare(what: str, of: list[tuple[Seen, Any]], notes: Notes, differ: Callable[[Any, Any], str]) -> None:
    """Checkpoints whose form is not that of the most."""
    if not of:
        return
    usual, count = Counter(form for _, form in of).most_common(1)[0]
    for seen, form in of:
        if form != usual:
            notes.add(seen.step, "different", f"{what} unlike those of {count} others: {differ(usual, form)}")
            seen.samples.clear()


def _layouts_differ(usual: Any, form: Any) -> str:
    one, other = dict(usual), dict(form)
    lacks, extra = sorted({*one} - {*other}), sorted({*other} - {*one})
    changed = [f"{n} is {other[n]}, not {one[n]}" for n in sorted({*one} & {*other}) if one[n] != other[n]]
    parts = [f"lacks {some(lacks)}" if lacks else "", f"has {some(extra)} too" if extra else "", some(changed)]
    return ", ".join(part for part in parts if part)


def _configs_differ(usual: Any, form: Any) -> str:
    one, other = json.loads(usual), json.loads(form)
    differing = [k for k in sorted({*one, *other}) if one.get(k) != other.get(k)]
    return some([f"{k} is {other.get(k)}, not {one.get(k)}" for k in differing])


@dataclass(frozen=True)
class Compared:
    """The checkpoints whose weights were sampled, and how these relate."""

    seen: list[Seen]
    parts: dict[str, Relations]
    """Name of a matrix that moves -> how the checkpoints relate in it."""

    def part(self, name: str, members: list[int]) -> tuple[Relations, Bool[np.ndarray, "k k"]]:
        """Of some checkpoints: how they relate in a matrix, and which are copies of each other in it."""
        hashes = np.array([self.seen[member].units[name] for member in members])
        return self.parts[name].among(members), hashes[:, None] == hashes[None, :]

    def moved(self) -> dict[int, float]:
        """Step -> correlation of its weights with those of the step before it."""
        correlation = kinship.pool(list(self.parts.values())).correlation
        return {after.step: float(correlation[at, at + 1]) for at, after in enumerate(self.seen[1:])}

    def home(self, group: list[Seen], names: list[str] | None = None) -> Seen:
        """Which of some copies is the original: the one nearest to its neighbours; where all are as near, the first."""
        parts = [self.parts[n] for n in names or self.parts if n in self.parts]
        members = [at for at, s in enumerate(self.seen) if s in group]
        if len(members) < len(group) or not parts:
            return group[0]
        distances = kinship.nearness(kinship.pool(parts), members)
        return next(s for s, far in zip(group, distances, strict=True) if far <= HOME * min(distances))


def _relations(seen: list[Seen]) -> Compared | None:
    sampled = [s for s in seen if s.samples]
    names = sorted(set.intersection(*({*s.samples} for s in sampled))) if len(sampled) > 1 else []
    parts = {n: r for n in names if (r := kinship.relate(np.stack([s.samples[n] for s in sampled])))}
    return Compared(sampled, parts) if parts else None


def _strange(compared: Compared, left: list[int], notes: Notes) -> None:
    """Tell the checkpoints that the distances between weights contradict.

    Args:
        left: Those that are no copies.
    """
    steps, total = [s.step for s in compared.seen], len(compared.parts)
    votes = _votes(compared, left)
    # Those that some matrices speak against are looked at again below, once the strangers are gone.
    of_a_piece = [member for member in left if not 0 < len(votes.get(member, ())) < WHOLE * total]
    over_all = kinship.pool(list(compared.parts.values())).among(of_a_piece)
    for at, why in kinship.odd(over_all, np.eye(len(of_a_piece), dtype=bool)).items():
        member, near = of_a_piece[at], None if why.near is None else of_a_piece[why.near]
        most = Counter(votes.get(member, {}).values()).most_common(1) or [(kinship.Odd(why.why, near), 0)]
        notes.add(steps[member], *_told(most[0][0], steps))
        left = [other for other in left if other != member]
    for member, odd in _votes(compared, left).items():
        if len(odd) >= WHOLE * total:
            notes.add(steps[member], *_told(Counter(odd.values()).most_common(1)[0][0], steps))
        else:
            said = f"{len(odd)} of {total} matrices do not fit its neighbours ({modules(odd)})"
            notes.add(steps[member], "mixed", said)


def _votes(compared: Compared, left: list[int]) -> dict[int, dict[str, kinship.Odd]]:
    """Member -> the matrices in which it does not belong among those left, and why."""
    found: dict[int, dict[str, kinship.Odd]] = {}
    for name in compared.parts:
        for at, why in kinship.odd(*compared.part(name, left), ends=False).items():
            near = None if why.near is None else left[why.near]
            found.setdefault(left[at], {})[name] = kinship.Odd(why.why, near)
    for end, beside in ((0, 1), (-1, -2)) if len(left) > 2 else ():
        votes = found.pop(left[end], {})
        if votes := _unfaded(votes, compared, left[end], left[beside]):
            found[left[end]] = votes
    # A matrix alone may wander, unless it has nothing in common with the others.
    return {m: v for m, v in found.items() if len(v) > 1 or any(why.why == "unrelated" for why in v.values())}


def _unfaded(votes: dict[str, kinship.Odd], compared: Compared, end: int, beside: int) -> dict[str, kinship.Odd]:
    """The matrices that are strange at an end of the series; being far from the only neighbour is not enough.

    They must be uncorrelated with it not only one by one but together: slow fading leaves a little in each.
    """
    alone = [name for name, why in votes.items() if why.near is None]
    if alone:
        together = kinship.pool([compared.parts[name] for name in alone])
        if not together.correlation[end, beside] < together.none < FADED:
            return {name: why for name, why in votes.items() if name not in alone}
    return votes


def _told(odd: kinship.Odd, steps: list[int]) -> tuple[str, str]:
    """The defect, and what is said of it."""
    near = None if odd.near is None else steps[odd.near]
    return {
        "unrelated": ("unrelated", "its weights are uncorrelated with those of every other step"),
        "unlike": ("unrelated", "its weights are farther from its neighbours' than those are from each other"),
        "misplaced": ("misnamed", f"its weights belong near step {near}"),
        "exchanged": ("misnamed", f"its weights and those of step {near} would be in order if exchanged"),
    }[odd.why]


# ---------------------------------------------------------------------------------------------------------------------
# Copies


def _whole_copies(seen: list[Seen], compared: Compared | None, notes: Notes) -> list[Seen]:
    """Tell the checkpoints that have all their weights from another; the rest of them."""
    groups: dict[tuple[tuple[str, str], ...], list[Seen]] = {}
    for s in seen:
        groups.setdefault(tuple(sorted(s.units.items())), []).append(s)
    originals = []
    for group in groups.values():
        home = compared.home(group) if compared else group[0]
        originals.append(home)
        for copy in group:
            if copy is not home:
                twins = some([str(s.step) for s in group if s is not copy], 5)
                notes.add(copy.step, "identical", f"its weights are those of step {twins}, all of them")
    return sorted(originals, key=lambda s: s.step)


def _shared_parts(seen: list[Seen], compared: Compared | None, notes: Notes) -> None:
    """Tell the checkpoints that have some weights from another, and not because these are frozen.

    Frozen ones stay as they are for three checkpoints or more; a copied one returns, or stays for two.
    """
    shared: dict[tuple[int, ...], list[str]] = {}
    for name in sorted({n for s in seen for n in (s.samples if s.layout else s.units)}):
        there: dict[str, list[int]] = {}
        for at, s in enumerate(seen):
            if name in s.units:
                there.setdefault(s.units[name], []).append(at)
        for places in there.values():
            stays = len(places) == places[-1] - places[0] + 1
            if len(places) > 1 and not (stays and (len(places) > 2 or len(places) == len(seen))):
                shared.setdefault(tuple(places), []).append(name)
    for sharing, names in sorted(shared.items()):
        group = [seen[at] for at in sharing]
        home = compared.home(group, names) if compared else group[0]
        for s in group:
            if s is not home:
                total = f"{len(s.samples)} matrices" if s.samples else f"{len(s.units)} files"
                twins = some([str(other.step) for other in group if other is not s], 5)
                notes.add(s.step, "mixed", f"{len(names)} of {total} are those of step {twins} ({modules(names)})")
