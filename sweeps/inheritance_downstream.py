"""Is what a teacher saves also saved downstream?

Students with a teacher and without are fine-tuned from several moments of their pretraining. What is saved is read off as
the paper does: at which earlier step the one scores what the other scores later.

Source: Qin et al. 2022, table 5: GLUE every 40,000 steps, 43 to 44% saved.
Hypothesis: the score follows perplexity: ahead early, and by less at the end.
What differs: 4 layers of 128, the generated language and two of its tasks for 24 layers of 1,024, 16 GB of text and GLUE;
the teacher's hundred largest logits are kept, and the others as one. Real text and tasks:
`text=path/to/text task=sst2,rte size=all`. A seed is one replication, pretraining and fine-tuning. Cost and result: see
--dry-run and --table.
"""

from __future__ import annotations

from plm import RunSpec, finetune
from plm.duration import epochs
from search_spaces import teachers as space
from search_spaces.architectures import models
from search_spaces.finetuning import durations, tasks
from search_spaces.seeds import seeds
from search_spaces.texts import texts
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Sweep


def run(
    *, text: str, student: str, duration: str, guided: float, teacher: str, at: float, task: str, size: int, seed: int
) -> RunSpec:
    """Fine-tune a student from a moment of its pretraining."""
    alone = space.pretrained(student, text, duration, seed=seed)
    taught = space.taught(alone, space.teacher(teacher, text), guided=guided)
    start = taught.at(round(at * taught.total_steps))
    return finetune(task, init=start, size=size, seed=seed, lr=5e-4, duration=epochs(5), dtype="float32")


sweep = Sweep(
    run,
    over={
        "text": texts("world"),
        "student": models("bert-4x128"),
        "duration": durations("steps:1000"),
        "guided": space.guided_shares(0.3),
        "teacher": space.teachers(space.NONE, "bert-2x64@600"),
        "at": space.moments(0.25, 0.5, 0.75, 1.0),
        "task": tasks("sentiment", "acceptability"),
        "size": space.sizes(1000),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"teacher": space.NONE},
    arms=("teacher",),
    learning="teacher",
)

if __name__ == "__main__":
    launch(sweep)
