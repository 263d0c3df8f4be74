"""One trial in several processes: a Ray Train group that trains one run together.

The Tune function that starts the group only waits for it, so it asks for no CPU: a driver that held one would keep its own
workers from starting. Which process does what is `plm.parallel`'s business.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from dataclasses import asdict
from typing import Any

DRIVER = {"CPU": 0.0, "memory": 1.0}
"""No share of a CPU, which would be missing from the last worker's; Tune wants a trial to ask for something, so a byte."""
DEATHS = 3
"""How often a group is started again after one of its processes died; it goes on from the newest checkpoint."""


def group_trial(config: dict[str, Any]) -> None:
    """A Tune function: like `worker.trial`, in `config["workers"]` processes of `cpus` and `gpus` each."""
    import ray.train
    from ray import tune
    from ray.train.torch import TorchConfig, TorchTrainer

    from plm.store import Store
    from sweeps.engine.worker import Outcome, reported

    gpus = config["gpus"]
    # Ray remembers a group by folder and name and would go on from its own notes; ours are the run's folder.
    scratch = Store.at(config["store"]).root / "scratch" / uuid.uuid4().hex
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
            storage_path=str(scratch),
            failure_config=ray.train.FailureConfig(max_failures=DEATHS),
        ),
    )
    try:
        outcome = Outcome(**trainer.fit().return_value)  # type: ignore[attr-defined]  # nor this one
    except Exception as error:  # the group could not be kept alive
        outcome = Outcome("", "failed", {}, error=f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        with contextlib.suppress(OSError):  # another group's may be in it
            scratch.parent.rmdir()
    tune.report(reported(outcome))


def member(config: dict[str, Any]) -> dict[str, Any]:
    """One process of the group: the outcome, which is the same in all of them."""
    from sweeps.engine.worker import run_trial

    return asdict(run_trial(config))
