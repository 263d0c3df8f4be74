"""At which step of its pretraining is a model best to fine-tune?

The same fine-tuning from the checkpoints of a training, several seeds each, on any tasks; beside the curves the model
before its first step, and with `reference=path/to/model` or a hub id others that are fine-tuned alike.

Source: Chiang et al. 2020, section 4. Hypothesis: a tenth of the steps gives nine tenths of the gain, and the best step is
not the last. That one is better than another is said over seeds: of fine-tuning alone they speak of one pretraining;
`pretraining_seed=same` gives each a pretraining of its own.
Other trainings: `trajectory=path/to/checkpoints`, `task=path/to/task`, `step=log:8`.
Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from plm import RunSpec, finetune
from plm.duration import parse
from search_spaces.analyses import SAME, moment_of, pretraining_seeds, references, steps_of, trajectories
from search_spaces.axis import Suited
from search_spaces.data_sizes import data_sizes
from search_spaces.finetuning import durations, learning_rates, tasks
from search_spaces.seeds import seeds
from sweeps.engine.launch import launch
from sweeps.engine.sweep import ByStep, Sweep


def run(
    *, trajectory: str, task: str, size: int, duration: str, lr: float, reference: str, pretraining_seed: int | str,
    seed: int, step: int | None,
) -> RunSpec:  # fmt: skip
    """Fine-tune a training at a step; a reference model as it is."""
    own = seed if pretraining_seed == SAME else int(pretraining_seed)
    start = reference if step is None else moment_of(trajectory, step, own)
    return finetune(task, init=start, size=size, seed=seed, lr=lr, duration=parse(duration))


sweep = Sweep(
    run,
    over={
        "trajectory": trajectories("world-bert"),
        "task": tasks(Suited(("sentiment", "acceptability"), ("sst2",))),
        "size": data_sizes(Suited((400,), (500,))),
        "duration": durations(Suited(("steps:200",), ("epochs:3",))),
        "lr": learning_rates(Suited((5e-4,), (5e-5,))),
        "reference": references(),
        "pretraining_seed": pretraining_seeds(0),
        "seed": seeds(3),
        "step": steps_of("log:8"),
    },
    arms=("step", "reference"),
    by_step=ByStep(analysis="task"),
)

if __name__ == "__main__":
    launch(sweep)
