"""A teacher's lessons on disk: what it says at the positions that are scored, kept once and read by every student.

Lessons belong to batches: to a teacher's weights, a text, what is hidden of it, and the order in which it is read. They
lie in parts of some steps, so that a schedule that ends needs fewer. Who makes them is `plm.taught`; here is their form.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plm.data.columns import Columns, Damaged, Types, Writer
from plm.external import verify
from plm.inheritance import Several, Teaching, Uniform, members
from plm.models import shape
from plm.objectives import IGNORED
from plm.objectives.inherit import Inherit, lesson, rest
from plm.spec import Checkpoint, RunSpec, digest, encode
from plm.store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from plm.objectives import Batch

FORMAT = 1
PART = 32
"""Steps of a part: what is lost when making one is interrupted."""
TEMPERATURES = (1.0, 2.0, 4.0)
"""At which the log-sum of the logits that are not kept is kept: from these it does not follow at another."""
LEFT_SECONDS = 3600.0
"""A file of a part that is being made and was last written to so long ago has no maker any more."""
LOWEST = -65504.0
"""Of float16. Logits are kept as distances from the largest: where the probability is, they are small and so exact."""
SEQUENCES: Types = {"scored": np.int32, "crc32": np.uint32}
POSITIONS: Types = {"place": np.int32, **{f"rest_{t:g}": np.float32 for t in TEMPERATURES}}

Kept = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Syllabus:
    """What lessons are of: equal readings, equal lessons."""

    description: dict[str, Any]
    vocab_size: int

    @staticmethod
    def of(spec: RunSpec, weights: dict[str, Any]) -> Syllabus:
        """What a run reads beside a teacher of these weights (`weights_of`)."""
        objective = spec.objective
        assert isinstance(objective, Inherit)
        vocab_size = shape(members(objective.teacher)[0]).vocab_size
        described = {
            "format": [FORMAT, PART, *TEMPERATURES],
            "teacher": weights,
            "masking": encode(objective.base, identity=True),
            "text": digest(spec.data),
            "order": [spec.trainer, spec.seeds.order, spec.seeds.noise],
            "batch": [spec.batch_size, spec.seq_len],
            "dtype": spec.dtype,
        }
        return Syllabus(described, vocab_size)

    @property
    def name(self) -> str:
        """16 hex digits of its content."""
        return hashlib.sha256(json.dumps(self.description, sort_keys=True).encode()).hexdigest()[:16]


def weights_of(teacher: Teaching, store: Store) -> dict[str, Any]:
    """SHA-256 of the files that make a teacher what it is; of several, of each, and how they are put together.

    The optimizer's state, which lies beside the weights while they train, is none of them.

    Raises:
        ValueError: it is not there.
    """
    from plm.checkpoint import OPTIMIZER

    assert not isinstance(teacher, Uniform), "nobody keeps what it says"
    if isinstance(teacher, Several):
        return {"by": teacher.by, "members": [weights_of(member, store) for member in teacher.members]}
    if isinstance(teacher, Checkpoint):
        files = json.loads((store.checkpoint(teacher) / "manifest.json").read_text())
    else:
        verify(teacher)
        files = dict(teacher.files)
    tensors = {name for name in files if name.endswith(".safetensors")} - {OPTIMIZER}
    return {name: sha for name, sha in sorted(files.items()) if name in {"config.json", *tensors}}


class Part(NamedTuple):
    """The lessons of some steps."""

    sequences: Columns
    """A row a sequence: positions that are scored, and a checksum of what the teacher read."""
    positions: Columns
    """A row a scored position: its place in the sequence, and the log-sum of what is not kept."""
    logits: Columns
    """Kept logits, largest first, and their tokens; of all logits, in order."""
    starts: NDArray[np.int64]
    """The first position of each sequence, and the end of the last."""

    def of(self, first: int, rows: int) -> tuple[int, int]:
        """The positions of some sequences."""
        return int(self.starts[first]), int(self.starts[first + rows])


class Lessons:
    """The lessons of one syllabus in one folder."""

    def __init__(self, folder: Path, syllabus: Syllabus, top_k: int) -> None:
        """Open a folder, made on first use.

        Args:
            top_k: Logits kept of each position; 0: all.

        Raises:
            ValueError: it holds other lessons.
        """
        self.folder, self.syllabus, self.top_k = folder, syllabus, top_k
        self._kept = top_k or syllabus.vocab_size
        token = np.uint16 if syllabus.vocab_size <= 1 << 16 else np.uint32
        self._logits: Types = {"logit": np.float16} | ({"token": token} if top_k else {})
        self._part = lru_cache(maxsize=2)(self._open)
        self._agree(json.loads(json.dumps(syllabus.description | {"top_k": top_k})))

    def _agree(self, description: dict[str, Any]) -> None:
        """Note what the folder is of; refuse one that is of something else."""
        text, store = json.dumps(description, indent=1).encode(), Store(self.folder)
        if store.create("lessons.json", text):
            return
        there = store.json("lessons.json")
        other = [name for name in description if there.get(name) != description[name]]
        if other:
            raise ValueError(
                f"the lessons in {self.folder} are of another {other[0]}: {there.get(other[0])} instead of "
                f"{description[other[0]]}. They were moved or changed: delete the folder and run again."
            )

    @staticmethod
    def find(folder: Path, syllabus: Syllabus, needed: int, top_k: int, *, exactly: int | None = None) -> Lessons:
        """Those in a folder that say enough with the fewest logits; where there are none, new ones.

        Args:
            needed: Logits of each position; 0: all.
            top_k: What others will want of them; as many as there are is all.
            exactly: Logits of those that are meant, also where they must be made again; None: any will do.
        """
        there = (re.fullmatch(r"[0-9a-f]+-(all|top(\d+))", path.name) for path in folder.glob(f"{syllabus.name}-*"))
        widths = [int(found[2] or 0) for found in there if found]
        new = max(needed, top_k) if needed else 0
        new = new if new < syllabus.vocab_size else 0
        enough = [width for width in widths if not width or width >= new > 0]
        width = exactly if exactly is not None else min(enough, key=lambda w: w or syllabus.vocab_size, default=new)
        return Lessons(folder / f"{syllabus.name}-{f'top{width}' if width else 'all'}", syllabus, width)

    def tidy(self) -> None:
        """Remove what makers left behind that were killed; one at work has written to its files lately."""
        for path in self.folder.glob(".*.arrow.*"):
            with suppress(FileNotFoundError):  # another process may tidy too
                if time.time() - path.stat().st_mtime > LEFT_SECONDS:
                    path.unlink()

    # Reading

    def read(self, step: int, batch: Batch, need: Inherit) -> Batch:
        """What a guided step reads, by row of its batch: (B, M, ...), M the most scored positions of a row.

        Raises:
            ValueError: there are none on this step, they are damaged, or on other text.
        """
        import torch

        rows = len(batch["labels"])
        part, first = self.part(step), step % PART * rows
        scored = self._check(step, batch, part, first)
        said = self.said(part, part.of(first, rows), need)
        there = np.arange(max(1, scored.max())) < scored[:, None]
        found = {"lesson_there": torch.from_numpy(there)}
        for name, values in said.items():
            padded = np.zeros((*there.shape, *values.shape[1:]), values.dtype)
            padded[there] = values
            found[f"lesson_{name}"] = torch.from_numpy(padded)
        return found

    def said(self, part: Part, bounds: tuple[int, int], need: Inherit) -> Kept:
        """Of some positions the `logits` (N, C), and where not all are wanted their `tokens` (N, C) and the `rest` (N,)."""
        import torch

        ends = (bounds[0] * self._kept, bounds[1] * self._kept)
        logits = self._read(part.logits, "logit", *ends).reshape(-1, self._kept)
        if not need.top_k:
            return {"logits": logits}
        if not self.top_k:
            whole = lesson(torch.from_numpy(logits.astype(np.float32)), need.top_k, need.rest_at)
            return {name.removeprefix("teacher_"): values.numpy() for name, values in whole.items()}
        tokens = self._read(part.logits, "token", *ends).reshape(-1, self._kept)
        found = {"logits": logits[:, : need.top_k], "tokens": tokens[:, : need.top_k].astype(np.int64)}
        if need.tail:
            others = self._read(part.positions, f"rest_{need.temperature:g}", *bounds)
            left = logits[:, need.top_k :].astype(np.float32) / np.float32(need.temperature)
            found["rest"] = np.logaddexp.reduce(np.column_stack([others, left]), axis=1)
        return found

    def _check(self, step: int, batch: Batch, part: Part, first: int) -> NDArray[np.int64]:
        """Refuse lessons on other sequences than those of the batch; how many positions of each are scored."""
        scored = batch["labels"].numpy() != IGNORED
        end = first + len(scored)
        same = (
            end < len(part.starts)
            and np.array_equal(self._read(part.sequences, "scored", first, end), scored.sum(1))
            and np.array_equal(self._read(part.sequences, "crc32", first, end), _checksums(batch))
            and np.array_equal(self._read(part.positions, "place", *part.of(first, len(scored))), np.nonzero(scored)[1])
        )
        if not same:
            raise ValueError(
                f"the lessons in {self.folder} are on other text than is read at step {step}, or on other masks. "
                "They were moved or changed: delete the folder and run again."
            )
        return scored.sum(1)

    def _read(self, columns: Columns, name: str, start: int, end: int) -> NDArray[Any]:
        try:
            return columns.read(name, start, end) if end > start else np.empty(0, np.float32)
        except Damaged as error:
            raise self._damaged(error) from error

    def _damaged(self, error: object) -> ValueError:
        return ValueError(
            f"lessons are damaged: {str(error).partition(':')[0]}. Delete {self.folder} and run again; what the teacher "
            "says will be computed anew."
        )

    # Parts

    def holds(self, step: int) -> bool:
        """Whether the part with a step is complete."""
        return self._path(step // PART * PART).is_file()

    def part(self, step: int) -> Part:
        """The part with a step.

        Raises:
            ValueError: it is not there, or damaged.
        """
        return self._part(step // PART * PART)

    def _open(self, first: int) -> Part:
        if not self.holds(first):
            raise ValueError(f"{self.folder} has no lessons on steps {first} to {first + PART}.")
        try:
            sequences = Columns(self._path(first, "sequences"), SEQUENCES)
            positions = Columns(self._path(first, "positions"), POSITIONS)
            logits = Columns(self._path(first, "logits"), self._logits)
        except Damaged as error:
            raise self._damaged(error) from error
        scored = self._read(sequences, "scored", 0, len(sequences))
        starts = np.concatenate([[0], np.cumsum(scored, dtype=np.int64)])
        if not starts[-1] * self._kept == len(positions) * self._kept == len(logits):
            raise self._damaged(f"{self._path(first, 'logits')} has {len(logits)} rows")
        return Part(sequences, positions, logits, starts)

    def write(self, first: int, spoken: Iterable[tuple[Batch, Iterable[Tensor]]]) -> None:
        """Write a part: of each of its batches what the teacher says, (N, V) logits some sequences at a time."""
        names, count = ("sequences", "positions", "logits"), 0
        with (
            Writer(self._path(first, names[0]), SEQUENCES) as sequences,
            Writer(self._path(first, names[1]), POSITIONS) as positions,
            Writer(self._path(first, names[2]), self._logits) as logits,
        ):
            for batch, pieces in spoken:
                scored = batch["labels"].numpy() != IGNORED
                sequences.append(scored=scored.sum(1).astype(np.int32), crc32=_checksums(batch))
                places = np.nonzero(scored)[1].astype(np.int32)
                for piece in pieces:
                    kept, others = self.distil(piece)
                    for writer in (sequences, positions, logits):
                        writer.touch()
                    logits.append(**kept)
                    positions.append(place=places[: len(piece)], **others)
                    places, count = places[len(piece) :], count + len(piece)
        size = sum(self._path(first, name).stat().st_size for name in names)
        noted = {"positions": count, "bytes": size}
        Store(self.folder).put(self._path(first).name, json.dumps(noted).encode())

    def distil(self, logits: Tensor) -> tuple[Kept, Kept]:
        """What is kept of (N, V) logits: a row a logit, and a row a position."""
        apart = logits.float() - logits.float().amax(-1, keepdim=True)
        if not self.top_k:
            nothing = np.full(len(apart), -np.inf, np.float32)
            return {"logit": _half(apart)}, {f"rest_{t:g}": nothing for t in TEMPERATURES}
        largest = apart.topk(self.top_k, dim=-1)
        others = {f"rest_{t:g}": rest(apart, largest.indices, t).cpu().numpy() for t in TEMPERATURES}
        tokens = largest.indices.cpu().numpy().astype(self._logits["token"]).ravel()
        return {"logit": _half(largest.values), "token": tokens}, others

    def _path(self, first: int, what: str = "") -> Path:
        return self.folder / (f"{first:08d}-{what}.arrow" if what else f"{first:08d}.json")

    def parts(self) -> list[int]:
        """The first steps of the parts that are complete."""
        return sorted(int(path.stem) for path in self.folder.glob("????????.json") if path.stem.isdecimal())

    def measured(self) -> dict[str, float]:
        """Of all parts: bytes a token of text and a scored position.

        Raises:
            ValueError: what was noted of one is damaged.
        """
        found = [self._note(first) for first in self.parts()]
        count, size = (sum(part[name] for part in found) for name in ("positions", "bytes"))
        tokens = len(found) * PART * int(np.prod(self.syllabus.description["batch"]))
        return {"bytes_per_token": size / max(1, tokens), "bytes_per_position": size / max(1, count)}

    def _note(self, first: int) -> dict[str, int]:
        """What was noted of a part when it was complete."""
        try:
            note = json.loads(self._path(first).read_text())
            return {name: int(note[name]) for name in ("positions", "bytes")}
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"{self._path(first)} cannot be read") from error


def _checksums(batch: Batch) -> NDArray[np.uint32]:
    """Of each sequence as the teacher reads it, and of what it is asked."""
    read = [np.ascontiguousarray(batch[name].numpy(), np.int32) for name in ("input_ids", "labels")]
    return np.array([zlib.crc32(labels, zlib.crc32(ids)) for ids, labels in zip(*read, strict=True)], np.uint32)


def _half(apart: Tensor) -> NDArray[np.float16]:
    return apart.clamp(min=LOWEST).half().cpu().numpy().ravel()
