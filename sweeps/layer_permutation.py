"""Does it matter that pretrained layers stand in their own order?

Permute the layers of a pretrained encoder, fine-tune everything, and compare with the model as it is and with all layers
drawn afresh, by BERT's initialiser and by noise of each matrix's own mean and spread. Is a permutation that is bad for one
task bad for another? The correlations between tasks say so, beside those of a task with itself at other seeds.

Source: Tamkin et al. 2020, section 5: the permutations of seeds 1 to 10; they train each once, at seed 1.
Hypothesis: permuted layers are worth less than layers in order and more than none; which permutation is bad does not
carry over to other tasks.
Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from plm import Load, RunSpec, finetune
from plm.duration import parse
from search_spaces.axis import Suited
from search_spaces.data_sizes import data_sizes
from search_spaces.finetuning import durations, learning_rates, models, tasks
from search_spaces.orders import OWN, is_permutation, orders, rearranged
from search_spaces.seeds import seeds
from sweeps.engine.drawing import Correlation, Mark, Panels
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Sweep


def run(*, model: str, task: str, size: int, duration: str, lr: float, order: str, seed: int) -> RunSpec | None:
    """Fine-tune a model with its layers in another order; a permutation that moves none is not among them."""
    init = rearranged(model, order, seed)
    if is_permutation(order) and isinstance(init, Load):
        return None
    return finetune(task, init=init, size=size, seed=seed, lr=lr, duration=parse(duration))


def place(cell: dict[str, Any]) -> Iterator[Mark]:
    """All permutations together, between the levels of their baselines."""
    order = str(cell["order"])
    yield (
        Mark("permuted layers", 0)
        if is_permutation(order)
        else Mark("layers in order" if order == OWN else f"all layers {order.replace(':', ', scheme ')}")
    )


sweep = Sweep(
    run,
    over={
        "model": models("world-bert"),
        "task": tasks(Suited(("sentiment", "acceptability"), ("sst2",))),
        "size": data_sizes(Suited((400,), (5000,))),
        "duration": durations(Suited(("steps:200",), ("epochs:3", "steps:450"))),
        "lr": learning_rates(Suited((5e-4,), (5e-5,))),
        "order": orders(OWN, "redrawn:bert", "redrawn:matched", "1:11"),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"order": OWN},
    arms=("order",),
    figures=(
        Panels(
            "permutations", place, reads=("order",), label="", beside=("size", "duration"), kind="violins",
            named=lambda _: "permutations",
        ),
    ),
    correlation=Correlation("order", among=is_permutation),
)  # fmt: skip

if __name__ == "__main__":
    launch(sweep)
