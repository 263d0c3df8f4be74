"""Memory of a warm actor over many trials: it must not grow.

`python -m benchmarks.memory [--trials 50] [--model DIR --task DIR]` runs that many short fine-tunings in one process, as an
actor would, and prints the resident memory after the fifth and after the last, and their ratio.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.tiny import tiny_bert, write_task


def resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    """Run the trials, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--model")
    parser.add_argument("--task")
    given = parser.parse_args()
    from plm import Execution, Store, finetune, reinit, steps
    from plm.models import shape
    from plm.recipes import model
    from sweeps.engine.worker import execute, quiet

    quiet()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not given.model:
            tiny_bert(folder / "model")
        if not given.task:
            write_task(folder / "task")
        source = model(str(Path(given.model or folder / "model").resolve()))
        layers = shape(source).num_hidden_layers
        after: list[float] = []
        for trial in range(given.trials):
            init = reinit(source, range(layers - trial % (layers + 1), layers), seed=trial)
            spec = finetune(
                str(Path(given.task or folder / "task").resolve()), init=init, size=32, seed=trial, duration=steps(2)
            )
            outcome = execute(spec, Store.at(folder / "store"), Execution())
            assert outcome.status == "done", outcome
            after.append(resident())
    print(f"resident memory: {after[4]:.0f} MB after 5 trials, {after[-1]:.0f} MB after {given.trials}")
    print(f"ratio: {after[-1] / after[4]:.3f}")


if __name__ == "__main__":
    main()
