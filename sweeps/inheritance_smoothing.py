"""Is it what a teacher knows that helps, or only that its targets are soft?

The same student from the same weights on the same batches: with plain labels, with smoothed ones, as if taught to the end
by one to whom all tokens are alike, and with a teacher. Perplexity is always that of the plain labels.

Source: Qin et al. 2022: the control by label smoothing.
Hypothesis: smoothing is worse than nothing, the more the worse; a teacher is better.
What differs: 4 layers of 128 and the generated language for 12 of 768 and 16 GB of text; what is smoothed away lies on
the whole vocabulary, the token included; the teacher's hundred largest logits are kept, and the others as one. Real text:
`text=path/to/text`. Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from plm import RunSpec
from plm.inheritance import smoothed
from search_spaces import teachers as space
from search_spaces.architectures import models
from search_spaces.finetuning import durations
from search_spaces.seeds import seeds
from search_spaces.texts import texts
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Sweep


def run(*, text: str, student: str, duration: str, teacher: str, guided: float, control: str, seed: int) -> RunSpec:
    """Pretrain a student with plain labels, smoothed ones, or a teacher."""
    alone = space.pretrained(student, text, duration, seed=seed)
    if control == "teacher":
        return space.taught(alone, space.teacher(teacher, text), guided=guided)
    return alone if control == space.NONE else smoothed(alone, float(control))


sweep = Sweep(
    run,
    over={
        "text": texts("world"),
        "student": models("bert-4x128"),
        "duration": durations("steps:1000"),
        "teacher": space.teachers("bert-2x64@600"),
        "guided": space.guided_shares(0.3),
        "control": space.smoothings(space.NONE, "0.1", "0.2", "0.3", "teacher"),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"control": space.NONE},
    arms=("control",),
    learning="control",
    metric="val/loss",
)

if __name__ == "__main__":
    launch(sweep)
