"""Which members of a series of weights do not belong where they are, from the distances between them alone.

Training moves weights away from where they were: of three checkpoints in order, the outer two are farthest apart.
Another initialisation is uncorrelated with all of them; an odd one lies farther from both its neighbours than they from
each other; a misplaced one is closest to a step elsewhere; of two exchanged ones, the way through them is shorter the
other way round. Nothing here knows of files.

On clean trajectories the ratio that `OUTER` bounds was at least 1.0 (BERTs, by matrix, with and without warm-up).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

OUTER = 0.7
"""An odd checkpoint: its neighbours' distance from each other, over the smaller of their distances from it."""
CLOSER = 0.5
"""A misplaced checkpoint: its distance from a step elsewhere, over the smaller of those from its neighbours."""
SHORTER, SHORTER_AT_LAST = 0.9, 0.85
"""Two exchanged checkpoints: the way through them in the other order, over the way as they are. The last two are given
more room: a stretch at a falling rate may lead back a little."""
ORDERED = 0.85
"""Three in order: the distance of the outer two, over the larger of the others."""
SIGMAS, SMALLEST = 4.0, 0.02
"""A correlation below so many standard errors, or below this, is none."""


@dataclass(frozen=True)
class Relations:
    """How the members of a series relate, in one matrix of the model or over all of them."""

    distance: Float[np.ndarray, "n n"]
    """Euclidean, over the root of the mean squared norm."""
    correlation: Float[np.ndarray, "n n"]
    samples: int
    """Elements that the correlation rests on."""

    @property
    def none(self) -> float:
        """A correlation below this is none."""
        return max(SMALLEST, SIGMAS / self.samples**0.5)

    def among(self, members: list[int]) -> Relations:
        """Between some members only."""
        at = np.ix_(members, members)
        return Relations(self.distance[at], self.correlation[at], self.samples)


@dataclass(frozen=True)
class Odd:
    """A member that does not belong where it is."""

    why: str
    """`unrelated`, `unlike`, `misplaced` or `exchanged`."""
    near: int | None = None
    """The member it is close to, or exchanged with."""


def relate(values: Float[np.ndarray, "n samples"]) -> Relations | None:
    """The relations of a series, from a sample of each member; None if it does not move or is constant."""
    x = values.astype(np.float64)
    gram = x @ x.T
    norms = np.diag(gram)
    scale = norms.mean()
    squared = np.maximum(norms[:, None] + norms[None, :] - 2 * gram, 0)
    squared[squared < 1e-13 * scale] = 0.0  # rounding of the difference of large numbers
    deviation = x.std(axis=1)
    if not np.isfinite(scale) or scale == 0 or not squared.any() or (deviation == 0).any():
        return None
    centred = (x - x.mean(axis=1, keepdims=True)) / (deviation[:, None] * x.shape[1] ** 0.5)
    return Relations(np.sqrt(squared / scale), centred @ centred.T, x.shape[1])


def pool(parts: list[Relations]) -> Relations:
    """The relations over several matrices: distances count alike, correlations by their samples."""
    samples = sum(part.samples for part in parts)
    return Relations(
        np.sqrt(np.mean([part.distance**2 for part in parts], axis=0)),
        np.sum([part.correlation * part.samples for part in parts], axis=0) / samples,
        samples,
    )


def odd(relations: Relations, same: Bool[np.ndarray, "n n"], *, ends: bool = True) -> dict[int, Odd]:
    """The members that do not belong where they are, by position; the worst is taken out first and the rest looked at again.

    Args:
        same: Which are copies of each other; a copy is judged by the members that are not.
        ends: Whether the first two and the last two may be found exchanged. One matrix alone may lead back a little.
    """
    found: dict[int, Odd] = {}
    for first, second in _exchanged(relations, same, ends):
        found |= {first: Odd("exchanged", second), second: Odd("exchanged", first)}
    for look in (_strangers, _misplaced):
        while True:
            left = [member for member in range(len(same)) if member not in found]
            worst = min(look(relations, same, left), default=None, key=lambda one: one[0])
            if worst is None:
                break
            found[worst[1]] = worst[2]
    return found


