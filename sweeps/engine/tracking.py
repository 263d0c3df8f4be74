"""When runs are shown in MLflow, and from where: beside a sweep, or all at once by `python -m sweeps.engine.tracking`.

MLflow is a view. The run folders are the only record, so a push may be late, repeated or lost, and never makes a sweep
wait. What is shown is the business of `mlflow_view`; here are the processes that push, and what a dead server costs.

A `Pusher` starts this module as a process that pushes every few seconds. Its standard input is the engine: when that
ends (closed, or the engine is gone) the process pushes once more and exits. On its standard output it says what it is
doing, a line each time, the first word being one of `STATES`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import select
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from plm.store import Store
from sweeps.engine.mlflow_view import PushReport, View
from sweeps.engine.shown import redact

EVERY_SECONDS, ANSWER_SECONDS, STALE_SECONDS = 3.0, 2.0, 60.0
STATES = ("starting", "asking", "away", "busy", "pushing", "failed", "pushed")
PATIENCE = {"asking": 0.4, "away": 0.4, "busy": 5.0, "pushing": 11.0}
"""For how long the end of a sweep waits in a state that does not change."""
URI = "PLM_TRACKING_URI"
"""Names the server in the environment, where other users of the machine cannot read a password."""
CLIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""MLflow's own defaults block a dead server's client for four minutes; a pass that fails is simply made again. They
also print two lines and ask one question more for each run."""


class Busy(Exception):
    """Another process is pushing the same sweep to the same server."""


def push(store: Store, uri: str | None, sweeps: Sequence[str] | None = None) -> PushReport:
    """Show the sweeps of a store, all of them by default; what is shown already stays as it is.

    Raises:
        ValueError: the store has no such sweep.
        ConnectionError: the server does not answer, or not as an MLflow server that lets us in.
        Busy: another process is at it.
    """
    there = [name for name in store.list("sweeps") if store.get(f"sweeps/{name}/sweep.json") is not None]
    for name in sweeps or ():
        if name not in there:
            raise ValueError(f"store {store.location} has no sweep {name}; it has: {', '.join(there) or 'none'}.")
    if not _answers(uri):
        raise ConnectionError(f"the tracking server at {_place(store, uri)} does not answer.")
    views = [_view(store, uri, name) for name in sweeps or there]
    from mlflow.exceptions import MlflowException

    try:
        return sum((_push(view, live=False, wait=30.0) for view in views), PushReport())
    except MlflowException as error:
        said = " ".join(str(error).split())[:500]
        raise ConnectionError(f"the tracking server at {_place(store, uri)} refused: {said}") from error


def _view(store: Store, uri: str | None, sweep: str) -> View:
    for name, value in CLIENT.items():
        os.environ.setdefault(name, value)
    if uri is not None:
        return View(store, uri, sweep)
    database, artifacts = store.root / "mlflow.db", store.root / "mlflow-artifacts" / sweep
    store.root.mkdir(parents=True, exist_ok=True)  # of a bucket, that of this machine
    return View(store, f"sqlite:///{database}", sweep, artifacts.as_uri())


def _push(view: View, *, live: bool, wait: float = 0.0, tick: Callable[[], None] = lambda: None) -> PushReport:
    """One pass, by one process at a time."""
    key = f"tracking/{view.sweep}-{hashlib.sha256(view.uri.encode()).hexdigest()[:8]}"
    with _claimed(view.store, key, wait) as (number, renew):
        if number != view.turn + 1:
            view.forget()  # another process has pushed since
        view.turn = number
        if view.artifacts and not view.is_open:
            with _claimed(view.store, "tracking/database", 60.0):  # two processes must not both create the tables
                assert view.client

        def after_a_run() -> None:
            renew()
            tick()

        try:
            return view.push(live=live, tick=after_a_run)
        except Exception:
            view.forget()
            raise


