"""Are the layers that say most about a task the ones that fine-tuning needs?

Keep the first layers of a pretrained encoder. As a probe: train a linear classifier of their standardised vectors, and
nothing else (`plm.frozen` says why). Fine-tuned: draw the layers above afresh and train everything, as in `reinit_grid`.
As controls, a probe of noise and fine-tuning with matched noise; for models of others, also a fixed number of steps.

Source: Tamkin et al. 2020, section 3; their classifier is above the frozen pooler, at 2e-5 (`sweeps.transferability`).
Hypothesis: probing accuracy rises through layers that fine-tuning does not miss; the fewer the examples, the better the
two curves agree.
Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from plm import RunSpec, drop, finetune, reinit, shape
from plm import model as resolved
from plm.duration import parse
from search_spaces.axis import By, Suited, choices
from search_spaces.data_sizes import data_sizes
from search_spaces.depths import depths
from search_spaces.finetuning import durations, learning_rates, models, schemes, tasks
from search_spaces.seeds import seeds
from sweeps.engine.drawing import Mark, Panels
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Sweep

WAYS = ("probe", "noise", "finetune")
"""A classifier on the first layers; on as many layers of noise; everything, the layers above redrawn."""


def run(
    *, model: str, task: str, size: int, way: str, duration: str, lr: float, scheme: str, kept: int, seed: int
) -> RunSpec | None:
    """Train on the first layers of a model; no layer at all cannot be probed, and noise is as deep as the model."""
    layers = shape(resolved(model)).num_hidden_layers
    if (way == "probe" and kept == 0) or (way == "noise" and kept != layers):
        return None
    redrawn = range(layers) if way == "noise" else range(kept, layers)
    init = drop(model, redrawn) if way == "probe" else reinit(model, redrawn, scheme=scheme, seed=seed)
    trained = "all" if way == "finetune" else "probe"
    return finetune(task, init=init, size=size, seed=seed, lr=lr, duration=parse(duration), trained=trained)


def place(cell: dict[str, Any]) -> Iterator[Mark]:
    """Both curves over the layers that are kept; the probe of noise as a level."""
    if cell["way"] == "noise":
        yield Mark("probe of all layers redrawn")
    else:
        yield Mark("probe, body frozen" if cell["way"] == "probe" else "fine-tuned, others redrawn", cell["kept"])


def by_way(frozen: Any, *tuned: Any) -> By:
    """One value for a frozen body, some for fine-tuning."""
    return By("way", {"probe": (frozen,), "noise": (frozen,), "finetune": tuned})


sweep = Sweep(
    run,
    over={
        "model": models("world-bert"),
        "task": tasks(Suited(("sentiment", "acceptability"), ("sst2",))),
        "size": data_sizes(Suited((100, 400), (500, 5000))),
        "way": choices(*WAYS, known=WAYS),
        "duration": durations(Suited(("steps:200",), (by_way("epochs:40", "epochs:3", "steps:450"),))),
        "lr": learning_rates(by_way(1e-3, Suited((5e-4,), (5e-5,)))),
        "scheme": schemes("bert", "matched"),
        "kept": depths("each"),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell,
    figures=(Panels("probing", place, ("kept",), "layers kept, from the input side", ("size",), control="scheme"),),
)

if __name__ == "__main__":
    launch(sweep)
