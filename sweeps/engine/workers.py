"""One trial in several processes: a Ray Train group that trains one run together.

The Tune function that starts the group only waits for it, so it asks for no CPU: a driver that held one would keep its own
workers from starting. Which process does what is `plm.parallel`'s business.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plm.reading import Spec
    from plm.store import Store

DRIVER = {"CPU": 0.0, "memory": 1.0}
"""No share of a CPU, which would be missing from the last worker's; Tune wants a trial to ask for something, so a byte."""
DEATHS = 3
"""How often a group is started again after one of its processes died or failed; it goes on from the newest checkpoint."""


def group_trial(config: dict[str, Any]) -> None:
    """A Tune function: like `worker.trial`, in `config["workers"]` processes of `cpus` and `gpus` each."""
    import ray.train
    from ray import tune
    from ray.train.torch import TorchConfig, TorchTrainer

    from plm.spec import from_json
    from plm.store import Store
    from sweeps.engine.worker import Outcome, reported

    gpus, store = config["gpus"], Store.at(config["store"])
    # Ray remembers a group by folder and name and would go on from its own notes; ours are the run's folder.
    scratch = f"scratch/{uuid.uuid4().hex}"
    trainer = TorchTrainer(
        member,  # type: ignore[arg-type]  # Ray's annotation has not heard of what a worker returns
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config["workers"],
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": config["cpus"], **({"GPU": gpus} if gpus else {})},
        ),
        run_config=ray.train.RunConfig(
            name="group",
            storage_path=f"{store.bucket.path}/{scratch}" if store.bucket else store.where(scratch),
            storage_filesystem=store.bucket.filesystem() if store.bucket else None,
            failure_config=ray.train.FailureConfig(max_failures=DEATHS),
        ),
    )
    try:
        outcome = Outcome(**trainer.fit().return_value)  # type: ignore[attr-defined]  # nor this one
    except Exception as error:  # the group could not be kept alive
        outcome = Outcome("", "failed", {}, error=_last_words(error))
        note_failure(from_json(config["spec"]), store, outcome.error, trace=str(error))
    finally:
        _clear(store, scratch)
    tune.report(reported(outcome))


def _clear(store: Store, scratch: str) -> None:
    """Remove Ray's notes on a group, as many as can be."""
    with contextlib.suppress(OSError):
        if store.bucket:
            store.delete(scratch)
        else:
            shutil.rmtree(store.root / scratch, ignore_errors=True)  # one that stays does not keep the others
            (store.root / "scratch").rmdir()  # another group's may be in it


def member(config: dict[str, Any]) -> dict[str, Any]:
    """One process of the group: the outcome, which is the same in all of them.

    Raises:
        RuntimeError: this process failed. The others would wait for it in their next exchange; so Ray is to see it, and
            starts the group again as after a death, `DEATHS` times.
    """
    from sweeps.engine.worker import run_trial

    outcome = run_trial(config)
    if outcome.status == "failed":
        raise RuntimeError(outcome.error)
    return asdict(outcome)


def _last_words(error: Exception) -> str:
    """What each process that failed said at the end."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    said = {rank: str(failure).strip().splitlines()[-1:] for rank, failure in sorted(failures.items())}
    return (
        "; ".join(f"worker {rank}: {''.join(line)}" for rank, line in said.items())
        or f"{type(error).__name__}: {error}"
    )


def note_failure(spec: Spec, store: Store, error: str, trace: str) -> None:
    """Leave in a run's folder that its group failed, unless the process that writes there has said so itself."""
    from plm.claim import Busy

    folder = store.run(spec)
    if folder.status() in ("failed", "diverged", "done"):
        return
    with contextlib.suppress(Busy), folder.claim(spec) as attempt:  # busy: on another node, its lease not stale yet
        folder.put("error.txt", trace.encode())
        attempt.end("failed", error=error)
