"""`python -m plm spec.json [--store DIR] [--cpus N]`: execute one run, or go on with it."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: done; 1: failed or diverged; 2: the command was wrong; 130, 143: interrupted, resumable."""
    parser = argparse.ArgumentParser(prog="python -m plm", description="Execute one run, or go on with it.")
    parser.add_argument("spec", type=Path, help="a spec.json, as RunSpec.to_json() writes it")
    parser.add_argument("--store", default="./runs", help="where runs are kept (default: ./runs)")
    parser.add_argument("--cpus", type=int, default=1, help="threads (default: 1)")
    given = parser.parse_args(arguments)

    from plm.spec import RunSpec
    from plm.store import Busy, Store
    from plm.train import Execution, Stopped, train

    try:
        spec = RunSpec.from_json(given.spec.read_text())
        store = Store.at(given.store)
    except (OSError, ValueError) as error:
        print(f"{given.spec}: {error}" if isinstance(error, OSError) else error, file=sys.stderr)
        return 2
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: received.append(n))
    try:
        result = train(spec, store=store, execution=Execution(threads=given.cpus), should_stop=lambda: bool(received))
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 128 + received[0]
    except Busy as busy:
        print(busy, file=sys.stderr)
        return 1
    except Exception as error:  # the traceback is in the run's error.txt
        print(f"{spec.run_id}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    for name, value in result.metrics.items():
        print(f"{name} {value:.4f}")
    print(result.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