def _answers(uri: str | None) -> bool:
    """Whether a server is there at all. Anything it says counts; only a gateway's word that it is gone does not."""
    import http.client
    import ssl
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    parts = urlsplit(uri or "")
    if parts.scheme not in ("http", "https"):
        return True
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=f"{parts.path.rstrip('/')}/health", query="")
    try:
        with urlopen(place.geturl(), timeout=ANSWER_SECONDS):
            return True
    except HTTPError as error:
        return error.code not in (502, 503, 504)
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # certificates are between MLflow and the server
    except (OSError, http.client.HTTPException, ValueError):
        return False


def _place(store: Store, uri: str | None) -> str:
    return redact(uri) if uri else str(store.root / "mlflow.db")


# ---------------------------------------------------------------------------------------------------------------------
# Taking turns: the newest of some numbered objects says who has the turn, or had it last


@contextlib.contextmanager
def _claimed(store: Store, key: str, wait: float) -> Iterator[tuple[int, Callable[[], None]]]:
    """Hold a claim; yields its number, which is the last one's plus one, and what renews it.

    Raises:
        Busy: a live process has held it all the while.
    """
    until = time.monotonic() + wait
    while (number := _take(store, key)) is None:
        if time.monotonic() > until:
            raise Busy("another process is pushing it.")
        time.sleep(0.1)
    mine, renewed = f"{key}/{number:08d}.json", time.monotonic()

    def renew() -> None:
        nonlocal renewed
        if time.monotonic() - renewed > STALE_SECONDS / 6:
            renewed = time.monotonic()
            store.put(mine, _record(ended=False))

    try:
        yield number, renew
    finally:
        store.put(mine, _record(ended=True))


def _take(store: Store, key: str) -> int | None:
    names = store.list(key)
    last = json.loads(store.get(f"{key}/{names[-1]}") or b'{"ended": true}') if names else {"ended": True}
    if (
        not last["ended"]
        and time.time() - last["time"] < STALE_SECONDS
        and (last["host"] != socket.gethostname() or _exists(last["pid"]))
    ):
        return None
    number = 1 + (int(names[-1].removesuffix(".json")) if names else 0)
    mine = f"{number:08d}.json"
    if not store.create(f"{key}/{mine}", _record(ended=False)):
        return None
    if store.list(key)[-1] != mine:  # the list was old, and others have had their turns meanwhile
        store.delete(f"{key}/{mine}")
        return None
    for name in names:
        store.delete(f"{key}/{name}")
    return number


def _record(ended: bool) -> bytes:
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "time": time.time(), "ended": ended}).encode()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


# ---------------------------------------------------------------------------------------------------------------------
# Beside a sweep


