"""In which order does a language model learn what, while it is pretrained?

Read the checkpoints of a training, from its first step to its last, with every analysis that can be asked of it: which
words it says again or fills in, by part of speech, what it finds acceptable, which facts it has, what its layers hold.
Beside each curve stands what scores as much without the ability.

Source: Chiang et al. 2020. Hypothesis: function words before content words and proper nouns last, as their frequency
says; knowledge of language and of the world do not grow with every step.
A pretraining that is missing is made first; with --follow its checkpoints are read as they appear, and so are those of a
run that another process trains. Other trainings: `trajectory=path/to/checkpoints`, a hub id with steps or the spec.json of
one to be trained, and `analysis=reconstruction:path/to/ud_english_ewt`; several at once are compared; `seed` is the
pretraining seed.
Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from plm import Reading
from search_spaces.analyses import analyses, moment_of, read_by, sizes, steps_of, trajectories
from search_spaces.seeds import seeds
from sweeps.engine.launch import launch
from sweeps.engine.sweep import ByStep, Sweep


def run(*, trajectory: str, seed: int, analysis: str, size: int | str, step: int) -> Reading:
    """Read a training at a step."""
    return Reading(read_by(analysis, size), moment_of(trajectory, step, seed))


sweep = Sweep(
    run,
    over={
        "trajectory": trajectories("world-bert"),
        "seed": seeds(1),
        "analysis": analyses("each"),
        "size": sizes("usual"),
        "step": steps_of("each"),
    },
    by_step=ByStep(beside="embryology_downstream"),
)

if __name__ == "__main__":
    launch(sweep)
