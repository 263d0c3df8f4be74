"""The store: a folder a run, and who may write there.

Everything rests on five whole-object operations (put, get, list, create-if-absent, delete), so that any shared
filesystem will do. A run is finished when its folder holds `DONE`, which lists the SHA-256 of what it vouches for; there
is no second record. Who trains holds the newest file of `attempts/`: creating it claims the run, renewing it keeps the
claim, and it stays as the witness of that execution.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plm.spec import Checkpoint, from_json

if TYPE_CHECKING:
    from plm.reading import Spec

RENEW_SECONDS, STALE_SECONDS = 10.0, 60.0
VOUCHED = ("environment.json", "metrics.jsonl", "predictions.parquet", "result.json", "spec.json")
VOUCHED_READING = ("environment.json", "result.json", "rows.parquet", "spec.json")
"""What `DONE` answers for, of a training and of a reading."""


class Busy(Exception):
    """Another live process holds the run."""


class Lost(Exception):
    """Another process has taken the run over; this one must stop and write nothing more."""


def sha256(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Store:
    """A folder of runs, tokenised data and sweeps."""

    root: Path

    @staticmethod
    def at(location: str | Path | Store) -> Store:
        """The store at a path; nothing is created.

        Raises:
            ValueError: not a path, or one that can't be written.
        """
        if isinstance(location, Store):
            return location
        if "://" in str(location):
            raise ValueError(f"store {location}: give a path that every node shares; object stores are not supported.")
        root = Path(location).expanduser().resolve()
        there = next(p for p in (root, *root.parents) if p.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise ValueError(
                f"store {root}: {there} {'cannot be written' if there.is_dir() else 'is not a folder'}. "
                "Choose another with --store."
            )
        for part in (root / "runs", root / "sweeps"):
            if part.exists() and not (part.is_dir() and os.access(part, os.W_OK | os.X_OK)):
                raise ValueError(
                    f"store {root}: {part} is not a folder that can be written. Choose another with --store."
                )
        return Store(root)

    def put(self, key: str, data: bytes) -> None:
        """Write a whole object; a reader sees the old one or the new one, never a part."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.parent / f".{path.name}.{uuid.uuid4().hex}"
        try:
            new.write_bytes(data)
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)

    def create(self, key: str, data: bytes) -> bool:
        """Write a whole object unless there is one; whether it was this call that made it."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.parent / f".{path.name}.{uuid.uuid4().hex}"
        try:
            new.write_bytes(data)
            os.link(new, path)
            return True
        except FileExistsError:
            return False
        finally:
            new.unlink(missing_ok=True)

    def get(self, key: str) -> bytes | None:
        """A whole object; None if there is none."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def json(self, key: str) -> Any:
        """A whole object as JSON.

        Raises:
            ValueError: there is none, or it is damaged; the message names the file.
        """
        try:
            return json.loads(self.get(key) or b"")
        except ValueError as error:
            raise ValueError(f"{self.root / key} is damaged ({error}). Remove it, or restore it.") from error

    def list(self, prefix: str) -> list[str]:
        """Names directly below a prefix, sorted; unfinished writes are not shown."""
        folder = self.root / prefix
        return sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []

    def delete(self, prefix: str) -> None:
        """Remove an object or all below a prefix."""
        path = self.root / prefix
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def run(self, spec: Spec) -> RunFolder:
        """The folder of a run or a reading; nothing is created.

        Raises:
            ValueError: its `spec.json` is not that of the spec.
        """
        folder = RunFolder(self, spec.run_id)
        written = folder.get("spec.json")
        if written is not None:
            try:
                found = from_json(written.decode())
            except FileNotFoundError:  # it names a model's folder that has moved since; where it lies is not identity
                return folder
            except ValueError as error:
                raise ValueError(
                    f"{self.root / folder.key}/spec.json: {error} Remove the folder to run it anew."
                ) from error
            if found != spec and found.run_id != spec.run_id:
                raise ValueError(
                    f"{self.root / folder.key}/spec.json is that of {found.run_id}: it was changed. "
                    "Remove the folder to run it anew."
                )
        return folder

    def checkpoint(self, checkpoint: Checkpoint) -> Path:
        """The local folder of a kept checkpoint, its files verified.

        Raises:
            ValueError: it is not there; the message lists the steps that are.
        """
        folder = self.run(checkpoint.run)
        name = step_name(checkpoint.step)
        if not folder.verify_checkpoint(name):
            kept = ", ".join(str(int(n.removeprefix("step_"))) for n in folder.checkpoints()) or "none"
            raise ValueError(f"{folder.run_id} has no complete checkpoint at step {checkpoint.step}; it keeps: {kept}.")
        return self.root / folder.key / "checkpoints" / name


