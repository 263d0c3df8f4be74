"""The planner, the schedule and the ledger at many runs: how their time and memory grow.

`python -m benchmarks.ledger [--runs 100000] [--steps 1000] [--wait 20]` plans that many fine-tunings of a tiny BERT on an
empty store, steps a schedule through some of them, writes finished run folders for all (the files that do not tell runs
apart are hard links), plans again on that ledger, and writes the record and `results.parquet`. Each line is seconds of this
process's CPU and of the clock, microseconds of CPU a run, and the peak resident memory so far. Nothing is trained. With
`--wait` each object that is asked for comes so many milliseconds later, as from a bucket or a busy file server.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.tiny import tiny_bert, write_task


@contextmanager
def measured(what: str, count: int) -> Iterator[None]:
    """Print what a block took."""
    began, busy = time.monotonic(), time.process_time()
    yield
    seconds, busy = time.monotonic() - began, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    each = f"{busy:8.1f} s CPU {seconds:8.1f} s {busy / count * 1e6:9.0f} us/run"
    print(f"{what:<34} {each}   peak {peak:6.0f} MB", flush=True)


def sweep_of(folder: Path, runs: int) -> Any:
    """A sweep of so many runs: two learning rates, and seeds."""
    from plm import finetune, steps
    from search_spaces.finetuning import learning_rates
    from search_spaces.seeds import seeds
    from sweeps.engine.sweep import Curve, Sweep

    def run(*, lr: float, seed: int) -> Any:
        return finetune(str(folder / "task"), init=str(folder / "model"), seed=seed, duration=steps(2), lr=lr)

    return Sweep(
        run,
        over={"lr": learning_rates(1e-4, 5e-4), "seed": seeds(runs // 2)},
        baseline=lambda cell: cell | {"lr": 1e-4},
        arms=("lr",),
        curve=Curve(axis="lr", position=float, label="learning rate", line="lr"),
    )


def linked(source: Path, to: Path) -> None:
    """The same file under another name; a copy once a filesystem allows no more names (ext4: 65,000)."""
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)


def finish_all(planned: Any, store: Any) -> None:
    """Finished run folders without training."""
    from plm.store import VOUCHED, sha256

    same = store.root / "same"
    same.mkdir()
    result = {"metrics": {"val/score": 0.5, "val/loss": 0.7}, "seconds": 1.0, "flops": 1.0, "tokens": 1, "notes": []}
    holder = {"host": "another", "machine": "another", "pid": 1, "ticks": None}
    attempt = {"outcome": "done", "holder": holder, "started": 0.0, "renewed": 0.0, "step": 2, "total": 2}
    files = dict.fromkeys(VOUCHED, b"x" * 600) | {
        "result.json": json.dumps(result | {"steps": 2}).encode(),
        "environment.json": json.dumps([{"device": "cpu", "threads": 1, "versions": {"torch": "0"}}]).encode(),
        "attempt": json.dumps(attempt).encode(),
    }
    for name, data in files.items():
        (same / name).write_bytes(data)
    sums = {name: sha256(files[name]) for name in VOUCHED}
    for run_id, spec in planned.runs.items():
        folder = store.root / "runs" / run_id
        (folder / "attempts").mkdir(parents=True)
        for name in VOUCHED:
            if name != "spec.json":
                linked(same / name, folder / name)
        linked(same / "attempt", folder / "attempts" / "0001.json")
        written = spec.to_json().encode()
        (folder / "spec.json").write_bytes(written)
        (folder / "DONE").write_text(json.dumps(sums | {"spec.json": sha256(written)}))


def answer_late(seconds: float) -> None:
    """Let every object of a store be that far away."""
    from plm.objects import Folder

    def late(ask: Any) -> Any:
        def asked(*given: Any) -> Any:
            time.sleep(seconds)
            return ask(*given)

        return asked

    own: Any = Folder
    own.get, own.list = late(Folder.get), late(Folder.list)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=1000, help="runs that the schedule hands out and hears of")
    parser.add_argument("--wait", type=float, default=0.0, help="milliseconds")
    given = parser.parse_args()
    from plm import Store
    from sweeps.engine import record
    from sweeps.engine.plan import plan
    from sweeps.engine.schedule import Schedule

    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    try:
        tiny_bert(folder / "model")
        write_task(folder / "task")
        sweep, store = sweep_of(folder, given.runs), Store.at(folder / "store")
        with measured("plan, nothing there", given.runs):
            planned = plan(sweep, store)
        schedule, steps = Schedule(planned, store=store), min(given.steps, given.runs)
        with measured(f"schedule, {steps} runs of them", steps):
            for _ in range(steps):
                spec = schedule.next()
                assert spec is not None
                schedule.ended(spec.run_id, "done")
        store.root.mkdir(parents=True)
        with measured("(writing the folders)", given.runs):
            finish_all(planned, store)
        if given.wait:
            answer_late(given.wait / 1000)
        with measured("plan, all there", given.runs):
            planned = plan(sweep, store)
        assert not planned.missing
        with measured("record of what was asked", given.runs):
            record.note_cells(planned, store)
        with measured("results.parquet", given.runs):
            record.save(sweep, store)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
