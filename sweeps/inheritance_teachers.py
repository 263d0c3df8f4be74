"""Which teacher helps most: deeper, wider, or trained for longer?

The same student from the same weights on the same batches, taught by models of several depths, widths and lengths of
training. A better teacher is worth following for longer: ask `teacher=none,bert-2x96@600 guided=0.15,0.3,0.6`.

Source: Qin et al. 2022, section 4.3 and figures 4 to 6.
Hypothesis: the better the teacher, the faster the student; of a teacher's further steps each is worth less.
What differs: 4 layers of 128 and the generated language for 12 of 768 and 16 GB of text; all teachers guide as
long; their hundred largest logits are kept, and the others as one. A folder or a hub id of the same vocabulary is a
teacher too. Real text: `text=path/to/text`. Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from plm import RunSpec
from search_spaces import teachers as space
from search_spaces.architectures import models
from search_spaces.finetuning import durations
from search_spaces.seeds import seeds
from search_spaces.texts import texts
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Sweep


def run(*, text: str, student: str, duration: str, guided: float, teacher: str, seed: int) -> RunSpec:
    """Pretrain a student with a teacher, or without."""
    return space.taught(
        space.pretrained(student, text, duration, seed=seed), space.teacher(teacher, text), guided=guided
    )


sweep = Sweep(
    run,
    over={
        "text": texts("world"),
        "student": models("bert-4x128"),
        "duration": durations("steps:1000"),
        "guided": space.guided_shares(0.3),
        "teacher": space.teachers(
            space.NONE, "bert-1x64@600", "bert-2x64@300", "bert-2x64@600", "bert-2x64@1200", "bert-2x96@600"
        ),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"teacher": space.NONE},
    arms=("teacher",),
    learning="teacher",
    metric="val/loss",
)

if __name__ == "__main__":
    launch(sweep)
