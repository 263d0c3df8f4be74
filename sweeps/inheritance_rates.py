"""How should a teacher's share of the loss go down: not at all, linearly, at once, or never?

The same student from the same weights on the same batches: without a teacher (none), and with one whose share falls
linearly, falls at once (heaviside) or stays at a half (constant).

Source: Qin et al. 2022, section 4.2 and figure 2.
Hypothesis: every schedule is ahead early; linear ends best; at heaviside's switch the perplexity rises; constant is held
back by a teacher that the student has passed, and ends worst.
What differs: 4 layers of 128 and the generated language for 12 of 768 and 16 GB of text; the teacher's hundred
largest logits are kept, and the others as one. Real text: `text=path/to/text`. Cost and result: see --dry-run and
--table.
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


def run(*, text: str, student: str, duration: str, teacher: str, guided: float, schedule: str, seed: int) -> RunSpec:
    """Pretrain a student with a teacher by a schedule, or without."""
    alone = space.pretrained(student, text, duration, seed=seed)
    return space.taught(alone, space.teacher(teacher, text), schedule=schedule, guided=guided)


sweep = Sweep(
    run,
    over={
        "text": texts("world"),
        "student": models("bert-4x128"),
        "duration": durations("steps:1000"),
        "teacher": space.teachers("bert-2x64@600"),
        "guided": space.guided_shares(0.3),
        "schedule": space.schedules(*space.SCHEDULES),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"schedule": space.NONE},
    arms=("schedule",),
    learning="schedule",
    metric="val/loss",
)

if __name__ == "__main__":
    launch(sweep)
