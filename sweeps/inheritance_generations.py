"""Is it worth raising a large model over generations, each the teacher of the next?

The last model of each chain is the same, from the same weights on the same batches: alone, taught by the smallest, by the
middle one, or by the middle one that the smallest has taught. Each teacher is trained once.

Source: Qin et al. 2022, section 4.4 and figure 7 (BASE, BASE_PLUS, LARGE).
Hypothesis: three generations are best, then two, then one alone.
What differs: models of 2 to 4 layers and the generated language for 12 to 24 layers and 16 GB of text; all generations
train as long; a teacher's hundred largest logits are kept, and the others as one. Real text: `text=path/to/text`. Cost
and result: see --dry-run and --table.
"""

from __future__ import annotations

from plm import RunSpec
from search_spaces import teachers as space
from search_spaces.finetuning import durations
from search_spaces.seeds import seeds
from search_spaces.texts import texts
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Sweep

LAST = "bert-4x128"


def run(*, text: str, duration: str, guided: float, chain: str, seed: int) -> RunSpec:
    """Pretrain the last of a chain, whose teacher is the one before it, and so on."""
    *elders, last = chain.split(">")
    source = None
    for elder in elders:
        source = space.taught(
            space.pretrained(elder, text, duration, seed=space.TEACHER_SEED), source, guided=guided
        ).final
    return space.taught(space.pretrained(last, text, duration, seed=seed), source, guided=guided)


sweep = Sweep(
    run,
    over={
        "text": texts("world"),
        "duration": durations("steps:1000"),
        "guided": space.guided_shares(0.3),
        "chain": space.chains(LAST, f"bert-2x64>{LAST}", f"bert-3x96>{LAST}", f"bert-2x64>bert-3x96>{LAST}"),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"chain": cell["chain"].rpartition(">")[2]},
    arms=("chain",),
    learning="chain",
    metric="val/loss",
)

if __name__ == "__main__":
    launch(sweep)
