"""A search while it runs: asks its study what to try, hands the runs to the schedule, tells the study how they went.

A trial is a configuration with all its seeds; a run of it is an ordinary run, shared with whoever asks for the same. The
store knows what is finished, the study what was tried: killed at any moment and called again, a search executes nothing
that is finished, and takes up first what it had begun.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import mean
from typing import Any

from plm.store import RunFolder, Store
from search_spaces.space import Answers
from sweeps.engine.front import front
from sweeps.engine.plan import Cell, Plan, arrange
from sweeps.engine.record import note_cells, noted_trials
from sweeps.engine.rungs import Rungs
from sweeps.engine.schedule import Schedule
from sweeps.engine.setting import Setting, configurations
from sweeps.engine.study import Study, outcome_of, settled, value_of

TRIES = 32
"""Proposals without a new configuration after which a search that cannot list its space gives up."""


@dataclass
class Candidate:
    """A trial in progress."""

    number: int
    cells: tuple[Cell, ...]
    """One a seed."""
    second: float
    """Its second criterion."""
    control: bool = False
    """Whether it is never given up early."""
    asked: int = 0
    """How many of the cells are asked for so far."""


class Explorer:
    """The source of a search's runs."""

    def __init__(self, setting: Setting, store: Store, study: Study, *, trials: int, at_a_time: int = 1) -> None:
        """Take up a study: fail what was running, take over what is finished.

        Args:
            trials: Configurations to try, those of earlier calls included.
            at_a_time: Runs that are executed at a time.
        """
        self.setting, self.at_a_time = setting, at_a_time
        self._store, self._study, self._limit = store, study, trials
        self._all = configurations(setting.space)
        self._seen: set[str] = set()
        """Keys of the configurations that need not be tried (again) in this call."""
        self._cells: dict[int, tuple[Cell, ...]] = {}
        """Of each trial, those that were asked for."""
        self._reported: dict[int, tuple[Cell, ...]] = {}
        self._active: dict[int, Candidate] = {}
        self._parents: set[str] = set()
        self._exhausted = self._abandoned = self._confirmed = False
        recorded = noted_trials(setting.sweep.name, store)
        self._confirmed_before = {
            t["runs"][0]: t["confirmed"] for t in recorded if t["study"] == study.name and t["runs"]
        }
        again = study.fail_running()
        for trial in settled(study.trials):
            self._note(trial.number, trial.params)
        self.taken_over = self._take_over()
        controls = filter(setting.sweep.search.is_control, self._all or ())
        self._again = deque(answers for answers in (*controls, *again) if self._is_new(answers))

    # What the schedule asks

    @property
    def exhausted(self) -> bool:
        """Whether the space has no configuration left."""
        return self._exhausted

    @property
    def abandoned(self) -> bool:
        """Whether none of the runs that trials start from could be made."""
        return self._abandoned

    @property
    def diverged(self) -> int:
        """Trials that diverged, in this call or an earlier one; they count as the worst and are not tried again."""
        return sum(outcome_of(trial) == "diverged" for trial in self._study.trials)

    @property
    def finished(self) -> bool:
        return self._abandoned or (self._is_over and not self._active and self._confirmed)

    @property
    def known(self) -> int:
        """Configurations that were tried, or are being tried."""
        return len(self._seen)

    @property
    def unasked(self) -> int:
        searched = 0 if self._is_over else self._limit - len(self._seen)
        confirmed = 0 if self._confirmed else self.setting.confirmed
        return (searched + confirmed) * len(self.setting.seeds)

    def extend(self, schedule: Schedule) -> bool:
        if schedule.count("waiting") or schedule.count("running") >= self.at_a_time:
            return False
        parents = {schedule.state[run_id] for run_id in self._parents}
        if parents & {"waiting", "running"}:
            return False
        self._abandoned = bool(parents) and "done" not in parents
        if self._abandoned:
            return False
        if not self._is_over and (answers := self._next()) is not None:
            self._begin(schedule, answers)
            return True
        if self._active:
            return False
        return self._confirm(schedule)

    def ended(self, schedule: Schedule, run_id: str) -> None:
        for candidate in list(self._active.values()):  # all: a parent's end may be the end of several
            self._settle(schedule, candidate)
        self.record(schedule)

    def rungs(self, run_id: str) -> Rungs | None:
        first = {candidate.cells[0].spec.run_id: candidate for candidate in self._active.values()}
        return self._rungs_of(first[run_id]) if self.setting.sweep.search.rungs and run_id in first else None

    # Configurations

    @property
    def _is_over(self) -> bool:
        return self._exhausted or len(self._seen) >= self._limit

    def _note(self, number: int, answers: Answers) -> None:
        """Know a trial of an earlier call, and which of its runs were begun."""
        cells = self.setting.cells(answers)
        self._seen |= {cell.spec.run_id for cell in cells[:1]}
        self._cells[number] = tuple(c for c in cells if self._store.run(c.spec).status() != "missing")

    def _is_new(self, answers: Answers) -> bool:
        key = self.setting.key(answers)
        return key is not None and key not in self._seen

    def _next(self) -> Answers | None:
        """A configuration that was not tried yet; None: there is none, or none is found."""
        while self._again:
            if self._is_new(answers := self._again.popleft()):
                return answers
        for attempt in range(1 if self._all is not None else TRIES):
            if self._is_new(answers := self._study.propose(attempt)):
                return answers
        rest = (answers for answers in self._all or () if self._is_new(answers))
        answers_or_none = next(rest, None)
        self._exhausted = answers_or_none is None
        return answers_or_none

    def _take_over(self) -> int:
        """Tell the study of configurations that earlier calls of the sweep have finished; how many."""
        count = 0
        for trial in noted_trials(self.setting.sweep.name, self._store):
            found = self.setting.replayed(trial["answers"])
            cells = self.setting.cells(found) if found is not None and len(self._seen) < self._limit else ()
            if cells and cells[0].spec.run_id not in self._seen and all(map(self._is_done, cells)):
                number = self._study.begin(found or {}, self.setting.second(cells[0].run))
                self._note(number, found or {})
                self._study.ended(number, "done", mean(map(self._value, cells)))
                count += 1
        return count

    def _is_done(self, cell: Cell) -> bool:
        return self._store.run(cell.spec).status() == "done"

    def _value(self, cell: Cell) -> float:
        metrics = RunFolder(self._store, cell.spec.run_id).result()["metrics"]
        metric = self.setting.sweep.metric
        if metric not in metrics:
            raise ValueError(f"run {cell.spec.run_id} reports no {metric}; it reports {', '.join(metrics)}.")
        return float(metrics[metric])

    # Trials

    @property
    def _stages(self) -> list[int]:
        """Numbers of seeds after which a trial is looked at."""
        search, whole = self.setting.sweep.search, len(self.setting.seeds)
        first = {1} if search.rungs else set()
        return sorted({n for n in first | {*search.races} if n < whole} | {whole})

    def _rungs_of(self, candidate: Candidate) -> Rungs:
        search = self.setting.sweep.search
        cost = candidate.second if search.second is None or search.second.smaller else -candidate.second
        return Rungs(
            self._study.name, self.setting.sweep.metric, self.setting.smaller, search.rungs, search.reduction, cost
        )

    def _begin(self, schedule: Schedule, answers: Answers) -> None:
        cells = self.setting.cells(answers)
        second = self.setting.second(cells[0].run)
        number = self._study.begin(answers, second)
        candidate = self._active[number] = Candidate(
            number, cells, second, self.setting.sweep.search.is_control(answers)
        )
        self._seen.add(cells[0].spec.run_id)
        self._ask(schedule, candidate)
        self._settle(schedule, candidate)
        self.record(schedule)

    def _ask(self, schedule: Schedule, candidate: Candidate) -> None:
        """Ask for the seeds of the next stage."""
        stage = next(n for n in self._stages if n > candidate.asked)
        cells = candidate.cells[candidate.asked : stage]
        candidate.asked = min(stage, len(candidate.cells))
        self._cells[candidate.number] = candidate.cells[: candidate.asked]
        schedule.add(arrange(self.setting.sweep, cells, self._store))

    def _settle(self, schedule: Schedule, candidate: Candidate) -> None:
        """Go on with a trial whose runs have all ended, or tell the study how it ended."""
        while True:
            cells = candidate.cells[: candidate.asked]
            states = {schedule.state[cell.spec.run_id] for cell in cells}
            if states & {"waiting", "running"}:
                return
            if states != {"done"}:
                return self._close(candidate, next((s for s in ("pruned", "diverged") if s in states), "failed"))
            value = mean(map(self._value, cells))
            if candidate.asked == len(candidate.cells):
                return self._close(candidate, "done", value)
            race = f"seeds-{candidate.asked}"
            search = self.setting.sweep.search
            survives = candidate.asked not in search.races or self._rungs_of(candidate).survives(
                self._store, race, cells[0].spec.run_id, value
            )
            if not (survives or candidate.control):
                return self._close(candidate, "pruned", value, len(search.rungs) + candidate.asked)
            self._ask(schedule, candidate)

    def _close(self, candidate: Candidate, outcome: str, value: float | None = None, rung: int = 0) -> None:
        if outcome == "pruned" and value is None:
            left = self._rungs_of(candidate).left_by(self._store, candidate.cells[0].spec.run_id)
            rung, value = (left[0], left[1]["value"]) if left else (0, None)
        self._study.ended(candidate.number, outcome, value, rung)
        del self._active[candidate.number]

    # What is found

    def _best(self) -> list[int]:
        """Numbers of the best trials, as many as are confirmed; of two criteria, of those on the front."""
        done = [t for t in self._study.trials if outcome_of(t) == "done"]
        done.sort(key=lambda t: value_of(t) * (1 if self.setting.smaller else -1))
        if self.setting.sweep.search.second is None:
            search = self.setting.sweep.search
            controls = [t for t in done if search.is_control(t.params)]
            return list(dict.fromkeys(t.number for t in (*done[: search.confirmed], *controls[:1])))
        first = {t.values[1]: t for t in reversed(done)}  # of equals the one that was tried first
        on = front([value_of(t) for t in first.values()], self.setting.costs(first), smaller=self.setting.smaller)
        return [t.number for t, is_on in zip(first.values(), on, strict=True) if is_on]

    def _confirm(self, schedule: Schedule) -> bool:
        """Measure the best again, at fresh seeds, on the evaluation split; whether there was anything to ask."""
        wanted, self._confirmed = [n for n in self._best() if n not in self._reported], True
        for number in wanted:
            self._reported[number] = self.setting.cells(self._study.trials[number].params, fresh=True)
            schedule.add(arrange(self.setting.sweep, self._reported[number], self._store))
        if wanted:
            self.record(schedule)
        return bool(wanted)

    def plan(self, parents: Plan) -> Plan:
        """What the call starts from: `Setting.parents`, and the cells of trials that are finished."""
        self._parents = set(parents.runs)
        cells = [c for t in self._study.trials if outcome_of(t) == "done" for c in self._cells[t.number]]
        if self._is_over:  # nothing to try: what may be missing is the confirmation
            self._reported = {n: self.setting.cells(self._study.trials[n].params, fresh=True) for n in self._best()}
            cells += [c for found in self._reported.values() for c in found]
            self._confirmed = True
        return parents + arrange(self.setting.sweep, cells, self._store)

    def record(self, schedule: Schedule) -> None:
        """Write down the cells asked for and the trials, for tables and the tracking view."""
        trials: list[dict[str, Any]] = []
        for trial in self._study.trials:
            if cells := self._cells.get(trial.number):
                trials.append(
                    {
                        "study": self._study.name,
                        "trial": trial.number,
                        "outcome": outcome_of(trial),
                        "answers": trial.params,
                        "point": self.setting.labels(trial.params),
                        "runs": [c.spec.run_id for c in cells],
                        "confirmed": [c.spec.run_id for c in self._reported.get(trial.number, ())]
                        or self._confirmed_before.get(cells[0].spec.run_id, []),
                    }
                    | self.setting.named_second(cells[0].run)
                )
        note_cells(schedule.plan, self._store, trials)
