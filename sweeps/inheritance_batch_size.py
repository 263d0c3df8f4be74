"""Does a teacher help more where the student's batches are small?

Equal numbers of tokens in batches of several sizes, at learning rates that grow with them, with a teacher and without.

Source: Qin et al. 2022, section 4.3: batches of 256 to 2,048 at rates of 1e-4 to 5e-4.
Hypothesis: the smaller the batch, the more a teacher saves, since its targets are less noisy than the text.
What differs: 4 layers of 128 and the generated language for 12 of 768 and 16 GB of text; batches of 8 to 32 at rates that
grow as the root of their size; the teacher's hundred largest logits are kept, and the others as one. Real text:
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


def run(*, text: str, student: str, duration: str, guided: float, batch_size: int, teacher: str, seed: int) -> RunSpec:
    """Pretrain a student in batches of a size, with a teacher or without."""
    lr = 1e-3 * (batch_size / 16) ** 0.5
    alone = space.pretrained(student, text, duration, seed=seed, lr=lr, batch_size=batch_size)
    return space.taught(alone, space.teacher(teacher, text), guided=guided)


sweep = Sweep(
    run,
    over={
        "text": texts("world"),
        "student": models("bert-4x128"),
        "duration": durations("tokens:512000"),
        "guided": space.guided_shares(0.3),
        "batch_size": space.batch_sizes(8, 16, 32),
        "teacher": space.teachers(space.NONE, "bert-2x64@600"),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"teacher": space.NONE},
    arms=("teacher",),
    learning="teacher",
    metric="val/loss",
)

if __name__ == "__main__":
    launch(sweep)
