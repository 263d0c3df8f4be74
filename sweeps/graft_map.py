"""When in pretraining, and where, does a layer become what fine-tuning needs?

Put one layer as it was at an earlier step into the final model, fine-tune everything, and map the loss of score over
layers and steps, a panel a data size. As controls, the same layer of noise, by BERT's initialiser and of each matrix's own
mean and spread. A layer that can be set back to a step without loss had learnt by then what it is used for.

Source: our own; re-initialisation (Tamkin et al. 2020) is the graft whose donor is noise, and Chiang et al. 2020 read
whole models at each step. Hypothesis: lower layers are ready sooner; the more data, the earlier a step will do.
A step in the middle of a schedule was taken at a higher rate than the last: part of a loss may be that.
Other trainings: `model=path/to/trajectory` or a hub id with steps; look at it first with `python -m plm audit`.
Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from plm import RunSpec, finetune
from plm.duration import parse
from search_spaces.axis import Suited
from search_spaces.data_sizes import data_sizes
from search_spaces.donors import NOISE, donors, grafted, grafts
from search_spaces.finetuning import durations, learning_rates, models, tasks
from search_spaces.masks import unablated
from search_spaces.seeds import seeds
from sweeps.engine.drawing import Mark, Panels
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Sweep


def run(*, model: str, task: str, size: int, duration: str, lr: float, donor: str, mask: str, seed: int) -> RunSpec:
    """Fine-tune a model at its last step with the masked layers of a donor."""
    init = grafted(model, mask, donor, seed)
    return finetune(task, init=init, size=size, seed=seed, lr=lr, duration=parse(duration))


CONTROLS = {-1.0: "bert", -2.0: "matched", -3.0: "shuffle", -4.0: "released", -5.0: "family"}


def place(cell: dict[str, Any]) -> Iterator[Mark]:
    """Layers over steps; noise stands left of the first."""
    mask, donor = str(cell["mask"]), str(cell["donor"])
    if "1" in mask:
        noise = {scheme: x for x, scheme in CONTROLS.items()}
        x = noise[donor.removeprefix(NOISE)] if donor.startswith(NOISE) else float(donor)
        yield Mark(f"layer {mask.index('1')}" if mask.count("1") == 1 else mask, x)


sweep = Sweep(
    run,
    over={
        "model": models("world-bert"),
        "task": tasks(Suited(("acceptability",), ("sst2",))),
        "size": data_sizes(Suited((100, 1000), (500, 5000))),
        "duration": durations(Suited(("steps:200",), ("steps:450",))),
        "lr": learning_rates(Suited((5e-4,), (5e-5,))),
        "donor": donors("noise:matched", "noise:bert", Suited(("0", "250", "500", "1000", "2000"), ("each",))),
        "mask": grafts("none", "singles"),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"mask": unablated(cell["mask"])},
    arms=("mask", "donor"),
    figures=(
        Panels(
            "map", place, reads=("mask", "donor"), label="step that the layer comes from", beside=("size",), kind="map",
            named=lambda x: f"{x:g}" if x >= 0 else f"noise:\n{CONTROLS[x]}",
        ),
    ),
)  # fmt: skip

if __name__ == "__main__":
    launch(sweep)
