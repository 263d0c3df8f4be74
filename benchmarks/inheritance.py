"""What a teacher costs a student's step: none, live, and ten stored logits, in one process and in turn.

`python -m benchmarks.inheritance [--text FOLDER] [--steps 60]` times the training steps of one student (4 layers of 256)
on the same batches: plain, guided by stored lessons, and guided by its live teacher (4 layers of 128), step by step in
turn. What is timed is the CPU time of the process, making and reading the batch included, so that a busy machine does not
bear on the ratios. It prints the ratios of the medians to the plain step's (aim: 1.10 at most for stored lessons), what
making the lessons took, and their bytes by token of text and by position.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

from plm.lessons import PART

BATCH, LENGTH, TOP_K = 8, 128, 10
STUDENT, TEACHER = "bert-4x256", "bert-4x128"


def specs(text: str, steps: int) -> dict[str, Any]:
    """The student by how it is taught; its teacher is trained for a step, for its speed alone matters."""
    from dataclasses import replace

    import plm
    from plm.inheritance import Constant
    from search_spaces.architectures import architecture
    from search_spaces.texts import reading

    def spec(model: str, length: int) -> Any:
        built = replace(architecture(model, text), max_position_embeddings=LENGTH)  # type: ignore[type-var]
        return plm.pretrain(
            built, text, vocabulary=reading(text).vocabulary, duration=plm.steps(length),
            batch_size=BATCH, seq_len=LENGTH, dtype="float32",
        )  # fmt: skip

    plain = spec(STUDENT, steps)
    teacher = spec(TEACHER, 1)
    return {
        "plain": plain,
        "stored": plm.inherit(plain, teacher.final, Constant(0.5), top_k=TOP_K),
        "live": plm.inherit(plain, teacher.final, Constant(0.5)),
    }


class Student:
    """A run that is stepped by hand."""

    def __init__(self, spec: Any, store: Any, how: str) -> None:
        from plm import optim, teachers
        from plm.build import Cache, build
        from plm.parallel import Scorer
        from plm.taught import recalled, taught
        from plm.train import Execution, open_stream

        cache = Cache()
        self.spec, self.execution = spec, Execution(teacher="live" if how == "plain" else how)
        import torch

        teacher = teachers.of(spec, store, cache, torch.device("cpu"))
        stream: Any = open_stream(spec, store, cache)
        recall: Any = teacher
        if how == "stored":
            assert teacher is not None
            stream, recall = taught(spec, stream, teacher, store, self.execution), recalled
        self.stream = stream
        model = build(spec, store, cache).model.train()
        self.scorer, self.optimizer = Scorer(model, spec.objective, recall), optim.build(model, spec.optim)

    def step(self, number: int) -> float:
        """CPU seconds of a step, its batch included."""
        from plm.step import train_step

        began = time.process_time()
        train_step(self.scorer, self.optimizer, self.spec, self.stream.batch(number), number, 1e-4, self.execution)
        return time.process_time() - began


def main() -> None:
    """Time the three in turn, step by step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", default="world")
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    import torch

    from plm import train
    from plm.memory import hold
    from plm.store import Store
    from sweeps.engine.worker import quiet

    quiet()
    hold()
    torch.set_num_threads(1)
    chosen = specs(given.text, given.steps)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.at(folder)
        train(chosen["live"].objective.teacher.run, store=store)
        students = {how: Student(spec, store, how) for how, spec in chosen.items()}
        began = time.process_time()
        for number in range(given.steps):  # so that only reading is timed below
            students["stored"].stream.batch(number)
        lessons = students["stored"].stream.lessons
        print(
            f"lessons on {PART * len(lessons.parts())} steps made, and {given.steps} read, in "
            f"{time.process_time() - began:.1f} s",
            flush=True,
        )
        took: dict[str, list[float]] = {how: [] for how in students}
        for number in range(given.steps):
            for how, student in students.items():
                took[how].append(student.step(number))
        measured = lessons.measured()
    median = {how: statistics.median(times[2:]) for how, times in took.items()}  # the first steps allocate
    print("   ".join(f"{how} {1e3 * seconds:.1f} ms" for how, seconds in median.items()))
    print("   ".join(f"{how} / plain {median[how] / median['plain']:.3f}" for how in ("stored", "live")))
    print(
        f"lessons: {measured['bytes_per_token']:.1f} bytes a token of text, {measured['bytes_per_position']:.1f} a scored "
        "position"
    )


if __name__ == "__main__":
    main()
