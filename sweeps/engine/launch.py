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
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from plm import stand_ins
from sweeps.engine.sweep import Sweep, check, described

if TYPE_CHECKING:
    from rich.console import Console

    from plm.reading import Spec
    from plm.store import Store
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
        with stand_ins.allowed() if given.dry_run else contextlib.nullcontext():
            return _main(sweep, given)
    except (ValueError, OSError) as error:
        print(f"{given.prog}: {error}", file=sys.stderr)
        return SOME_FAILED if given.started else WRONG
    except KeyboardInterrupt:  # while planning: nothing was started
        return 128 + signal.SIGINT
    except SystemExit as end:
        if end.code == signal.SIGTERM:  # Ray's own handler, while Ray starts: nothing else was started
            return 128 + signal.SIGTERM
        raise
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
    parser.add_argument(
        "--address",
        default=os.environ.get("RAY_ADDRESS"),
        help="a Ray cluster to join (default: $RAY_ADDRESS, else one on this machine)",
    )
    parser.add_argument("--workers", type=_whole, default=1, help="processes that train a run together (default: 1)")
    parser.add_argument("--shard", action="store_true", help="spread a model's weights over its workers (FSDP)")
    parser.add_argument("--cpus", type=_whole, default=1, help="CPUs, and threads, of one worker (default: 1)")
    parser.add_argument(
        "--gpus", type=_share, default=0.0, help="GPUs of one worker; a fraction shares one (default: 0)"
    )
    parser.add_argument("--max-concurrent", type=_whole, help="trials at a time, at most (default: as many as fit)")
    parser.add_argument(
        "--num-trials", type=_whole, help="configurations that a search tries, those of earlier calls included"
    )
    parser.add_argument("--state", metavar="DIR", help="where a search's database lies (default: in the store)")
    parser.add_argument("--keep-weights", action="store_true", help="keep the final weights of fine-tuning runs")
    parser.add_argument(
        "--live", action="store_true", help="ask teachers at each step, also where storing what they say is cheaper"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="start from a checkpoint as soon as it is there, while its run still trains, here or in another process",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would run and what it costs, and stop")
    parser.add_argument(
        "--rate", type=_rate, metavar="FLOPS", help="of --dry-run: GPU-hours by so many FLOPs a second, without a probe"
    )
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
    lines = [f"  {name:<10} {values}\n{'':13}({form})" for name, (values, form) in described(sweep).items()]
    return "axes and their default values:\n" + "\n".join(lines)


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of FLOPs a second, such as 5e13")
    return value


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
        given[name] = values
    check(sweep, given)
    return given


def _main(sweep: Sweep, given: argparse.Namespace) -> int:
    if given.shard and given.workers == 1:
        raise ValueError("--shard spreads a model over several workers: ask for them with --workers.")
    if given.workers > 1 and 0 < given.gpus < 1:
        raise ValueError(
            f"--gpus {given.gpus:g} with --workers {given.workers}: the workers of a run exchange gradients GPU to GPU, and "
            "two of them cannot share one. Give each a whole one: --gpus 1."
        )
    if given.local and given.workers > 1:
        raise ValueError("--local is this process alone: leave it out to train with several workers.")
    if given.local and (given.max_concurrent or 1) > 1:
        raise ValueError(f"--local runs one trial at a time: leave it out for --max-concurrent {given.max_concurrent}.")
    if sweep.space is None and (given.num_trials or given.state):
        raise ValueError(
            "--num-trials and --state are for searches; this sweep is a grid: its axes say how many runs it has."
        )
    if sweep.space and given.follow:
        raise ValueError("--follow is for grids: what a search starts from is made before it.")
    axes = _read_axes(sweep, given.axes)  # before the heavier imports: a wrong word answers at once

    from rich.console import Console

    from plm.store import Store
    from sweeps.engine import show
    from sweeps.engine.plan import plan
    from sweeps.engine.worker import Resources

    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    store = Store.at(given.store)
    resources = Resources(given.cpus, given.gpus, given.workers, given.shard, given.live)
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False)
    if sweep.space:
        return _search(sweep, axes, store, resources, given, console)
    planned = plan(sweep, store, axes, smoke=given.smoke)
    for line in planned.left_out:
        console.print(line, highlight=False, soft_wrap=True)
    if given.table:
        show.grid(planned, store, console, draw=False)
        return DONE
    if given.dry_run:
        if not given.address:
            _check_here(resources)
        at_a_time = 0 if given.local else _concurrency(given)
        show.grid_cost(planned, store, resources, at_a_time, given.rate, console)
        return DONE
    from sweeps.engine.follow import Follow
    from sweeps.engine.schedule import Schedule

    schedule = Schedule(planned, store=store, follow=Follow(store) if given.follow else None)
    return _execute(schedule, store, resources, given, console, lambda: show.grid(planned, store, console, draw=True))


