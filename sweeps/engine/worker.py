"""One trial, in whatever process it was given to: train the run, and answer with an outcome instead of an exception.

A warm process keeps its `Cache` from trial to trial: imports, tokenised data and pretrained weights are paid once.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plm.spec import RunSpec
    from plm.store import Store
    from plm.train import Execution, Reporter

OUTCOMES = ("done", "failed", "diverged", "stopped", "lost")
POLL_SECONDS = 0.5

_cache: Any = None


@dataclass(frozen=True)
class Resources:
    """What one trial is given."""

    cpus: int = 1
    gpus: float = 0.0
    """A fraction shares a GPU, and its memory."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    run_id: str
    status: str
    """One of `OUTCOMES`."""
    metrics: dict[str, float]
    seconds: float = 0.0
    """Of this trial, waiting and set-up included."""
    error: str = ""
    """The last line of the traceback; the whole is in the run's error.txt."""


def execute(
    spec: RunSpec,
    store: Store,
    execution: Execution,
    *,
    reporter: Reporter | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train a run with this process's cache; if another process has it, wait for that one."""
    global _cache
    from plm.build import Cache
    from plm.store import Busy, Lost
    from plm.train import Diverged, Stopped, train

    _cache = _cache or Cache()
    began = time.monotonic()

    def ended(status: str, metrics: dict[str, float] | None = None, error: object = "") -> Outcome:
        return Outcome(spec.run_id, status, metrics or {}, time.monotonic() - began, str(error))

    while True:
        try:
            result = train(
                spec, store=store, execution=execution, reporter=reporter, should_stop=should_stop, cache=_cache
            )
            return ended("done", result.metrics)
        except Busy:
            if should_stop():
                return ended("stopped")
            time.sleep(POLL_SECONDS)
        except Stopped as error:
            return ended("stopped", error=error)
        except Lost as error:
            return ended("lost", error=error)
        except Diverged as error:
            return ended("diverged", error=error)
        except Exception as error:  # a run that fails is kept as failed, and the rest goes on
            return ended("failed", error=f"{type(error).__name__}: {error}")


def trial(config: dict[str, Any]) -> None:
    """A Tune function: `config` holds the run's spec as JSON, the store's path and the execution."""
    from ray import tune

    from plm.spec import RunSpec
    from plm.store import Store
    from plm.train import Execution

    quiet()
    try:
        execution = Execution(**{**config["execution"], "keep": tuple(config["execution"]["keep"])})
        if execution.device == "cuda":
            import torch

            torch.cuda.set_per_process_memory_fraction(min(1.0, config["gpus"]))
        outcome = execute(RunSpec.from_json(config["spec"]), Store.at(config["store"]), execution)
    except Exception as error:  # a node that lacks the store or the model: trying again would not help
        outcome = Outcome("", "failed", {}, error=f"{type(error).__name__}: {error}")
    tune.report({name: value for name, value in asdict(outcome).items() if name != "metrics"} | outcome.metrics)


def execution_for(resources: Resources, keep: tuple[int, ...], keep_weights: bool = False) -> Execution:
    """How a trial with these resources is executed."""
    from plm.train import Execution

    return replace(
        Execution(),
        device="cuda" if resources.gpus else "cpu",
        threads=resources.cpus,
        keep=keep,
        keep_weights=keep_weights,
    )


def quiet() -> None:
    """Keep the libraries' progress bars and advice out of our output."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with contextlib.suppress(ImportError):
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
