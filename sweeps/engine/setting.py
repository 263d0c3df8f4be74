"""What a call of a search asks: the space it looks through, and what all its trials have in common.

A `Setting` turns a configuration into cells of two kinds. The cells to *select* by are evaluated on a slice cut from the
training data; the cells to *report* are the question's own runs, at seeds that no choice has seen.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plm.metrics import REPORTED
from plm.reading import Spec
from plm.spec import RunSpec
from plm.store import Store
from search_spaces import space as spaces
from search_spaces.axis import label
from search_spaces.space import Answers, Space
from sweeps.engine.plan import Cell, Plan, arrange
from sweeps.engine.sweep import Point, Sweep, check, held, shrunk

if TYPE_CHECKING:
    from sweeps.engine.study import Study

WALKS, PROBES, LISTED = 64, 24, 512
"""Random configurations whose questions are looked at before anything is started; of so many the runs too; a finite
space of at most so many is looked at whole."""


@dataclass(frozen=True)
class Setting:
    """The sweep with its space narrowed, its fixed axes' values, and the seeds that a trial folds."""

    sweep: Sweep
    space: Space
    point: Point
    seeds: tuple[int, ...]

    @cached_property
    def name(self) -> str:
        """The study's name: what of the call bears on a trial's value is hashed into it."""
        probe = next(self.probes()).spec
        asked = {name: repr(question) for name, question in spaces.questions(self.space, WALKS).items()}
        search = self.sweep.search
        halving: list[Any] = [search.rungs, search.races, search.reduction]
        halving += [search.second.name, search.second.smaller] if search.second else []
        parts = [asked, _source(self.sweep.over), probe.run_id, self.seeds, self.sweep.metric, halving]
        fixed = {name: str(label(value)) for name, value in self.point.items()}
        digest = hashlib.sha256(json.dumps([*parts, fixed], sort_keys=True).encode()).hexdigest()
        return f"{self.sweep.name}-{digest[:12]}"

    def study(self, path: Path) -> Study:
        """Its memory, in the database at a path.

        Raises:
            ValueError: as `Study`.
        """
        from sweeps.engine.study import Study

        second = self.sweep.search.second
        return Study(path, self.name, self.space, smaller=self.smaller, second=second.smaller if second else None)

    @property
    def smaller(self) -> bool:
        """Whether smaller values of the metric are better."""
        return REPORTED[self.sweep.metric][1] == "min"

    def second(self, spec: RunSpec) -> float:
        """The second criterion of a run; 0 where there is none."""
        criterion = self.sweep.search.second
        return float(criterion.of(spec)) if criterion else 0.0

    def named_second(self, spec: RunSpec) -> dict[str, dict[str, float]]:
        """The second criterion of a run as a trial's record has it; empty where there is none."""
        criterion = self.sweep.search.second
        return {"second": {criterion.name: self.second(spec)}} if criterion else {}

    def costs(self, seconds: Iterable[float]) -> list[float]:
        """Values of the second criterion as costs: smaller is better."""
        criterion = self.sweep.search.second
        sign = -1 if criterion and not criterion.smaller else 1
        return [sign * second for second in seconds]

    @cached_property
    def confirmed(self) -> int:
        """How many trials are measured again, at most; of a front as many as the second criterion has values."""
        search = self.sweep.search
        if search.second:
            return len({self.second(cell.run) for cell in self.probes()})
        return search.confirmed + bool(search.control)

    def cells(self, answers: Answers, *, fresh: bool = False) -> tuple[Cell, ...]:
        """The cells of a configuration, one a seed: to select by, or with `fresh` to report; none: it is no such cell."""
        first = max(self.seeds) + 1
        return self._cells(answers, tuple(range(first, first + len(self.seeds))) if fresh else self.seeds, fresh)

    def key(self, answers: Answers) -> str | None:
        """Tells configurations apart by what they compute; None: there is no such cell."""
        cells = self._cells(answers, self.seeds[:1], False)
        return cells[0].spec.run_id if cells else None

    def _cells(self, answers: Answers, seeds: tuple[int, ...], fresh: bool) -> tuple[Cell, ...]:
        found = spaces.replayed(self.space, answers)
        points = [{**self.point, **found[1], "seed": seed} for seed in seeds] if found else []
        made = [(point, self.sweep.run(**point)) for point in points]
        return tuple(Cell(p, spec if fresh else held_back(spec)) for p, spec in made if spec is not None)

    def replayed(self, answers: Answers) -> Answers | None:
        """The part of some answers that the space asks for; None: they do not lie in it."""
        found = spaces.replayed(self.space, answers)
        return None if found is None else found[0]

    def labels(self, answers: Answers) -> dict[str, Any]:
        """Axis name -> value as tables show it, of what the space chose."""
        found = spaces.replayed(self.space, answers)
        return {name: label(value) for name, value in (found[1] if found else {}).items()}

    def probes(self) -> Iterator[Cell]:
        """The cells of all configurations of a small space, of some random ones of a larger, each once."""
        found = spaces.leaves(self.space, LISTED)
        drawn = (trial.answers for trial in spaces.drawn(self.space, PROBES))
        for answers in {repr(answers): answers for answers in (drawn if found is None else found)}.values():
            yield from self.cells(answers)

    def shown(self, store: Store) -> Plan:
        """A plan of what may be asked for, as far as `probes` tell.

        Raises:
            ValueError: as `plan`.
        """
        return arrange(self.sweep, list(self.probes()), store)

    def parents(self, store: Store) -> Plan:
        """A plan of what any configuration may start from, as far as `probes` tell; checks their runs on the way.

        Raises:
            ValueError: as `plan`.
        """
        planned = self.shown(store)
        runs = {r: planned.runs[r] for r in planned.keep}
        return Plan(self.sweep, (), runs, planned.keep, {r: planned.status[r] for r in runs})


