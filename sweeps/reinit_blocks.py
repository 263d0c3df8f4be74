"""Where in a pretrained encoder does what fine-tuning needs lie?

Draw a block of adjacent layers afresh, or everything but the block, at each place where the block fits; a single layer;
every second layer. Fine-tune everything and compare with none redrawn and with all redrawn. As a control, the same with
noise of each matrix's own mean and spread, because the size of fresh weights alone moves scores; and, for models of
others, the same for a fixed number of steps, because few examples also mean few steps to make the loss good.

Source: Tamkin et al. 2020, section 4 (3 of 12 layers; here a quarter of whatever there are, two at least).
Hypothesis: the lowest block is missed most, and no block alone is worth much.
Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from plm import RunSpec, finetune, reinit
from plm.duration import parse
from search_spaces.axis import Suited
from search_spaces.data_sizes import data_sizes
from search_spaces.finetuning import durations, learning_rates, models, schemes, tasks
from search_spaces.masks import alternate, masks, quarter, run_of, unablated
from search_spaces.seeds import seeds
from sweeps.engine.drawing import Mark, Panels
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Sweep


def run(*, model: str, task: str, size: int, duration: str, lr: float, scheme: str, mask: str, seed: int) -> RunSpec:
    """Fine-tune a model with the masked layers redrawn."""
    return finetune(
        task, init=reinit(model, mask, scheme=scheme, seed=seed), size=size, seed=seed, lr=lr, duration=parse(duration)
    )


def place(cell: dict[str, Any]) -> Iterator[Mark]:
    """A block at its first layer, with those of its length; none and all redrawn as levels."""
    mask = str(cell["mask"])
    if len(set(mask)) == 1:
        yield Mark("all redrawn" if mask[0] == "1" else "nothing redrawn")
        return
    ways, most = (("redrawn", "1"), ("alone kept", "0")), max(quarter(len(mask)), len(mask) // 2)
    blocks = {what: block for what, bit in ways if (block := run_of(mask, bit))}
    for what, block in blocks.items():
        if len(blocks) == 1 or len(block) <= most:  # a block at an end leaves another: what is longer is the rest
            yield Mark(f"{len(block)} layer{'s' * (len(block) > 1)} {what}", block[0])
    if len(mask) > 2 and mask in alternate.masks(len(mask)):
        yield Mark("every second layer redrawn", mask.index("1"))
    elif not blocks:
        yield Mark(f"redrawn: {mask}", mask.index("1"))


sweep = Sweep(
    run,
    over={
        "model": models("world-bert"),
        "task": tasks(Suited(("sentiment", "acceptability"), ("sst2",))),
        "size": data_sizes(Suited((400,), (500,))),
        "duration": durations(Suited(("steps:200",), ("epochs:3", "steps:450"))),
        "lr": learning_rates(Suited((5e-4,), (5e-5,))),
        "scheme": schemes("bert", "matched"),
        "mask": masks("none", "all", "blocks", "preserved_blocks", "singles", "alternate"),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"mask": unablated(cell["mask"])},
    arms=("mask", "scheme"),
    figures=(
        Panels(
            "blocks",
            place,
            reads=("mask",),
            label="first layer of the block (0: input side)",
            beside=("duration", "scheme"),
        ),
    ),
)

if __name__ == "__main__":
    launch(sweep)
