"""Which layers carry what pretraining learned?

Draw the upper layers of a pretrained encoder afresh, one more at a time, fine-tune everything, and compare with none
redrawn. Weights of the redrawn layers come from BERT's initialiser; as a control, from noise of each matrix's own mean
and spread, because the size of fresh weights alone moves scores. The paper's two ablations are axes: norms that keep
their values (`layer_norm=reset,keep`), and a rate some times as high for redrawn layers (`redrawn_lr=1,5`).

Source: Tamkin et al. 2020, section 3.   Hypothesis: the less fine-tuning data, the more layers are missed.
Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from typing import Any

from plm import RunSpec, finetune, reinit
from plm.duration import parse
from search_spaces.axis import Suited
from search_spaces.data_sizes import data_sizes
from search_spaces.finetuning import durations, layer_norms, learning_rates, models, multiples, schemes, tasks
from search_spaces.masks import masks, preserved, unablated
from search_spaces.seeds import seeds
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Curve, Sweep


def run(
    *, model: str, task: str, size: int, duration: str, lr: float, redrawn_lr: float, layer_norm: str, scheme: str,
    mask: str, seed: int,
) -> RunSpec:  # fmt: skip
    """Fine-tune a model with the masked layers redrawn."""
    init = reinit(model, mask, scheme=scheme, layer_norm=layer_norm, seed=seed)
    return finetune(task, init=init, size=size, seed=seed, lr=lr, redrawn_lr=redrawn_lr, duration=parse(duration))


grid: dict[str, Any] = {
    "model": models("world-bert"),
    "task": tasks(Suited(("sentiment", "acceptability"), ("sst2",))),
    "size": data_sizes(Suited((100, 400), (500, 5000))),
    "duration": durations(Suited(("steps:200",), ("epochs:3",))),
    "lr": learning_rates(Suited((5e-4,), (5e-5,))),
    "redrawn_lr": multiples(1.0),
    "layer_norm": layer_norms("reset"),
    "scheme": schemes("bert"),
    "mask": masks("progressive"),
    "seed": seeds(5),
}

sweep = Sweep(
    run,
    over=[grid, grid | {"model": "world-bert", "size": 400, "scheme": "matched"}],
    baseline=lambda cell: cell | {"mask": unablated(cell["mask"])},
    arms=("mask", "scheme"),
    curve=Curve(
        axis="mask",
        position=preserved,
        label="preserved layers, from the input side",
        line="size",
        control="scheme",
        beside="duration",
    ),
)

if __name__ == "__main__":
    launch(sweep)
