"""The command line of every sweep: `python -m sweeps.<name> [axis=values ...] [flags]`.

Plan first; then print the plan, print the table, or run what is missing and answer. A wrong command ends with status 2
before anything is started.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from search_spaces.axis import Axis
from sweeps.engine.sweep import Sweep

if TYPE_CHECKING:
    from rich.console import Console

    from plm.store import Store
    from sweeps.engine.plan import Plan
    from sweeps.engine.schedule import Schedule
    from sweeps.engine.worker import Resources

DONE, SOME_FAILED, WRONG = 0, 1, 2


class Interrupted(BaseException):
    """A signal asked the sweep to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def launch(sweep: Sweep, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line of a sweep, and exit with its status."""
    sys.exit(main(sweep, arguments))


def main(sweep: Sweep, arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: all done; 1: some run failed or diverged; 2: the command was wrong; 130, 143: interrupted, resumable."""
    given = parser(sweep).parse_intermixed_args(arguments)
    try:
        return _main(sweep, given)
    except (ValueError, OSError) as error:
        print(f"{given.prog}: {error}", file=sys.stderr)
        return SOME_FAILED if given.started else WRONG
    except KeyboardInterrupt:  # while planning: nothing was started
        return 128 + signal.SIGINT
    except Interrupted as interrupted:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return interrupted.status


def parser(sweep: Sweep) -> argparse.ArgumentParser:
    """The flags, the same for every sweep, and the sweep's axes."""
    prog = f"python -m sweeps.{sweep.name}"
    parser = argparse.ArgumentParser(
        prog=prog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=sys.modules[sweep.run.__module__].__doc__,
        epilog=_describe_axes(sweep),
    )
    parser.add_argument(
        "axes", nargs="*", metavar="axis=values", help="narrow or replace an axis: size=500,5000 seed=0:5"
    )
    parser.add_argument("--store", default="./runs", help="where runs are kept (default: ./runs)")
    parser.add_argument(
        "--tracking-uri",
        default=os.environ.get("PLM_TRACKING_URI"),
        help="an MLflow server to show the runs on (default: $PLM_TRACKING_URI, else <store>/mlflow.db)",
    )
    parser.add_argument("--address", help="a Ray cluster to join (default: one on this machine)")
    parser.add_argument("--cpus", type=_whole, default=1, help="CPUs, and threads, of one trial (default: 1)")
    parser.add_argument(
        "--gpus", type=_share, default=0.0, help="GPUs of one trial; a fraction shares one (default: 0)"
    )
    parser.add_argument("--max-concurrent", type=_whole, help="trials at a time, at most (default: as many as fit)")
    parser.add_argument("--keep-weights", action="store_true", help="keep the final weights of fine-tuning runs")
    parser.add_argument("--dry-run", action="store_true", help="print what would run and what it costs, and stop")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="one seed, the first and last value of every axis, few steps: does it run at all?",
    )
    parser.add_argument("--local", action="store_true", help="this process, one run at a time, no Ray")
    parser.add_argument("--table", action="store_true", help="print what is known so far and stop")
    parser.set_defaults(prog=prog, started=False)
    return parser


