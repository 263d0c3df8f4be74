"""Is a student with a small teacher ahead early, and how does each way of teaching end?

The question of the paper in one figure: the same student from the same weights on the same batches, alone and with a
teacher, whose share of the loss falls linearly or stays at a half, and of whose logits all or ten are kept, renormalised.

Source: Qin et al. 2022: the strategies and the K of its first experiments.
Hypothesis: all are ahead early; linear ends best; constant is held back once the student knows more than its teacher;
ten logits do what all do.
What differs: 4 layers of 128 and the generated language for 12 of 768 and 16 GB of text. Real text, an hour and a half
of two cores: `text=path/to/text teacher=bert-2x128@600`. Cost and result: see --dry-run and --table.
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


def run(*, text: str, student: str, duration: str, teacher: str, guided: float, arm: str, seed: int) -> RunSpec:
    """Pretrain a student that is taught in one way, or not."""
    schedule, _, kept = arm.partition(":")
    top_k, _, tail = (kept or "0").partition("+")
    return space.taught(
        space.pretrained(student, text, duration, seed=seed), space.teacher(teacher, text), schedule=schedule,
        guided=guided, top_k=int(top_k), tail=bool(tail),
    )  # fmt: skip


sweep = Sweep(
    run,
    over={
        "text": texts("world"),
        "student": models("bert-4x128"),
        "duration": durations("steps:1000"),
        "teacher": space.teachers("bert-2x64@600"),
        "guided": space.guided_shares(0.3),
        "arm": space.arms(space.NONE, "linear", "constant", "linear:10"),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"arm": space.NONE},
    arms=("arm",),
    learning="arm",
    metric="val/loss",
)

if __name__ == "__main__":
    launch(sweep)