def _search(
    sweep: Sweep, axes: dict[str, str], store: Store, resources: Resources, given: argparse.Namespace, console: Console
) -> int:
    from sweeps.engine import show
    from sweeps.engine.setting import setting

    asked = setting(sweep, axes, smoke=given.smoke)
    trials = given.num_trials or asked.sweep.search.trials
    if given.table:
        show.search(asked, store, console, draw=False)
        return DONE
    if not given.address:
        _check_here(resources)
    if given.dry_run:
        at_a_time = 0 if given.local else _concurrency(given)
        show.search_cost(asked, trials, store, resources, at_a_time, given.rate, console)
        return DONE
    from sweeps.engine.schedule import Schedule
    from sweeps.engine.search import Explorer
    from sweeps.engine.study import database

    # The study is written when it is opened, so what can be refused is refused before.
    path, parents = database(store.root, given.state), asked.parents(store)
    if given.address and not given.local:
        with _connected(resources, given):
            pass
    with contextlib.closing(asked.study(path)) as study:
        explorer = Explorer(asked, store, study, trials=trials, at_a_time=_concurrency(given))
        schedule = Schedule(explorer.plan(parents), explorer, store)
        console.print(
            f"search {asked.name}: {trials} configurations of {len(asked.seeds)} seeds; {explorer.known} known"
            + (f", {explorer.taken_over} of them taken over from other searches" if explorer.taken_over else ""),
            highlight=False,
        )
        status = _execute(
            schedule, store, resources, given, console, lambda: show.search(asked, store, console, draw=True)
        )
        show.search_end(explorer, trials, console)
        return SOME_FAILED if explorer.diverged else status


def _concurrency(given: argparse.Namespace) -> int:
    """Trials at a time on this machine."""
    from sweeps.engine.worker import Resources

    here = Resources(given.cpus, given.gpus).fit(os.cpu_count() or 1, _gpus() if given.gpus else 0)
    fit = max(1, here // given.workers)
    return 1 if given.local else min(fit, given.max_concurrent or fit)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _check_here(resources: Resources) -> None:
    """Refuse at once what this machine cannot give."""
    cpus, gpus = os.cpu_count() or 1, _gpus() if resources.gpus else 0
    if resources.workers * resources.cpus > cpus or resources.workers * resources.gpus > gpus:
        raise ValueError(
            f"a trial asks for {resources}; this machine has {cpus} CPUs and {gpus} GPUs. Ask for less with "
            "--workers, --cpus and --gpus, or join a cluster with --address."
        )


def _execute(
    schedule: Schedule,
    store: Store,
    resources: Resources,
    given: argparse.Namespace,
    console: Console,
    show: Callable[[], None],
) -> int:
    from sweeps.engine.record import note_cells
    from sweeps.engine.show import repeated
    from sweeps.engine.tracking import Pusher

    received, planned = list[int](), schedule.plan
    with contextlib.nullcontext() if schedule.exhausted else _connected(resources, given), _signals(received):
        if schedule.source:
            schedule.source.record(schedule)
        else:
            note_cells(planned, store)
        given.started = True
        console.print(
            f"{len(planned.runs)} runs: {schedule.count('done')} finished before, {len(planned.missing)} to run"
            + (f", and at most {schedule.source.unasked} of new configurations" if schedule.source else ""),
            highlight=False,
        )
        repeated(planned, console)
        with Pusher(store, given.tracking_uri, planned.sweep.name) as pusher:
            if not schedule.exhausted:
                _run(schedule, store, resources, given, console, received)
            _stop_if(received)
            show()
    if message := pusher.message:
        console.print(message, highlight=False, soft_wrap=True)
    return DONE if schedule.succeeded else SOME_FAILED


@contextlib.contextmanager
def _connected(resources: Resources, given: argparse.Namespace) -> Iterator[None]:
    """Be connected to a Ray that can hold the trials, where one is needed; refused before anything is written."""
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

    def flops(spec: Spec) -> float:
        return cost.flops(spec, store)

    with Progress(schedule, store, flops, _concurrency(given), console) as progress:
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
