"""Does a small trained model help a larger one to learn, and how is it best used?

Search for the teacher (none, or one of several by size and training), and only with one for how it teaches: by which
schedule, for how long, at which temperature, with how many of its logits. The learning rate is chosen with and without a
teacher alike, and the student without one is tried first at every learning rate and always measured again: the controls.
Trials are compared at the end of their whole schedule and never on the way, since a constant rate is ahead early and
behind at the end.

Source: Qin et al. 2022, sections 3 and 4; the search is our own.
Hypothesis: a teacher that the student passes halfway helps, for about a third of the steps, and a few logits do
where the others count as one more outcome.
What differs: 4 layers of 128 and the generated language for 12 of 768 and 16 GB of text; real text: `text=path/to/text`.
A teacher has read the slice that trials are selected by; the evaluation split it has not. Cost and result: see --dry-run
and --table.
"""

from __future__ import annotations

from plm import RunSpec
from search_spaces import teachers as space
from search_spaces.architectures import models
from search_spaces.finetuning import durations
from search_spaces.seeds import seeds
from search_spaces.texts import texts
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Search, Sweep


def run(
    *, text: str, student: str, duration: str, lr: float, teacher: str, schedule: str = "linear", guided: float = 0.3,
    temperature: float = 2.0, top_k: int = 100, tail: bool = True, seed: int,
) -> RunSpec:  # fmt: skip
    """Pretrain a student with a teacher, or without."""
    alone = space.pretrained(student, text, duration, seed=seed, lr=lr)
    return space.taught(
        alone, space.teacher(teacher, text), schedule=schedule, guided=guided, temperature=temperature, top_k=top_k,
        tail=tail,
    )  # fmt: skip


sweep = Sweep(
    run,
    over=space.inheriting,
    fixed={
        "text": texts("world"),
        "student": models("bert-4x128"),
        "duration": durations("steps:800"),
        "seed": seeds(2),
    },
    search=Search(trials=16, confirmed=2, races=(1,), control={"teacher": space.NONE}),
    metric="val/loss",
)

if __name__ == "__main__":
    launch(sweep)