def nearness(relations: Relations, copies: list[int]) -> list[float]:
    """Of copies of one thing at several places: how far it is from its neighbours at each."""
    others = [member for member in range(len(relations.distance)) if member not in copies]
    found = []
    for member in copies:
        beside = [*[o for o in others if o < member][-1:], *[o for o in others if o > member][:1]]
        found.append(min((float(relations.distance[member, o]) for o in beside), default=0.0))
    return found


def _neighbours(member: int, left: list[int], same: Bool[np.ndarray, "n n"]) -> tuple[list[int], list[int]]:
    """Those before, nearest first, and those after, that are not copies of it."""
    before = [other for other in reversed(left) if other < member and not same[member, other]]
    return before, [other for other in left if other > member and not same[member, other]]


def _strangers(relations: Relations, same: Bool[np.ndarray, "n n"], left: list[int]) -> list[tuple[float, int, Odd]]:
    """(score, member, why): far from both neighbours, or uncorrelated with them where they are correlated."""
    d, c, none = relations.distance, relations.correlation, relations.none
    found = []
    for member in left:
        before, after = _neighbours(member, left, same)
        around = [*before[:1], *after[:1]]
        beside = around if before and after else (before or after)[:2]
        if len(beside) < 2 or same[beside[0], beside[1]]:
            continue
        alone = all(c[member, other] < none for other in around)
        outer = _outer(d, beside[0], member, beside[1])
        if alone and c[beside[0], beside[1]] > 2 * none:
            why = "unrelated" if all(c[member, other] < none for other in left if other != member) else "unlike"
            found.append((min(outer, 1.0) - 1, member, Odd(why)))
        elif len(around) == 2 and outer < OUTER:
            others = [other for other in left if other != member and not same[member, other]]
            nearest = min(others, key=lambda other: d[member, other])
            near = d[member, nearest] < CLOSER * min(d[member, other] for other in around)
            found.append((outer, member, Odd("misplaced", nearest) if near else Odd("unlike")))
    return found


def _misplaced(relations: Relations, same: Bool[np.ndarray, "n n"], left: list[int]) -> list[tuple[float, int, Odd]]:
    """(score, member, where it seems to belong): much closer to a member that is not its neighbour."""
    found = []
    for member in left:
        before, after = _neighbours(member, left, same)
        around, elsewhere = [*before[:1], *after[:1]], [*before[1:], *after[1:]]
        if not around or not elsewhere:
            continue
        distance = relations.distance[member]
        nearest = min(elsewhere, key=lambda other: distance[other])
        ratio = distance[nearest] / max(min(distance[other] for other in around), 1e-12)
        if ratio < CLOSER:
            found.append((ratio, member, Odd("misplaced", nearest)))
    return found


def _exchanged(relations: Relations, same: Bool[np.ndarray, "n n"], ends: bool) -> list[tuple[int, int]]:
    """Neighbours in the wrong order: the way is shorter the other way round, and then each lies between its neighbours."""
    d, n = relations.distance, len(same)
    found: list[tuple[int, int]] = []
    for first in (range(n - 1) if ends else range(1, n - 2)) if n > 2 else ():
        second = first + 1
        way = [m for m in (first - 1, first, second, second + 1) if 0 <= m < n]
        other = [{first: second, second: first}.get(m, m) for m in way]
        limit = SHORTER_AT_LAST if second == n - 1 else SHORTER
        if same[np.ix_(way, way)].sum() > len(way) or (found and found[-1][1] == first):
            continue
        lone = len(way) == 3 and _outer(d, *way) < OUTER  # the middle one alone is odd, and the rest is as it should be
        if not lone and _length(d, other) < limit * _length(d, way) and _in_order(d, other):
            found.append((first, second))
    return found


def _in_order(d: Float[np.ndarray, "n n"], way: list[int]) -> bool:
    """Whether the outer two of any three along the way are about the farthest apart."""
    return all(d[a, b] >= ORDERED * max(d[a, m], d[m, b]) for a, m, b in zip(way, way[1:], way[2:], strict=False))


def _outer(d: Float[np.ndarray, "n n"], before: int, member: int, after: int) -> float:
    return float(d[before, after] / max(min(d[member, before], d[member, after]), 1e-12))


def _length(d: Float[np.ndarray, "n n"], way: list[int]) -> float:
    return float(sum(d[a, b] for a, b in pairwise(way)))
