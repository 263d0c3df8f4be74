"""The memory of a search: an Optuna study in SQLite, and the sampler that proposes what to try next.

The study remembers what was tried and how it went; which runs are finished is the store's knowledge, and a study that is
lost is made again from it. A proposal is a pure function of the study and a seed: the sampler works on a copy in memory,
so that what it proposes in vain leaves no trace.
"""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from plm.rng import seed_of
from search_spaces.space import Answers, Space, replayed

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

SHARED = ("nfs", "cifs", "smb", "fuse", "lustre", "gpfs", "ceph", "afs", "beegfs", "9p", "glusterfs")
"""Beginnings of the names of filesystems where SQLite's locks cannot be relied upon."""
OUTCOME, SECOND, VALUE = "outcome", "second", "value"
"""Under which names a trial's outcome, its second criterion and the value at which it was given up are kept."""
RANDOM_FIRST = 8
"""How many trials are drawn at random before the sampler learns."""


def database(folder: Path, asked: str | None) -> Path:
    """Where the studies of a store lie: in it, or in the folder that was asked for.

    Raises:
        ValueError: that is no folder of a local filesystem.
    """
    there = Path(asked).expanduser().resolve() if asked else folder
    kind = _filesystem(there)
    if kind.startswith(SHARED):
        raise ValueError(
            f"{there} lies on {kind}, where a study's database is not safe. Name a folder of this machine's own: --state DIR"
        )
    if there.exists() and not there.is_dir():
        raise ValueError(f"--state {there} is not a folder.")
    return there / "studies.db"


def _filesystem(path: Path) -> str:
    """The kind of filesystem a path lies on, as Linux names it; empty where that is not known."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    above = {str(p) for p in (path, *path.parents)}
    return max(((place, kind) for place, kind in mounts if place in above), key=lambda m: len(m[0]), default=("", ""))[
        1
    ]


class Study:
    """One study, held by this process alone until it is closed."""

    def __init__(
        self, path: Path, name: str, space: Space, *, smaller: bool, second: bool | None = None, seed: int = 0
    ) -> None:
        """Open a study, or begin it.

        Args:
            smaller: Whether smaller values are better.
            second: The same of a second criterion; None: there is none.
            seed: Of the sampler.

        Raises:
            ValueError: another process holds the study, or the database cannot be read.
        """
        self.name, self._space, self._seed = name, space, seed
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = (path.parent / f".{name}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise ValueError(f"search {name} is running in another process: wait for it, or stop it.") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        wanted = [smaller] if second is None else [smaller, second]
        self._directions = [StudyDirection.MINIMIZE if small else StudyDirection.MAXIMIZE for small in wanted]
        try:
            self._storage = optuna.storages.RDBStorage(
                f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}}
            )
            self._study = optuna.create_study(
                storage=self._storage, study_name=name, directions=self._directions, load_if_exists=True
            )
        except Exception as error:
            self._lock.close()
            raise ValueError(
                f"{path} cannot be read as a database of studies ({type(error).__name__}). Remove it: it is made again from the runs."
            ) from error

    def close(self) -> None:
        """Let other processes have it."""
        self._storage.remove_session()
        self._storage.engine.dispose()
        self._lock.close()

    @property
    def trials(self) -> list[FrozenTrial]:
        """All that was begun, in order."""
        return self._study.get_trials(deepcopy=False)

    def propose(self, attempt: int = 0) -> Answers:
        """What to try next; another `attempt` proposes something else."""
        trials = self.trials
        sampler = optuna.samplers.TPESampler(
            seed=seed_of(self._seed, "propose", len(trials), attempt) % 2**32, n_startup_trials=RANDOM_FIRST
        )
        copy = optuna.create_study(directions=self._directions, sampler=sampler)
        # One that was killed before it began has no date.
        copy.add_trials([self._as_learned(t) for t in trials if t.datetime_start])
        trial = copy.ask()
        self._space(trial)
        found = replayed(self._space, trial.params)
        assert found is not None, "the sampler's answers lie in the space it was asked in"
        return found[0]

    def _as_learned(self, trial: FrozenTrial) -> FrozenTrial:
        """A trial as the sampler takes it: of two criteria it cannot learn from what was given up, so that is a result."""
        if len(self._directions) == 1 or trial.state != TrialState.PRUNED or VALUE not in trial.user_attrs:
            return trial
        return create_trial(
            params=trial.params,
            distributions=trial.distributions,
            values=[trial.user_attrs[VALUE], trial.user_attrs[SECOND]],
        )

    def begin(self, answers: Answers, second: float = 0.0) -> int:
        """Note that a configuration is being tried, and its second criterion; its number."""
        self._study.enqueue_trial(answers)
        trial = self._study.ask()
        self._space(trial)
        assert trial.params == answers, "an answer that the space does not hold"
        if len(self._directions) == 2:
            trial.set_user_attr(SECOND, second)
        return trial.number

    def ended(self, number: int, outcome: str, value: float | None = None, rung: int = 0) -> None:
        """Note how a trial ended: `done` with its value, `pruned` with its value at a rung, `diverged` or `failed`.

        The sampler takes what diverged for the worst there is, and learns nothing from what failed.
        """
        trial, two = self.trials[number]._trial_id, len(self._directions) == 2
        self._storage.set_trial_user_attr(trial, OUTCOME, outcome)
        if outcome == "pruned" and value is not None:
            if two:
                self._storage.set_trial_user_attr(trial, VALUE, value)
            else:
                self._storage.set_trial_intermediate_value(trial, rung, value)
        if outcome == "done":
            assert value is not None
            self._study.tell(number, [value, self.trials[number].user_attrs[SECOND]] if two else value)
        else:
            self._study.tell(number, state=TrialState.FAIL if outcome == "failed" else TrialState.PRUNED)

    def fail_running(self) -> list[Answers]:
        """Fail what an earlier process left running; those configurations, and those that had failed by themselves."""
        for trial in self.trials:
            if not trial.state.is_finished():  # waiting: it was killed between two of our steps
                self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return [t.params for t in self.trials if t.state == TrialState.FAIL and t.params]


def value_of(trial: FrozenTrial) -> float:
    """By what a trial that is done is compared, the first criterion."""
    assert trial.values is not None
    return float(trial.values[0])


def outcome_of(trial: FrozenTrial) -> str:
    """`done`, `pruned`, `diverged`, `failed`, or `running`."""
    if trial.state == TrialState.PRUNED:
        return str(trial.user_attrs.get(OUTCOME, "pruned"))
    # The note of an outcome comes before the trial's state: a kill in between leaves a trial that is tried again.
    return {TrialState.COMPLETE: "done", TrialState.FAIL: "failed"}.get(trial.state, "running")


def settled(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that need not be tried again."""
    return [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