class Pusher:
    """Shows a sweep while it runs, from a process of its own: never raises, never waits for a dead server."""

    def __init__(self, store: Store | str | Path, uri: str | None, sweep: str) -> None:
        self.message: str | None = None
        """What the user should know at the end; None: the view is complete."""
        self._store, self._uri, self._sweep = Store.at(store), uri, sweep
        self._state, self._detail, self._since = "starting", "", time.monotonic()
        command = [
            sys.executable,
            "-m",
            "sweeps.engine.tracking",
            "--store",
            self._store.location,
            "--sweep",
            sweep,
            "--follow",
            str(os.getpid()),
        ]
        environment = {k: v for k, v in os.environ.items() if k != URI} | ({URI: uri} if uri else {})
        self._process: subprocess.Popen[str] | None = None
        try:  # in a session of its own, so that Ctrl-C in the terminal leaves it the last push
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            self.message = self._explain(str(error))
        else:
            threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True, name="tracking").start()

    def _listen(self, output: IO[str]) -> None:
        with output:
            for line in output:
                word, _, rest = line.strip().partition(" ")
                if word in STATES:
                    self._state, self._since = word, time.monotonic()
                self._detail = rest if word in STATES else line.strip()  # anything else is the end of a traceback

    def close(self, timeout: float = 60.0) -> str | None:
        """Have what is left pushed. Waits for a server that answers, at most `timeout` seconds; returns `message`."""
        process, asked = self._process, time.monotonic()
        if process is not None and process.stdin and not process.stdin.closed:
            with contextlib.suppress(OSError):
                process.stdin.close()
            while process.poll() is None and time.monotonic() < asked + timeout:
                if time.monotonic() - max(asked, self._since) > self._patience():
                    break
                time.sleep(0.02)
            complete = process.poll() == 0
            with contextlib.suppress(OSError):
                process.kill()  # harmless at any moment: the next push starts from what has arrived
            process.wait()
            self.message = None if complete else self._explain(self._detail or self._state)
        return self.message

    def _patience(self) -> float:
        return timeout if (timeout := PATIENCE.get(self._state)) and self._uri else float("inf")

    def _explain(self, detail: str) -> str:
        away = self._state in ("asking", "away")
        trouble = (
            f"the tracking server at {_place(self._store, self._uri)} does not answer"
            if away
            else f"the view at {_place(self._store, self._uri)} is not complete ({redact(detail)})"
        )
        server = f" --tracking-uri {shlex.quote(redact(self._uri))}" if self._uri else ""
        return (
            f"{trouble}; the runs are all in the store, and the view is complete again after: python -m "
            f"sweeps.engine.tracking --store {shlex.quote(self._store.location)}{server}"
        )

    def __enter__(self) -> Pusher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def follow(store: Store, uri: str | None, sweep: str, pid: int) -> int:
    """Push every few seconds until standard input ends or the process is gone, then once more."""
    os.nice(10)
    view: View | None = None
    ending, tries = False, 2
    while True:
        state, detail = "away", ""
        _say("asking")
        if _answers(uri):
            _say("pushing")
            try:
                view = view or _view(store, uri, sweep)
                report = _push(view, live=not ending, wait=10.0 if ending else 1.0, tick=lambda: _say("pushing"))
                state, detail = "pushed", str(report)
            except Busy:
                state = "busy"
            except Exception as error:  # whatever a server may answer: the next pass tries again
                state, detail = "failed", f"{type(error).__name__}: {error}"
        _say(state, detail)
        tries -= ending
        if ending and (state in ("pushed", "away") or not tries):
            return 0 if state == "pushed" else 2
        ending = ending or _wait(EVERY_SECONDS, pid)


def _say(state: str, detail: str = "") -> None:
    with contextlib.suppress(OSError):
        print(state, " ".join(redact(detail).split())[:1000], flush=True)


def _wait(seconds: float, pid: int) -> bool:
    """Wait; whether the engine wants an end, or has come to one."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        readable, _, _ = select.select([sys.stdin], [], [], max(0.0, until - time.monotonic()))
        if readable and not os.read(sys.stdin.fileno(), 4096):
            return True
    return not _exists(pid)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: the view is complete; 1: some runs cannot be shown; 2: nothing could be pushed."""
    parser = argparse.ArgumentParser(
        prog="python -m sweeps.engine.tracking", description="Show the runs of a store in MLflow."
    )
    parser.add_argument("--store", default="./runs", help="where runs are kept (default: ./runs)")
    parser.add_argument(
        "--tracking-uri",
        default=os.environ.get(URI),
        metavar="URI",
        help=f"the MLflow server (default: ${URI}, else <store>/mlflow.db)",
    )
    parser.add_argument("--sweep", action="append", metavar="NAME", help="one sweep, may be repeated (default: all)")
    parser.add_argument(
        "--follow",
        type=int,
        metavar="PID",
        help="push every few seconds until this process is gone or standard input ends",
    )
    given = parser.parse_args(arguments)
    if given.follow is not None and len(given.sweep or ()) != 1:
        parser.error("--follow takes one --sweep")
    try:
        store = Store.at(given.store)
        if not store.list(""):
            raise ValueError(f"store {store.location}: there is none. Name it with --store.")
        if given.follow is not None:
            return follow(store, given.tracking_uri, given.sweep[0], given.follow)
        report = push(store, given.tracking_uri, given.sweep)
    except (ValueError, OSError, Busy) as error:
        print(redact(str(error)), file=sys.stderr)
        return 2
    print(f"{report}: {_place(store, given.tracking_uri)}")
    for problem in report.problems:
        print(problem, file=sys.stderr)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
