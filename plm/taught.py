"""A student's batches with its teacher's lessons: read from the disk, and made there by the teacher where they are missing.

The live teacher (`plm.teachers.Teacher`) says the same of a batch by computing it; which of the two teaches a run is a
matter of its `Execution`. A part is made when a step first needs it, so that what was killed goes on, students beside
each other make each part once, and a step without guidance costs no lesson.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from plm.data.collate import Stream
from plm.data.columns import alone
from plm.inheritance import Uniform
from plm.lessons import LOWEST, PART, TEMPERATURES, Lessons, Syllabus, weights_of
from plm.objectives.inherit import Inherit
from plm.spec import RunSpec

if TYPE_CHECKING:
    from pathlib import Path

    from plm.objectives import Batch
    from plm.store import Store
    from plm.teachers import Teacher
    from plm.train import Execution

SAMPLED = 4
"""Sequences that are compared with the live teacher in each of two parts."""
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
"""Mean error of a kept distance, by 1 + its size, that rounding explains: float16's is 2e-4; another teacher's is about 1."""


@dataclass(frozen=True)
class Taught:
    """A stream whose guided batches carry their lessons."""

    stream: Stream
    spec: RunSpec
    lessons: Lessons
    teacher: Teacher
    execution: Execution

    @property
    def objective(self) -> Inherit:
        """What the run minimises."""
        assert isinstance(self.spec.objective, Inherit)
        return self.spec.objective

    def batch(self, step: int) -> Batch:
        batch = self.stream.batch(step)
        sizes = {"batch_size": self.spec.batch_size, "seq_len": self.spec.seq_len}
        if step >= self.spec.init.position + self.spec.total_steps or not self.spec.objective.at(step, **sizes).taught:
            return batch
        if not self.lessons.holds(step):
            self._make(step // PART * PART)
        return batch | self.lessons.read(step, batch, self.objective)

    def evaluation(self) -> Iterator[Batch]:
        return self.stream.evaluation()

    def texts(self) -> tuple[tuple[str, int], ...]:
        return self.stream.texts()

    def beside(self) -> Iterator[tuple[str, Iterator[Batch]]]:
        return self.stream.beside()

    def notes(self) -> dict[str, Any]:
        """Those of the data, and what its lessons weigh."""
        return self.stream.notes() | {"lessons": {"top_k": self.lessons.top_k, **self.lessons.measured()}}

    def _make(self, first: int) -> None:
        with alone(self.lessons.folder):
            if not self.lessons.holds(first):  # another process may have made it meanwhile
                batches = map(self.stream.batch, range(first, first + PART))
                self.lessons.write(first, ((batch, self._spoken(batch)) for batch in batches))

    def _spoken(self, batch: Batch) -> Iterator[torch.Tensor]:
        """The teacher's logits on a batch, a micro-batch at a time."""
        # Not the current device: that belongs to a thread, and lessons may be made in the one that fetches batches.
        device = self.teacher.device
        for start in range(0, len(batch["labels"]), size := self.execution.micro_batch or len(batch["labels"])):
            piece = {name: tensor[start : start + size].to(device) for name, tensor in batch.items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=self.spec.dtype == "bfloat16"):
                yield self.teacher.logits(piece)

    def verify(self) -> None:
        """Compare a sample of the first and of the last lessons there are with what the teacher says now.

        Raises:
            ValueError: it says something else, or they are damaged or on other text.
        """
        there = self.lessons.parts()
        self.lessons.measured()  # what a run says of them when it ends must be there before it begins
        for first in dict.fromkeys((*there[:1], *there[-1:])):
            batch = self.stream.batch(first)
            self.lessons.read(first, batch, self.objective)  # the text first: its message says more
            part, rows = self.lessons.part(first), min(SAMPLED, len(batch["labels"]))
            everything = replace(self.objective, top_k=self.lessons.top_k, tail=False)
            kept = self.lessons.said(part, part.of(0, rows), everything)
            sample = {name: tensor[:rows] for name, tensor in batch.items()}
            live = torch.cat([logits.float() for logits in self._spoken(sample)]).cpu()
            live = (live - live.amax(-1, keepdim=True)).clamp(min=LOWEST)
            if self.lessons.top_k:
                live = live.gather(-1, torch.from_numpy(kept["tokens"]))
            apart = np.abs(kept["logits"].astype(np.float32) - live.numpy()) / (1 + live.abs().numpy())
            if apart.size and not apart.mean() <= TOLERANCE[self.spec.dtype]:
                raise ValueError(
                    f"the lessons in {self.lessons.folder} are not this teacher's: on step {first} they are "
                    f"{apart.mean():.2g} away from what it says now (rounding explains {TOLERANCE[self.spec.dtype]:g}). "
                    "Delete the folder and run again."
                )


def recalled(batch: Batch) -> Batch:
    """What a guided step reads of the lessons that its batch carries."""
    there = batch["lesson_there"]
    said = {name: batch[f"lesson_{name}"][there] for name in ("logits", "tokens", "rest") if f"lesson_{name}" in batch}
    return {f"teacher_{name}": values if name == "tokens" else values.float() for name, values in said.items()}


def taught(spec: RunSpec, stream: Stream, teacher: Teacher, store: Store, execution: Execution) -> Taught:
    """The stream with lessons from the store's `teachers/`; those that are there are compared with the teacher.

    Raises:
        ValueError: they are not this teacher's, or damaged; or a tail is wanted at a temperature that they do not keep.
    """
    assert isinstance(spec.objective, Inherit)
    check(spec.objective)
    folder: Path = store.root / "teachers"
    syllabus = Syllabus.of(spec, weights_of(spec.objective.teacher, store))
    lessons = Lessons.find(folder, syllabus, spec.objective.top_k, execution.stored_top_k, exactly=execution.lessons)
    lessons.tidy()
    found = Taught(stream, spec, lessons, teacher, execution)
    found.verify()
    return found


def check(objective: Inherit) -> None:
    """Refuse what stored lessons do not say.

    Raises:
        ValueError: a tail at another temperature than `TEMPERATURES`, or a uniform teacher.
    """
    if isinstance(objective.teacher, Uniform):
        raise ValueError("a uniform teacher says the same of everything: it is not stored. Choose the live teacher.")
    if objective.tail and objective.temperature not in TEMPERATURES:
        raise ValueError(
            f"a tail at a temperature of {objective.temperature:g}: stored lessons keep the rest at "
            f"{', '.join(f'{t:g}' for t in TEMPERATURES)}. Choose one of these, or the live teacher."
        )