def _describe_axes(sweep: Sweep) -> str:
    lines = []
    for name in sweep.axes:
        axis = sweep.axis(name)
        lines.append(f"  {name:<10} {', '.join(map(str, axis.values))}\n{'':13}({axis.form})")
    return "axes and their default values:\n" + "\n".join(lines)


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1024 or (value > 1 and value != int(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GPUs: a fraction of one, or a whole number")
    return value


def _read_axes(sweep: Sweep, items: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for item in items:
        name, equals, values = item.partition("=")
        if not equals:
            raise ValueError(f"{item!r} is not of the form axis=values. The axes are {', '.join(sweep.axes)}.")
        if name in given:
            raise ValueError(f"axis {name} is given twice; separate values by commas: {name}={given[name]},{values}")
        axis: Axis = sweep.axis(name)
        try:
            axis.read(values)
        except ValueError as error:
            raise ValueError(f"axis {name}: {error}") from error
        given[name] = values
    return given


def _main(sweep: Sweep, given: argparse.Namespace) -> int:
    axes = _read_axes(sweep, given.axes)  # before the heavier imports: a wrong word answers at once

    from rich.console import Console

    from plm.store import Store
    from sweeps.engine.plan import plan
    from sweeps.engine.worker import Resources

    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    store, resources = Store.at(given.store), Resources(given.cpus, given.gpus)
    planned = plan(sweep, store, axes, smoke=given.smoke)
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False)
    if given.table:
        _show(planned, store, console, draw=False)
        return DONE
    if given.dry_run:
        _dry_run(planned, store, resources, given, console)
        return DONE
    status = _execute(planned, store, resources, given, console)
    return status


def _concurrency(given: argparse.Namespace) -> int:
    """Trials at a time on this machine."""
    fit = max(1, (os.cpu_count() or 1) // given.cpus)
    if given.gpus:
        fit = min(fit, max(1, int(_gpus() / given.gpus)))
    return 1 if given.local else min(fit, given.max_concurrent or fit)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _check_here(resources: Resources) -> None:
    """Refuse at once what this machine cannot give."""
    cpus, gpus = os.cpu_count() or 1, _gpus() if resources.gpus else 0
    if resources.cpus > cpus or resources.gpus > gpus:
        raise ValueError(
            f"a trial asks for {resources.cpus} CPUs and {resources.gpus:g} GPUs; this machine has {cpus} CPUs "
            f"and {gpus} GPUs. Ask for less with --cpus and --gpus, or join a cluster with --address."
        )


def _dry_run(planned: Plan, store: Store, resources: Resources, given: argparse.Namespace, console: Console) -> None:
    from sweeps.engine.cost import check_space, detectable, estimate, spreads_of
    from sweeps.engine.progress import duration
    from sweeps.engine.results import arms

    if not given.address:
        _check_here(resources)
    parents = [r for r in planned.missing if r in planned.keep]
    console.print(
        f"{len(planned.cells)} cells, {len(planned.runs)} runs: {len(planned.runs) - len(planned.missing)} finished, "
        f"{len(planned.missing)} to run ({len(parents)} of them parents of others)",
        highlight=False,
    )
    cost = estimate(planned, store, resources, _concurrency(given), given.local)
    console.print(
        f"{cost.flops:.2e} FLOPs, {cost.bytes / 1e6:.1f} MB to keep, "
        f"about {duration(cost.wall_seconds)} with {_concurrency(given)} at a time, {cost.gpu_hours:.2f} GPU-hours",
        highlight=False,
    )
    console.print(
        detectable(planned, spreads_of([a.difference.values for a in arms(planned, store) if a.difference])),
        highlight=False,
        soft_wrap=True,
    )
    check_space(cost, store)


def _execute(planned: Plan, store: Store, resources: Resources, given: argparse.Namespace, console: Console) -> int:
    from sweeps.engine.results import note_cells
    from sweeps.engine.schedule import Schedule
    from sweeps.engine.tracking import Pusher

    schedule, received = Schedule(planned), list[int]()
    with _connected(schedule, resources, given), _signals(received):
        note_cells(planned, store)
        given.started = True
        console.print(
            f"{len(planned.runs)} runs: {schedule.count('done')} finished before, {len(planned.missing)} to run",
            highlight=False,
        )
        with Pusher(store, given.tracking_uri, planned.sweep.name) as pusher:
            if not schedule.exhausted:
                _run(schedule, store, resources, given, console, received)
            _stop_if(received)
            _show(planned, store, console, draw=True)
    if message := pusher.message:
        console.print(message, highlight=False, soft_wrap=True)
    return DONE if schedule.count("done") == len(schedule.state) else SOME_FAILED


@contextlib.contextmanager
def _connected(schedule: Schedule, resources: Resources, given: argparse.Namespace) -> Iterator[None]:
    """Be connected to a Ray that can hold the trials, where one is needed; refused before anything is written."""
    if schedule.exhausted:
        yield
        return
    if not given.address:
        _check_here(resources)
    if given.local:
        yield
        return
    from sweeps.engine import tune

    with tune.cluster(given.address):
        tune.check_resources(resources)
        yield


def _run(
    schedule: Schedule,
    store: Store,
    resources: Resources,
    given: argparse.Namespace,
    console: Console,
    received: list[int],
) -> None:
    from sweeps.engine import cost, local
    from sweeps.engine.progress import Progress

    costs = {run_id: cost.flops(schedule.plan.runs[run_id]) for run_id in schedule.plan.missing}
    with Progress(schedule, store, costs, _concurrency(given), console) as progress:
        if given.local:
            local.run(schedule, store, resources, progress, lambda: bool(received), given.keep_weights)
        else:
            from sweeps.engine import tune

            def check() -> None:
                _stop_if(received)

            tune.run(schedule, store, resources, progress, check, given.max_concurrent, given.keep_weights)


def _stop_if(received: list[int]) -> None:
    if received:
        raise Interrupted(received[0])


def _show(planned: Plan, store: Store, console: Console, draw: bool) -> None:
    """Print the table; write it, the results and the figures if asked to."""
    from rich.table import Table

    from sweeps.engine import results

    found = results.arms(planned, store)
    for (model, task), panel in results.panels(found):
        head, rows = results.table(panel)
        shown = Table(
            *head, title=f"{task}, {model}", caption="\n".join(results.caption(panel)), caption_justify="left"
        )
        for row in rows:
            shown.add_row(*row)
        console.print(shown)
    if draw:
        from sweeps.engine import figures

        results.save(planned, store)
        store.put(f"{results.folder(planned.sweep.name)}/table.md", results.markdown(found).encode())
        for key in figures.save(planned, found, store):
            if key.endswith(".png"):
                console.print(f"figure: {store.root / key}", highlight=False, soft_wrap=True)
        console.print(
            f"results: {store.root / results.folder(planned.sweep.name)}/results.parquet, table.md",
            highlight=False,
            soft_wrap=True,
        )


class _signals:
    """Note SIGINT and SIGTERM; what runs looks for them itself, between two steps."""

    def __init__(self, received: list[int]) -> None:
        self._received = received
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, _: object) -> None:
        self._received.append(number)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
