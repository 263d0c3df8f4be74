"""What of pretraining transfers, and where does it lie?

All experiments of one paper: upper layers drawn afresh one more at a time, blocks redrawn and blocks preserved, single
layers, permuted layers, probes of the first layers, redrawn layers whose norms are kept, and those that learn five times
as fast. `scale=paper` is bert-base-uncased on SST-2, QNLI and CoLA with the paper's data sizes, seeds, epochs and rate;
`small` has fewer of each, for a model and tasks of your own; `tiny` is the embedded default.

Source: Tamkin et al. 2020. Weights are redrawn as the text says; `scheme=released` as their code does. What differs: the
computation is in bfloat16 where the body is trained, and probes read without dropout. A checkpoint without a pooler (at
`scale=tiny`, and RoBERTa's) gets one as part of the head, so that its probe is no linear classifier.
Hypothesis: which layers are missed depends on the task and on how much data there is, and probing does not tell.
Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from plm import RunSpec, finetune
from plm.duration import parse
from search_spaces import transferability as paper
from search_spaces.data_sizes import data_sizes
from search_spaces.finetuning import durations, learning_rates, models, tasks
from sweeps.engine.drawing import Correlation
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Sweep
from sweeps.papers.tamkin2020 import FIGURES


def run(
    *, scale: str, experiment: str, model: str, task: str, size: int, duration: str, lr: float, change: str, scheme: str,
    seed: int,
) -> RunSpec | None:  # fmt: skip
    """Fine-tune or probe a changed model."""
    norm = "keep" if experiment == "keep_layer_norm" else "reset"
    init = paper.changed(model, change, scheme=scheme, seed=seed, layer_norm=norm)
    if init is None:
        return None
    return finetune(
        task, init=init, size=size, seed=seed, lr=lr, duration=parse(duration), batch_size=paper.BATCH_SIZES[scale],
        trained="head" if experiment == "probing" else "all",
        redrawn_lr=paper.FASTER if experiment == "faster" else 1.0,
    )  # fmt: skip


sweep = Sweep(
    run,
    over={
        "scale": paper.scales("tiny"),
        "experiment": paper.experiments(*paper.EXPERIMENTS),
        "model": models(paper.MODELS),
        "task": tasks(paper.TASKS),
        "size": data_sizes(paper.SIZES),
        "duration": durations(paper.DURATIONS),
        "lr": learning_rates(paper.RATES),
        "change": paper.changes(),
        "scheme": paper.schemes(),
        "seed": paper.seeds(),
    },
    baseline=lambda cell: cell | {"change": paper.unchanged(cell["change"])},
    arms=("change", "scheme"),
    optional="size",  # CoLA has no 50,000 examples
    figures=FIGURES,
    correlation=Correlation("change", among=lambda change: change.startswith("order:")),
)

if __name__ == "__main__":
    launch(sweep)
