"""The command line: `python -m plm spec.json` executes one run, or goes on with it; `python -m plm audit` looks at a trajectory.

Exit status of a run: 0: done; 1: failed or diverged; 2: the command was wrong; 130, 143: interrupted, resumable. Of an
audit: 0: no defect; 1: defects; 2: the command was wrong.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plm.spec import RunSpec
    from plm.store import Store
    from plm.train import Execution


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return _audit(arguments[1:]) if arguments[:1] == ["audit"] else _run(arguments)


# ---------------------------------------------------------------------------------------------------------------------
# One run


def _run(arguments: list[str]) -> int:
    given = _run_parser().parse_args(arguments)
    from plm.spec import RunSpec
    from plm.store import Store

    try:
        spec = RunSpec.from_json(given.spec.read_text())
        store = Store.at(given.store)
        execution = _execution(spec, given)
    except (OSError, ValueError) as error:
        print(f"{given.spec}: {error}" if isinstance(error, OSError) else error, file=sys.stderr)
        return 2
    return _train(spec, store, execution)


def _run_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m plm",
        description="Execute one run, or go on with it; under torchrun, in a group of processes.",
        epilog="`python -m plm audit --help`: whether the checkpoints of a trajectory are what they should be.",
    )
    parser.add_argument("spec", type=Path, help="a spec.json, as RunSpec.to_json() writes it")
    parser.add_argument("--store", default="./runs", help="where runs are kept (default: ./runs)")
    parser.add_argument("--cpus", type=int, default=1, help="threads (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 and so on (default: cpu)")
    parser.add_argument("--shard", action="store_true", help="spread the weights over the group's processes (FSDP)")
    parser.add_argument(
        "--keep",
        metavar="SCHEDULE",
        help="steps whose weights are kept, such as 0,1,...,512,1000:last:1000 (doubling to 512, then every 1000)",
    )
    return parser


def _execution(spec: RunSpec, given: argparse.Namespace) -> Execution:
    """How the run is executed.

    Raises:
        ValueError: no such device here, no threads, or a schedule beyond the run's last step.
    """
    import torch

    from plm.train import Execution
    from plm.trajectory import schedule

    if given.cpus < 1:
        raise ValueError(f"--cpus {given.cpus}: a run needs at least 1.")
    try:
        torch.empty(0, device=given.device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"--device {given.device}: {str(error).splitlines()[0]}") from error
    keep = schedule(given.keep, last=spec.total_steps) if given.keep else ()
    if keep and keep[-1] > spec.total_steps:
        raise ValueError(f"--keep {given.keep}: step {keep[-1]} is after the run's last, {spec.total_steps}.")
    return Execution(device=given.device, threads=given.cpus, keep=keep, shard=given.shard)


def _train(spec: RunSpec, store: Store, execution: Execution) -> int:
    """Train until done, failed, or told to stop by a signal."""
    from plm.claim import Busy
    from plm.parallel import joined
    from plm.train import Stopped, train

    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: received.append(n))
    with joined(execution.device) as among:  # torchrun starts this program in every process of a group
        try:
            lines = Lines(spec.total_steps)
            result = train(spec, store=store, execution=execution, reporter=lines, should_stop=lambda: bool(received))
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            return 128 + (received or [signal.SIGTERM])[0]  # another process of the group may have been told
        except Busy as busy:
            print(busy, file=sys.stderr)
            return 1
        except Exception as error:  # the traceback is in the run's error.txt
            print(f"{spec.run_id}: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
        if among.first:
            for name, value in result.metrics.items():
                print(f"{name} {value:.4f}")
            print(result.path)
    return 0


class Lines:
    """Reports progress as lines on standard error: the step, the loss, the time left."""

    def __init__(self, total: int) -> None:
        self._total, self._first = total, (0, 0.0)

    def report(self, step: int, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Print a line; time is told from the second one on, at the speed since the first."""
        said = [f"step {step:,} of {self._total:,}"]
        said += [f"{name} {metrics[name]:.4f}" for name in ("train/loss", "val/loss") if name in metrics]
        said += ["kept"] if checkpoint else []
        if metrics:
            now = time.monotonic()
            self._first = self._first if self._first[1] else (step, now)
            steps, seconds = step - self._first[0], now - self._first[1]
            said += [f"{_rounded((self._total - step) * seconds / steps)} left"] if steps and step < self._total else []
        print("  ".join(said), file=sys.stderr, flush=True)


def _rounded(seconds: float) -> str:
    """A time in the unit that leaves few digits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# ---------------------------------------------------------------------------------------------------------------------
# The audit of a trajectory


def _audit(arguments: list[str]) -> int:
    given = _audit_parser().parse_args(arguments)
    from plm.audit import audit
    from plm.trajectory import schedule, trajectory

    try:
        steps = schedule(given.steps) if given.steps else None
        where = given.trajectory[0] if len(given.trajectory) == 1 else given.trajectory
        verdict = audit(trajectory(where, steps), fetch=given.download)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(verdict.to_json() if given.json else f"{verdict.table()}\n{str(verdict).splitlines()[0]}")
    return 0 if verdict.clean else 1


def _audit_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m plm audit",
        description="Say which checkpoints are missing, damaged, copies of another, unrelated to the others, or not "
        "the step that they are named after. Nothing is trained and no model is built.",
    )
    parser.add_argument(
        "trajectory",
        nargs="+",
        help="a run's folder in a store; a folder of folders named after steps, or several such; a hub id whose "
        "branches are steps (EleutherAI/pythia-70m); or one with {step} in it (google/multiberts-seed_0-step_{step}k)",
    )
    parser.add_argument("--steps", metavar="SCHEDULE", help="the steps that should be there, such as 0:2000:100")
    parser.add_argument("--json", action="store_true", help="the verdict as JSON")
    parser.add_argument(
        "--download",
        action="store_true",
        help="fetch a hub model's weights and compare them too; otherwise the hub is asked for hashes only",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
