"""How much is each pretrained layer worth, over all combinations of the others?

Draw afresh the layers of uniformly drawn masks (of few layers: of all masks), fine-tune, and say for each layer what
keeping it adds: on average over the masks, and as its Shapley value. Importance that is read off a search's own trials is
biased, because a search looks where scores are high.

Source: our own; the masks as in Tamkin et al. 2020, the values as in Shapley 1953 and Lundberg and Lee 2017.
Hypothesis: layers stand in for one another, so that each is worth less beside the others than alone.
Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from plm import RunSpec, finetune, reinit
from plm.duration import parse
from search_spaces.axis import Suited
from search_spaces.data_sizes import data_sizes
from search_spaces.finetuning import durations, learning_rates, models, schemes, tasks
from search_spaces.masks import masks, unablated
from search_spaces.seeds import seeds
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Sweep


def run(*, model: str, task: str, size: int, duration: str, lr: float, scheme: str, mask: str, seed: int) -> RunSpec:
    """Fine-tune a model with the masked layers redrawn."""
    init = reinit(model, mask, scheme=scheme, seed=seed)
    return finetune(task, init=init, size=size, seed=seed, lr=lr, duration=parse(duration))


sweep = Sweep(
    run,
    over={
        "model": models("world-bert"),
        "task": tasks(Suited(("acceptability",), ("sst2",))),
        "size": data_sizes(Suited((400,), (500,))),
        "duration": durations(Suited(("steps:200",), ("epochs:3",))),
        "lr": learning_rates(Suited((5e-4,), (5e-5,))),
        "scheme": schemes("bert"),
        "mask": masks("none", "uniform:64", "all"),
        "seed": seeds(5),
    },
    baseline=lambda cell: cell | {"mask": unablated(cell["mask"])},
    arms=("mask",),
    importance="mask",
)

if __name__ == "__main__":
    launch(sweep)
