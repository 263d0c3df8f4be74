"""How many of a teacher's logits does a student need?

The same student from the same weights on the same batches, taught by the largest K of the teacher's logits (0: all of
them, by the live teacher), the kept ones renormalised or the others counted as one more outcome (tail).

Source: Qin et al. 2022, section 4.2 and figure 3.
Hypothesis: ten logits do what all do where they cover most of the probability (`covered` in the table), and
with a tail everywhere.
What differs: 4 layers of 128 and the generated language for 12 of 768 and 16 GB of text; the tail is ours. Real text:
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


def run(*, text: str, student: str, duration: str, teacher: str, guided: float, kept: str, seed: int) -> RunSpec:
    """Pretrain a student that is taught by so many logits, or by none."""
    alone = space.pretrained(student, text, duration, seed=seed)
    if kept == space.NONE:
        return alone
    top_k, _, tail = kept.partition("+")
    return space.taught(alone, space.teacher(teacher, text), guided=guided, top_k=int(top_k), tail=bool(tail))


sweep = Sweep(
    run,
    over={
        "text": texts("world"),
        "student": models("bert-4x128"),
        "duration": durations("steps:1000"),
        "teacher": space.teachers("bert-2x64@600"),
        "guided": space.guided_shares(0.3),
        "kept": space.kept_logits(space.NONE, "0", "100", "100+tail", "10", "10+tail", "1+tail"),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"kept": space.NONE},
    arms=("kept",),
    learning="kept",
    metric="val/loss",
)

if __name__ == "__main__":
    launch(sweep)