def step_name(step: int) -> str:
    """`step_00000512`."""
    return f"step_{step:08d}"


@dataclass(frozen=True)
class RunFolder:
    """`<store>/runs/<run_id>/`: one run, finished or not."""

    store: Store
    run_id: str

    @property
    def key(self) -> str:
        return f"runs/{self.run_id}"

    @property
    def path(self) -> Path:
        return self.store.root / self.key

    def get(self, name: str) -> bytes | None:
        return self.store.get(f"{self.key}/{name}")

    def put(self, name: str, data: bytes) -> None:
        self.store.put(f"{self.key}/{name}", data)

    @property
    def done(self) -> bool:
        """Whether the run is finished; what `DONE` vouches for is checked.

        Raises:
            ValueError: a file is missing or was changed after it was finished.
        """
        vouched = self.get("DONE")
        if vouched is None:
            return False
        try:
            sums = json.loads(vouched)
            names = VOUCHED_READING if "rows.parquet" in sums else VOUCHED
            changed = [n for n in names if n not in sums or sha256(self.get(n) or b"") != sums[n]]
        except (ValueError, TypeError):
            changed = ["DONE"]
        if changed:
            raise ValueError(
                f"{self.path}: {', '.join(changed)} changed after the run was finished. Restore "
                f"{'it' if len(changed) == 1 else 'them'}, or remove the folder to run it anew."
            )
        return True

    def result(self) -> dict[str, Any]:
        """`result.json` of a finished run."""
        return json.loads(self.get("result.json") or b"{}")

    def attempts(self) -> list[dict[str, Any]]:
        """What each execution left, oldest first."""
        names = self.store.list(f"{self.key}/attempts")
        return [self.store.json(f"{self.key}/attempts/{n}") for n in names]

    def last_attempt(self) -> dict[str, Any] | None:
        """The newest execution's record."""
        names = self.store.list(f"{self.key}/attempts")
        return self.store.json(f"{self.key}/attempts/{names[-1]}") if names else None

    def status(self) -> str:
        """`done`, `running`, `failed`, `diverged`, `interrupted` or `missing`."""
        if self.done:
            return "done"
        last = self.last_attempt()
        if last is None:
            return "missing"
        if last["outcome"] in ("failed", "diverged"):
            return str(last["outcome"])
        return "running" if last["outcome"] is None and _alive(last) else "interrupted"

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`."""
        return [json.loads(line) for line in (self.get("metrics.jsonl") or b"").splitlines()]

    def lacks(self, keep: Iterable[int], keep_state: Iterable[int] = ()) -> tuple[int, ...]:
        """Of some steps those that have no complete checkpoint, or no optimizer state where that is asked for."""
        wanted = [(step, "model.safetensors") for step in keep] + [(s, "optimizer.safetensors") for s in keep_state]
        return tuple(sorted({step for step, file in wanted if not self.holds(step_name(step), file)}))

    def claim(self, spec: Spec, *, again: bool = False) -> Attempt:
        """Become the one process that trains this run; `again`, although it was finished before.

        Raises:
            Busy: another live process is, or the run was finished meanwhile.
        """
        while True:
            numbers = [int(n.removesuffix(".json")) for n in self.store.list(f"{self.key}/attempts")]
            number = max(numbers, default=0) + 1
            last = self.last_attempt()
            if last is not None and last["outcome"] == "done" and not _alive(last):
                self.put("DONE", json.dumps(last["sums"], indent=1).encode())  # it ended between its record and this
            if self.get("DONE") is not None and not again:
                raise Busy(f"{self.run_id} was finished meanwhile.")
            held = (None,) if again else (None, "done")  # between its record and DONE, a run is still its trainer's
            if last is not None and last["outcome"] in held and _alive(last):
                raise Busy(
                    f"{self.run_id} is being trained by process {last['holder']['pid']} on {last['holder']['host']}."
                )
            attempt = Attempt(self, number)
            if self.store.create(attempt.key, attempt.encoded()):
                if self.get("DONE") is not None and not again:  # finished since we looked
                    self.store.delete(attempt.key)
                    continue
                if self.get("spec.json") is None:
                    self.put("spec.json", spec.to_json().encode())
                self.store.delete(f"{self.key}/error.txt")
                return attempt

    # Checkpoints: a folder each, `manifest.json` last.

    def checkpoints(self) -> list[str]:
        """Names of the checkpoints that have a manifest, oldest first."""
        return [
            n
            for n in self.store.list(f"{self.key}/checkpoints")
            if self.get(f"checkpoints/{n}/manifest.json") is not None
        ]

    def holds(self, name: str, file: str) -> bool:
        """Whether a checkpoint's manifest names a file."""
        try:
            return file in json.loads(self.get(f"checkpoints/{name}/manifest.json") or b"{}")
        except ValueError:
            return False

    def put_checkpoint(self, step: int, files: dict[str, bytes]) -> None:
        """Publish a checkpoint; it exists once its manifest does."""
        for name, data in files.items():
            self.put(f"checkpoints/{step_name(step)}/{name}", data)
        manifest = {name: sha256(data) for name, data in sorted(files.items())}
        self.put(f"checkpoints/{step_name(step)}/manifest.json", json.dumps(manifest, indent=1).encode())

    def verify_checkpoint(self, name: str) -> bool:
        """Whether every file of a checkpoint is there and unchanged."""
        manifest = self.get(f"checkpoints/{name}/manifest.json")
        try:
            sums = json.loads(manifest or b"null")
            return bool(sums) and all(
                sha256(self.get(f"checkpoints/{name}/{file}") or b"") == s for file, s in sums.items()
            )
        except (ValueError, AttributeError):
            return False

    def drop_checkpoint(self, name: str, file: str | None = None) -> None:
        """Remove a checkpoint, or one of its files, from manifest and folder; the manifest goes first."""
        manifest = json.loads(self.get(f"checkpoints/{name}/manifest.json") or b"{}")
        if file is None:
            self.store.delete(f"{self.key}/checkpoints/{name}/manifest.json")
            self.store.delete(f"{self.key}/checkpoints/{name}")
        elif manifest.pop(file, None):
            self.put(f"checkpoints/{name}/manifest.json", json.dumps(manifest, indent=1).encode())
            self.store.delete(f"{self.key}/checkpoints/{name}/{file}")


# ---------------------------------------------------------------------------------------------------------------------
# Claims


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


def _alive(record: dict[str, Any]) -> bool:
    """Whether the process that made a record still holds it: asked of the process table where it is ours, else of the clock."""
    holder = record["holder"]
    if holder["machine"] == _machine() and holder["ticks"] is not None:
        return _start_ticks(holder["pid"]) == holder["ticks"]
    return time.time() - record["renewed"] < STALE_SECONDS


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

    def __enter__(self) -> Attempt:
        threading.Thread(target=self._renew, daemon=True, name="lease").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

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
        vouched = VOUCHED_READING if "rows.parquet" in files else VOUCHED
        sums = {name: sha256(self.folder.get(name) or b"") for name in vouched}
        self.end("done", sums=sums)
        self.folder.put("DONE", json.dumps(sums, indent=1).encode())
