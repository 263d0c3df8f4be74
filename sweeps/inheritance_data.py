"""How much text must a teacher have read, and may it be other text than its student's?

Teachers of equal steps on ever smaller parts of the text, each part in the larger ones; and on either half of it (A, B),
where a student that reads B never sees a document of A, nor does its teacher pass any on but by what it says.

Source: Qin et al. 2022: the size of the teacher's data, and privacy.
Hypothesis: a student is hardly hurt until its teacher overfits a sixteenth; a teacher of the other half helps as much as
one of the same half.
What differs: 4 layers of 128 and the generated language for 12 of 768 and 16 GB of text; parts down to 1/256, since the
text is large for so short a training; the teacher's hundred largest logits are kept, and the others as one. Real text:
`text=path/to/text`. Cost and result: see --dry-run and --table.
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


def run(
    *, text: str, student: str, duration: str, teacher: str, guided: float, reads: str, taught_on: str, seed: int
) -> RunSpec:
    """Pretrain a student on a part of a text with a teacher of a part, or without."""
    alone = space.pretrained(student, text, duration, seed=seed, of=reads)
    source = None if taught_on == space.NONE else space.teacher(teacher, text, of=taught_on)
    return space.taught(alone, source, guided=guided)


shared = {
    "text": texts("world"),
    "student": models("bert-4x128"),
    "duration": durations("steps:1000"),
    "teacher": space.teachers("bert-2x64@600"),
    "guided": space.guided_shares(0.3),
    "seed": seeds(3),
}
sweep = Sweep(
    run,
    over=[
        {**shared, "reads": space.parts("all"), "taught_on": space.parts(space.NONE, "1/256", "1/64", "1/16", "all")},
        {**shared, "reads": space.parts("B"), "taught_on": space.parts(space.NONE, "A", "B")},
    ],
    baseline=lambda cell: cell | {"taught_on": space.NONE},
    arms=("taught_on",),
    learning="taught_on",
    metric="val/loss",
)

if __name__ == "__main__":
    launch(sweep)