def held_back(spec: Spec) -> RunSpec:
    """The run evaluated on a slice cut from its training data, so that its evaluation split stays unseen.

    Raises:
        ValueError: it is a reading, which has no training data to select by.
    """
    if not isinstance(spec, RunSpec):
        raise ValueError(f"{spec.run_id} reads a model that is there: a search trains. Ask for readings in a grid.")
    return replace(spec, data=spec.data.held_back())


def setting(sweep: Sweep, given: Mapping[str, str], *, smoke: bool = False) -> Setting:
    """Read a call of a search; with `smoke`, of a smaller question.

    Raises:
        ValueError: an unknown axis, a value that an axis does not have, or a space that does not fit `run`.
    """
    assert sweep.space is not None
    check(sweep, given)
    point, seeds = held(sweep, {n: text for n, text in given.items() if n in sweep.fixed})
    space = spaces.narrowed(sweep.space_of(given), {n: text for n, text in given.items() if n not in sweep.fixed})
    parameters = inspect.signature(sweep.run).parameters
    needed = {n for n, p in parameters.items() if p.default is inspect.Parameter.empty} - {*point, "seed"}
    for trial in spaces.drawn(space, WALKS):
        chosen = set(spaces.replayed(space, trial.answers)[1])  # type: ignore[index]
        if extra := sorted(chosen - (set(parameters) - {*point, "seed"})):
            raise ValueError(f"the space gives {', '.join(extra)}; run() takes {', '.join(parameters)}.")
        if missing := sorted(needed - chosen):
            raise ValueError(f"the space gives no {', '.join(missing)}, which run() needs. Name it, or fix it.")
    if smoke:
        sweep, seeds = shrunk(sweep), seeds[:1]
    found = Setting(sweep, space, point, seeds)
    if next(found.probes(), None) is None:
        raise ValueError("the search has no cell for these values.")
    return found


def _source(space: object) -> str:
    """A function's code without its layout and comments; empty where it has no source."""
    try:
        return ast.dump(ast.parse(textwrap.dedent(inspect.getsource(space))))  # type: ignore[arg-type]
    except (OSError, SyntaxError, TypeError):
        return ""


def configurations(space: Space) -> list[Answers] | None:
    """All of a finite space, in an order of no meaning; None: it is endless."""
    found = spaces.leaves(space)
    return None if found is None else sorted(found, key=lambda a: hashlib.sha256(repr(a).encode()).digest())
