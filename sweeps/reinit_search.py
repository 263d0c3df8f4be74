"""Of all sets of layers, which can be drawn afresh while the model stays as good as the whole?

Search the masks of a pretrained encoder's layers together with what a mask may need: how fresh weights are drawn, how much
faster they learn, how fast and how long all is fine-tuned. Two things are wanted, a high score and few pretrained layers,
so what is looked for is the front: masks that no other beats by both. A trial is raced at one seed, then three, then five,
against those that keep no more layers; the front is measured again at fresh seeds on the untouched split, beside the
masks that `sweeps.layer_importance` has run.

Source: the question Tamkin et al. 2020 leave open; halving: Li et al. 2020.
Hypothesis: on a small task some of the layers can go, and which matters as much as how many.
Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from plm import RunSpec, finetune, reinit
from plm.duration import parse
from search_spaces.axis import Suited
from search_spaces.data_sizes import data_sizes
from search_spaces.finetuning import models, tasks
from search_spaces.reinitialisation import kept_layers, reinitialisation
from search_spaces.seeds import seeds
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Criterion, Search, Sweep


def run(
    *, model: str, task: str, size: int, mask: str, scheme: str = "bert", redrawn_lr: float = 1.0, lr: float,
    duration: str, seed: int,
) -> RunSpec:  # fmt: skip
    """Fine-tune a model with the masked layers redrawn."""
    init = reinit(model, mask, scheme=scheme, seed=seed)
    return finetune(task, init=init, size=size, seed=seed, lr=lr, redrawn_lr=redrawn_lr, duration=parse(duration))


sweep = Sweep(
    run,
    over=reinitialisation,
    fixed={
        "model": models("world-bert"),
        "task": tasks(Suited(("acceptability",), ("sst2",))),
        "size": data_sizes(Suited((400,), (500,))),
        "seed": seeds(5),
    },
    search=Search(
        trials=64,
        races=(1, 3),
        reduction=2,
        second=Criterion("pretrained layers", kept_layers),
        beside="layer_importance",
    ),
)

if __name__ == "__main__":
    launch(sweep)
