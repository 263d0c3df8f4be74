"""Does a teacher save more, the larger its student is?

A ladder of sizes, each model taught by the one below it, and each alone: from the same weights on the same batches.

Source: Qin et al. 2022: MEDIUM to BASE to BASE_PLUS to LARGE, each the teacher of the next.
Hypothesis: what is saved grows with size.
What differs: models of 2 to 6 layers and the generated language for 9 to 24 layers and 16 GB of text; teachers are
trained for as long as their students are, and alone (`inheritance_generations` chains them); a teacher's hundred largest
logits are kept, and the others as one. Real text: `text=path/to/text`. Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from plm import RunSpec
from search_spaces import teachers as space
from search_spaces.finetuning import durations
from search_spaces.seeds import seeds
from search_spaces.texts import texts
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Sweep


def run(*, text: str, duration: str, guided: float, rung: str, schedule: str, seed: int) -> RunSpec:
    """Pretrain the larger model of a rung, with the smaller one as its teacher or alone."""
    *_, smaller, larger = ("", *rung.split(">"))
    source = space.pretrained(smaller, text, duration, seed=space.TEACHER_SEED).final if smaller else None
    alone = space.pretrained(larger, text, duration, seed=seed)
    return space.taught(alone, source, schedule=schedule, guided=guided)


sweep = Sweep(
    run,
    over={
        "text": texts("world"),
        "duration": durations("steps:1000"),
        "guided": space.guided_shares(0.3),
        "rung": space.chains("bert-2x64>bert-3x96", "bert-3x96>bert-4x128", "bert-4x128>bert-6x160"),
        "schedule": space.schedules(space.NONE, "linear"),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"schedule": space.NONE},
    arms=("schedule",),
    learning="schedule",
    metric="val/loss",
)

if __name__ == "__main__":
    launch(sweep)
