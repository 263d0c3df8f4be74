"""Searches small enough for a test: fine-tuning a tiny encoder over a few masks, pretraining a tiny one over rates.

`python -m tiny_search MODEL TASK [words of the command line]` runs the first, so that a test can kill it.
"""

from __future__ import annotations

import sys
from typing import Any

from tiny import SIZES

from plm import Bert, RunSpec, finetune, pretrain, reinit, steps
from search_spaces.finetuning import models, tasks
from search_spaces.seeds import seeds
from search_spaces.space import Trial
from sweeps.engine.sweep import Search, Sweep

LAYERS = 2
QUICK = Search(trials=4, confirmed=1)


def masks(trial: Trial) -> dict[str, Any]:
    """Six configurations: a learning rate that is chosen only where something is redrawn makes it conditional."""
    mask = "".join(trial.suggest_categorical(f"layer_{i}", ("0", "1")) for i in range(LAYERS))
    return {"mask": mask} | ({"lr": trial.suggest_categorical("lr", (1e-3, 3e-3))} if mask in ("01", "11") else {})


def make_search(model: str, task: str, *, over: Any = masks, num_steps: int = 3, **changes: Any) -> Sweep:
    """Which mask and rate score best?"""

    def run(*, model: str, task: str, mask: str, lr: float = 1e-3, seed: int) -> RunSpec:
        init = reinit(model, mask, seed=seed)
        return finetune(
            task, init=init, size=24, seed=seed, lr=lr, batch_size=8, duration=steps(num_steps), dtype="float32"
        )

    fixed = {"model": models(model), "task": tasks(task), "seed": seeds(2)}
    return Sweep(run, **{"over": over, "fixed": fixed, "search": QUICK, "metric": "val/score", **changes})


def rates(trial: Trial) -> dict[str, Any]:
    """A rate that learns something, and rates that learn nothing."""
    return {"lr": trial.suggest_categorical("lr", (3e-3, 1e-9, 2e-9, 3e-9, 4e-9))}


def make_pretrain_search(text: str, vocabulary: str, **changes: Any) -> Sweep:
    """Which rate leads to the smallest loss?"""

    def run(*, lr: float, seed: int) -> RunSpec:
        bert = Bert(**SIZES, dropout=0.0)
        return pretrain(
            bert,
            text,
            vocabulary=vocabulary,
            lr=lr,
            seed=seed,
            duration=steps(16),
            batch_size=4,
            seq_len=16,
            dtype="float32",
        )

    search = Search(trials=5, confirmed=1, rungs=(0.25, 0.5))
    return Sweep(run, **{"over": rates, "fixed": {"seed": seeds(2)}, "search": search, "metric": "val/loss", **changes})


if __name__ == "__main__":
    from sweeps.engine.launch import main

    question = make_search(sys.argv[1], sys.argv[2], num_steps=60)
    sys.exit(main(question, sys.argv[3:]))
