"""The store: a folder a run, and who may write there.

Everything rests on five whole-object operations (put, get, list, create-if-absent, delete), so that any shared
filesystem will do, and so will a bucket. A run is finished when its folder holds `DONE`, which lists the SHA-256 of what
it vouches for; there is no second record. Who trains it holds a claim on it (`plm.claim`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from plm.bucket import CACHE, Bucket
from plm.claim import Attempt, Busy, alive, is_record
from plm.objects import Folder, Objects
from plm.spec import Checkpoint, from_json

if TYPE_CHECKING:
    from plm.reading import Spec

VOUCHED = ("environment.json", "metrics.jsonl", "predictions.parquet", "result.json", "spec.json")
VOUCHED_READING = ("environment.json", "result.json", "rows.parquet", "spec.json")
"""What `DONE` answers for, of a training and of a reading."""


def sha256(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Store:
    """Runs, tokenised data and sweeps, in a folder or a bucket."""

    root: Path
    """The folder; of a bucket that of this machine, for copies and for what every machine makes itself (`data/`)."""
    bucket: Bucket | None = None

    @staticmethod
    def at(location: str | Path | Store) -> Store:
        """The store at a path or an `s3://` address; nothing is created.

        Raises:
            ValueError: neither of them, or one that can't be written.
        """
        if isinstance(location, Store):
            return location
        if "://" in str(location):
            bucket = Bucket.parse(str(location))
            _writable(bucket.cache, f"Name another folder for copies of {bucket} by {CACHE}.")
            bucket.check()
            return Store(bucket.cache, bucket)
        root = Path(location).expanduser().resolve()
        for part in (root, root / "runs", root / "sweeps"):
            _writable(part, "Choose another with --store.")
        return Store(root)

    @property
    def location(self) -> str:
        """What `at` makes the same store of, on any machine."""
        return self.bucket.location if self.bucket else str(self.root)

    def where(self, key: str) -> str:
        """A key as a person writes it."""
        return f"{self.bucket or self.root}/{key}"

    @property
    def _objects(self) -> Objects:
        return self.bucket or Folder(self.root)

    def put(self, key: str, data: bytes) -> None:
        """Write a whole object; a reader sees the old one or the new one, never a part."""
        self._objects.put(key, data)

    def create(self, key: str, data: bytes) -> bool:
        """Write a whole object unless there is one; whether it was this call that made it."""
        return self._objects.create(key, data)

    def get(self, key: str) -> bytes | None:
        """A whole object; None if there is none."""
        return self._objects.get(key)

    def list(self, prefix: str) -> list[str]:
        """Names directly below a prefix, sorted; unfinished writes are not shown."""
        return self._objects.list(prefix)

    def delete(self, prefix: str) -> None:
        """Remove an object or all below a prefix."""
        self._objects.delete(prefix)

    def json(self, key: str) -> Any:
        """A whole object as JSON.

        Raises:
            ValueError: there is none, or it is damaged; the message names the file.
        """
        try:
            return json.loads(self.get(key) or b"")
        except ValueError as error:
            raise ValueError(f"{self.where(key)} is damaged ({error}). Remove it, or restore it.") from error

    def run(self, spec: Spec) -> RunFolder:
        """The folder of a run or a reading; nothing is created.

        Raises:
            ValueError: its `spec.json` is not that of the spec.
        """
        folder = RunFolder(self, spec.run_id)
        written = folder.get("spec.json")
        if written is not None and written != spec.to_json().encode():  # reading it takes thrice as long as writing
            try:
                found = from_json(written.decode())
            except FileNotFoundError:  # it names a model's folder that has moved since; where it lies is not identity
                return folder
            except ValueError as error:
                raise ValueError(f"{folder.where}/spec.json: {error} Remove the folder to run it anew.") from error
            if found != spec and found.run_id != spec.run_id:
                raise ValueError(
                    f"{folder.where}/spec.json is that of {found.run_id}: it was changed. "
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
        # Twice, because its optimizer state may be dropped while it is looked at: its run goes on.
        if not (folder.verify_checkpoint(name) or folder.verify_checkpoint(name)):
            kept = ", ".join(str(int(n.removeprefix("step_"))) for n in folder.checkpoints()) or "none"
            raise ValueError(f"{folder.run_id} has no complete checkpoint at step {checkpoint.step}; it keeps: {kept}.")
        return folder.checkpoint(name)


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
        """The folder; of a bucket that of this machine for copies, which `checkpoint` makes."""
        return self.store.root / self.key

    @property
    def where(self) -> str:
        """The folder as a person writes it."""
        return self.store.where(self.key)

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
            changed = [n for n, now in self.sums(reading="rows.parquet" in sums).items() if sums.get(n) != now]
        except (ValueError, TypeError, AttributeError):
            changed = ["DONE"]
        if changed:
            raise ValueError(
                f"{self.where}: {', '.join(changed)} changed after the run was finished. Restore "
                f"{'it' if len(changed) == 1 else 'them'}, or remove the folder to run it anew."
            )
        return True

    def sums(self, *, reading: bool) -> dict[str, str]:
        """SHA-256 of the files that `DONE` answers for, as they are now."""
        return {name: sha256(self.get(name) or b"") for name in (VOUCHED_READING if reading else VOUCHED)}

    def result(self) -> dict[str, Any]:
        """`result.json` of a finished run."""
        return json.loads(self.get("result.json") or b"{}")

    def attempts(self) -> list[dict[str, Any]]:
        """What each execution left, oldest first."""
        return [self._attempt(name) for name in self.store.list(f"{self.key}/attempts")]

    def last_attempt(self) -> dict[str, Any] | None:
        """The newest execution's record."""
        names = self.store.list(f"{self.key}/attempts")
        return self._attempt(names[-1]) if names else None

    def _attempt(self, name: str) -> dict[str, Any]:
        key = f"{self.key}/attempts/{name}"
        record: dict[str, Any] = self.store.json(key)
        if not is_record(record):
            raise ValueError(
                f"{self.store.where(key)} is damaged (no record of an execution). Remove it, or restore it."
            )
        return record

    def status(self) -> str:
        """`done`, `running`, `failed`, `diverged`, `interrupted` or `missing`."""
        if self.done:
            return "done"
        last = self.last_attempt()
        if last is None:
            return "missing"
        if last["outcome"] in ("failed", "diverged"):
            return str(last["outcome"])
        return "running" if last["outcome"] is None and alive(last) else "interrupted"

    @property
    def held(self) -> bool:
        """Whether a live process is at it; whether it is done is not asked."""
        last = self.last_attempt()
        return last is not None and last["outcome"] is None and alive(last)

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
            if last is not None and last["outcome"] == "done" and not alive(last):
                self.put("DONE", json.dumps(last["sums"], indent=1).encode())  # it ended between its record and this
            if self.get("DONE") is not None and not again:
                raise Busy(f"{self.run_id} was finished meanwhile.")
            held = (None,) if again else (None, "done")  # between its record and DONE, a run is still its trainer's
            if last is not None and last["outcome"] in held and alive(last):
                raise Busy(
                    f"{self.run_id} is being trained by process {last['holder']['pid']} on {last['holder']['host']}."
                )
            attempt = Attempt(self, number)
            if attempt.create():
                try:
                    if self.get("DONE") is not None and not again:  # finished since we looked
                        attempt.let_go()
                        self.store.delete(attempt.key)
                        continue
                    if self.get("spec.json") is None:
                        self.put("spec.json", spec.to_json().encode())
                    self.store.delete(f"{self.key}/error.txt")
                except OSError:
                    attempt.let_go()
                    raise
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
        return file in _sums(self.get(f"checkpoints/{name}/manifest.json"))

    def put_checkpoint(self, step: int, files: dict[str, bytes]) -> None:
        """Publish a checkpoint; it exists once its manifest does."""
        for name, data in files.items():
            self.put(f"checkpoints/{step_name(step)}/{name}", data)
        manifest = {name: sha256(data) for name, data in sorted(files.items())}
        self.put(f"checkpoints/{step_name(step)}/manifest.json", json.dumps(manifest, indent=1).encode())

    def checkpoint(self, name: str) -> Path:
        """The folder of a checkpoint on this machine: of a bucket a copy of what its manifest names, made or completed now."""
        key = f"{self.key}/checkpoints/{name}"
        manifest = self.get(f"checkpoints/{name}/manifest.json")
        if self.store.bucket and manifest is not None:
            here = Folder(self.store.root)
            for file, expected in _sums(manifest).items():
                if sha256(here.get(f"{key}/{file}") or b"") != expected:
                    _copy(self.store.bucket, here, f"{key}/{file}")
            here.put(f"{key}/manifest.json", manifest)
        return self.path / "checkpoints" / name

    def verify_checkpoint(self, name: str) -> bool:
        """Whether every file of a checkpoint is there and unchanged."""
        sums = _sums(self.get(f"checkpoints/{name}/manifest.json"))
        here = Folder(self.checkpoint(name)) if sums else None
        return here is not None and all(sha256(here.get(file) or b"") == expected for file, expected in sums.items())

    def drop_checkpoint(self, name: str, file: str | None = None) -> None:
        """Remove a checkpoint, or one of its files, from manifest and folder; the manifest goes first."""
        manifest = json.loads(self.get(f"checkpoints/{name}/manifest.json") or b"{}")
        if file is None:
            self.store.delete(f"{self.key}/checkpoints/{name}/manifest.json")
            self.store.delete(f"{self.key}/checkpoints/{name}")
        elif manifest.pop(file, None):
            self.put(f"checkpoints/{name}/manifest.json", json.dumps(manifest, indent=1).encode())
            self.store.delete(f"{self.key}/checkpoints/{name}/{file}")


def _sums(manifest: bytes | None) -> dict[str, str]:
    """The files that a manifest names, with their SHA-256; none if there is no manifest, or it is damaged.

    One that names a file outside of its folder is.
    """
    try:
        sums = json.loads(manifest or b"{}")
        return {} if any(PurePosixPath(file).name != file or file == ".." for file in sums) else dict(sums)
    except (ValueError, AttributeError, TypeError):
        return {}


def _copy(bucket: Bucket, here: Folder, key: str) -> None:
    """Make a file on this machine what it is in a bucket."""
    data = bucket.get(key)
    here.delete(key) if data is None else here.put(key, data)


def _writable(folder: Path, otherwise: str) -> None:
    """Refuse a folder that cannot be written, or not be made."""
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(
            f"store {folder}: {there} {'cannot be written' if there.is_dir() else 'is not a folder'}. {otherwise}"
        )
