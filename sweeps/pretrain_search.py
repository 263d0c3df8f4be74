"""How is a small language model best pretrained?

Search learning rate, warm-up, batch size and weight decay at an equal number of tokens. Trials that are not among the
best third at an eighth and at three eighths of their first seed's tokens are given up; the best are trained again at fresh
seeds, on all training documents, and measured on the validation documents.

Source: ranges as in Devlin et al. 2019, Liu et al. 2019 and Izsak et al. 2021; halving: Li et al. 2020.
Hypothesis: at a small budget the learning rate decides most, and small batches (more steps) beat large ones.
Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from dataclasses import replace

from plm import RunSpec, Seeds
from plm.duration import parse
from plm.recipes import NAMED
from search_spaces.finetuning import durations
from search_spaces.pretraining import optimisation, recipes
from search_spaces.seeds import seeds
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Search, Sweep


def run(
    *, recipe: str, duration: str, lr: float, warmup: float, batch_size: int, weight_decay: float, seed: int
) -> RunSpec:
    """Pretrain as a recipe says, but for its optimisation."""
    spec = replace(
        NAMED[recipe](),
        duration=parse(duration),
        batch_size=batch_size,
        seeds=Seeds(fresh=seed, order=seed, noise=seed),
    )
    steps = round(warmup * spec.total_steps)
    return replace(spec, optim=replace(spec.optim, lr=lr, weight_decay=weight_decay, warmup_steps=steps))


sweep = Sweep(
    run,
    over=optimisation,
    fixed={"recipe": recipes("world-bert"), "duration": durations("tokens:300000"), "seed": seeds(2)},
    search=Search(trials=24, confirmed=3, rungs=(1 / 8, 3 / 8)),
    metric="val/loss",
)

if __name__ == "__main__":
    launch(sweep)
