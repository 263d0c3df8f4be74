"""Claims: which process trains a run.

Who trains holds the newest file of `attempts/`: creating it claims the run, renewing it keeps the claim, and it stays as the
witness of that execution. Whether a holder lives is asked of the process table where it is ours, else of the clocks: its own
says when it renewed the claim, ours for how long we have seen it do nothing. Who was seen to renew is judged by ours alone.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plm.store import RunFolder

RENEW_SECONDS, STALE_SECONDS = 10.0, 60.0

_held: set[float] = set()
"""When the claims began that this process holds."""
_heard: dict[tuple[str, int, float], tuple[float, float, bool]] = {}
"""Of holders on other machines the last renewal that was seen; when it was first seen, by the clock that never jumps; and
whether another was seen before it."""


class Busy(Exception):
    """Another live process holds the run."""


class Lost(Exception):
    """Another process has taken the run over; this one must stop and write nothing more."""


def _start_ticks(pid: int) -> str | None:
    """When a process of this machine started; None if there is no such process (or no /proc)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if stat[0] in "ZX" else stat[19]


def _machine() -> str:
    """This boot of this machine and its process namespace: where a process id means the same process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def alive(record: dict[str, Any]) -> bool:
    """Whether the process that made a record still holds it."""
    holder = record["holder"]
    if holder["machine"] == _machine() and holder["ticks"] is not None:
        ours = holder["pid"] == os.getpid()
        return _start_ticks(holder["pid"]) == holder["ticks"] and (not ours or record["started"] in _held)
    name, now = (holder["machine"], holder["pid"], record["started"]), time.monotonic()
    renewed, since, seen = _heard.get(name, (None, now, False))
    if renewed != record["renewed"]:
        since, seen = now, renewed is not None
        _heard[name] = (record["renewed"], since, seen)
    silent = now - since
    return (silent if seen else max(silent, time.time() - record["renewed"])) < STALE_SECONDS


def is_record(found: Any) -> bool:
    """Whether this can be what an execution wrote."""
    if not isinstance(found, dict) or not isinstance(holder := found.get("holder"), dict):
        return False
    texts, numbers = (holder.get("host"), holder.get("machine")), (found.get("started"), found.get("renewed"))
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, float | int) for number in (*numbers, holder.get("pid")))
        and "ticks" in holder
        and "outcome" in found
    )


@dataclass
class Attempt:
    """One execution of a run: a claim that is renewed while it lasts, and a record afterwards."""

    folder: RunFolder
    number: int
    record: dict[str, Any] = field(default_factory=dict)
    _lost: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        now = time.time()
        self.record = {
            "holder": {
                "host": socket.gethostname(),
                "machine": _machine(),
                "pid": os.getpid(),
                "ticks": _start_ticks(os.getpid()),
            },
            "started": now,
            "renewed": now,
            "step": 0,
            "total": None,
            "outcome": None,
        }

    @property
    def key(self) -> str:
        return f"{self.folder.key}/attempts/{self.number:04d}.json"

    def encoded(self) -> bytes:
        return json.dumps(self.record, indent=1).encode()

    def create(self) -> bool:
        """Claim the run with this attempt; False: another was faster."""
        _held.add(self.record["started"])  # before others of this process can find the record
        created = False
        try:
            created = self.folder.store.create(self.key, self.encoded())
        finally:
            if not created:
                self.let_go()
        return created

    def let_go(self) -> None:
        """Hold the run no more, whatever could be written of it: the disk may be full."""
        _held.discard(self.record["started"])

    def __enter__(self) -> Attempt:
        threading.Thread(target=self._renew, daemon=True, name="lease").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.let_go()

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            try:
                self.check()
                with self._writing:  # the final record must be the last one
                    if not self._ended.is_set():
                        self.record["renewed"] = time.time()
                        self.folder.store.put(self.key, self.encoded())
            except Lost:
                return
            except OSError:
                continue  # the store is away for a moment: the claim lasts until it is stale

    def check(self) -> None:
        """Raise `Lost` if a newer attempt exists."""
        later = f"{self.folder.key}/attempts/{self.number + 1:04d}.json"
        if self._lost.is_set() or self.folder.store.get(later) is not None:
            self._lost.set()
            raise Lost(f"{self.folder.run_id}: attempt {self.number} was taken over by a later one.")

    @property
    def lost(self) -> bool:
        """Whether the renewing thread has seen that the claim is gone."""
        return self._lost.is_set()

    def note(self, **details: Any) -> None:
        """Add to the record, for others to read while it lasts."""
        with self._writing:
            self.record |= details
            self.folder.store.put(self.key, self.encoded())

    def end(self, outcome: str, **details: Any) -> None:
        """Leave the final record: `done`, `repeated`, `stopped`, `failed` or `diverged`."""
        self._ended.set()
        with self._writing:
            self.record |= {"outcome": outcome, "ended": time.time(), **details}
            self.folder.store.put(self.key, self.encoded())

    def finish(self, files: dict[str, bytes]) -> None:
        """Write the run's last files, then `DONE`.

        Raises:
            Lost: the run was taken over; nothing was written.
        """
        self.check()
        for name, data in files.items():
            self.folder.put(name, data)
        sums = self.folder.sums(reading="rows.parquet" in files)
        self.end("done", sums=sums)
        self.folder.put("DONE", json.dumps(sums, indent=1).encode())
