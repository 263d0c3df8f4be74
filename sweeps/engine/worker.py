"""One trial, in whatever process it was given to: train the run or read the model, and answer with an outcome instead of
an exception.

A warm process keeps its `Cache` from trial to trial: imports, tokenised data and pretrained weights are paid once.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from plm.claim import RENEW_SECONDS, STALE_SECONDS, Busy, Lost

if TYPE_CHECKING:
    from plm.reading import Spec
    from plm.store import Store
    from plm.train import Execution
    from sweeps.engine.plan import Plan
    from sweeps.engine.rungs import Rungs

POLL_SECONDS = 0.5
WAIT_SECONDS = STALE_SECONDS + RENEW_SECONDS
"""How long a trial waits for another process that has its run, before it makes room for runs that nobody has: until one that
has died on another machine is known to be dead, because the trial that follows a death must be the one that goes on, or the
deaths of a run would never be too many."""

_cache: Any = None


@dataclass(frozen=True)
class Resources:
    """What one trial is given."""

    cpus: int = 1
    """Of each worker; also its threads."""
    gpus: float = 0.0
    """Of each worker. A fraction shares a GPU, and its memory."""
    workers: int = 1
    """Processes that train a run together."""
    shard: bool = False
    """Spread weights and optimizer state over the workers."""
    live: bool = False
    """Its teacher is asked at each step, also where lessons on disk would be cheaper."""

    def fit(self, cpus: float, gpus: float) -> int:
        """How many workers a machine with so much can hold; a fraction of a GPU lies on one, and does not span two."""
        by_cpu = int(cpus // self.cpus)
        if not self.gpus:
            return by_cpu
        shares = math.floor(1 / self.gpus + 1e-9)  # 1 // 0.2 is 4
        return min(by_cpu, int(gpus) * shares if self.gpus < 1 else int(gpus // self.gpus))

    def __str__(self) -> str:
        each = f"{self.cpus} CPUs and {self.gpus:g} GPUs"
        return each if self.workers == 1 else f"{self.workers} workers of {each}"


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    run_id: str
    status: str
    """`done`, `pruned` (others were better), `diverged`, `failed`, `stopped`, or `busy` and `lost`: another process has the
    run, or has taken it over."""
    metrics: dict[str, float]
    seconds: float = 0.0
    """Of this trial, waiting and set-up included."""
    error: str = ""
    """The last line of the traceback; the whole is in the run's error.txt."""


def execute(
    spec: Spec,
    store: Store,
    execution: Execution,
    *,
    rungs: Rungs | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train a run, or read a model, with this process's cache; if another process has it, wait for that one for a while.

    Args:
        rungs: Where it is compared with others on its way, and given up if it is not among the best.
    """
    global _cache
    from plm.build import Cache
    from plm.parallel import group
    from plm.reading import Reading, read
    from plm.train import Diverged, Stopped, train
    from sweeps.engine.rungs import Judge

    _cache = _cache or Cache()
    began = time.monotonic()
    judge = Judge(rungs, store, spec.run_id, spec.total_steps) if rungs and not isinstance(spec, Reading) else None

    def stopping() -> bool:
        return should_stop() or (judge is not None and judge.pruned)

    def ended(status: str, metrics: dict[str, float] | None = None, error: object = "") -> Outcome:
        return Outcome(spec.run_id, status, metrics or {}, time.monotonic() - began, str(error))

    while True:
        try:
            result = (
                read(spec, store=store, execution=execution, cache=_cache)
                if isinstance(spec, Reading)
                else train(spec, store=store, execution=execution, reporter=judge, should_stop=stopping, cache=_cache)
            )
            return ended("done", result.metrics)
        except Busy:
            stop, leave = group().told((stopping(), time.monotonic() - began > WAIT_SECONDS))  # all of a group, or none
            if stop or leave:
                return ended("stopped" if stop else "busy")
            time.sleep(POLL_SECONDS)
        except Stopped as error:
            return ended("pruned" if judge and judge.pruned else "stopped", error=error)
        except Lost as error:
            return ended("lost", error=error)
        except Diverged as error:
            return ended("diverged", error=error)
        except Exception as error:  # a run that fails is kept as failed, and the rest goes on
            return ended("failed", error=f"{type(error).__name__}: {error}")


def trial(config: dict[str, Any]) -> None:
    """A Tune function: `config` holds the run's spec as JSON, the store's path and the execution."""
    from ray import tune

    tune.report(reported(run_trial(config)))


def run_trial(config: dict[str, Any]) -> Outcome:
    """What `trial` describes, in this process."""
    from plm.spec import from_json
    from plm.store import Store
    from plm.train import Execution
    from sweeps.engine.rungs import Rungs

    quiet()
    try:
        options: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in config["execution"].items()}
        execution = Execution(**options)
        if execution.device == "cuda":
            import torch

            torch.cuda.set_per_process_memory_fraction(min(1.0, config["gpus"]))
        rungs = Rungs(**config["rungs"]) if config["rungs"] else None
        return execute(from_json(config["spec"]), Store.at(config["store"]), execution, rungs=rungs)
    except Exception as error:  # a node that lacks the store or the model: trying again would not help
        return Outcome("", "failed", {}, error=f"{type(error).__name__}: {error}")


def reported(outcome: Outcome) -> dict[str, str]:
    """An outcome as Tune is told of it: one text, since of each number Tune would keep an analysis of two kilobytes."""
    return {"outcome": json.dumps(asdict(outcome))}


def outcome_of(run_id: str, told: str | None) -> Outcome:
    """The outcome of a run of which Tune was told this; None: nothing, so the process that was at it has died."""
    outcome = Outcome(**json.loads(told)) if told else Outcome(run_id, "failed", {}, error="its process died")
    return replace(outcome, run_id=run_id)  # a trial that failed at its beginning did not know it


def execution_for(resources: Resources, plan: Plan, run_id: str, store: Store, keep_weights: bool = False) -> Execution:
    """How a run of a plan is executed with these resources."""
    from plm.train import Execution
    from sweeps.engine import teaching

    return replace(
        Execution(),
        device="cuda" if resources.gpus else "cpu",
        threads=resources.cpus,
        shard=resources.shard,
        keep=plan.keep.get(run_id, ()),
        keep_state=plan.keep_state.get(run_id, ()),
        keep_weights=keep_weights,
        **teaching.options(plan, run_id, store, live=resources.live),
    )


def quiet() -> None:
    """Keep the libraries' progress bars and advice out of our output."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with contextlib.suppress(ImportError):
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
