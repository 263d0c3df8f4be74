"""From the `AdamW` value to torch's optimizer, and the learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import nn

from plm.spec import AdamW


def build(model: nn.Module, spec: AdamW, redrawn: Collection[str] = ()) -> torch.optim.AdamW:
    """torch's fused AdamW in two groups: matrices, which decay, and biases and norms, which do not.

    With a `redrawn_lr` there are two more, of what was drawn afresh. The rate of a step is multiplied by a group's
    `scale`.

    Args:
        redrawn: The names of all parameters of what was drawn afresh.

    Raises:
        ValueError: a `redrawn_lr`, and nothing for it.
    """
    if spec.redrawn_lr != 1 and not redrawn:
        raise ValueError(f"redrawn_lr {spec.redrawn_lr:g}: nothing was drawn afresh that it could act on.")
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    faster = trained.keys() & set(redrawn) if spec.redrawn_lr != 1 else set()
    groups = []
    for names, scale in ((trained.keys() - faster, 1.0), (faster, spec.redrawn_lr)):
        if names:
            own = [p for name, p in trained.items() if name in names]
            groups += [
                {"params": [p for p in own if p.ndim > 1], "weight_decay": spec.weight_decay, "scale": scale},
                {"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0, "scale": scale},
            ]
    return torch.optim.AdamW(groups, lr=spec.lr, betas=spec.betas, eps=spec.eps, fused=True)


def learning_rate(spec: AdamW, step: int, total_steps: int) -> float:
    """The rate of the update that leads from `step` to `step + 1`.

    Rises linearly from 0 over the warm-up, reaching the peak with its last update; then stays, or falls in a line or
    half a cosine, so that it would be 0 at `total_steps`.
    """
    if step < spec.warmup_steps:
        return spec.lr * (step + 1) / spec.warmup_steps
    left = (total_steps - step) / max(1, total_steps - spec.warmup_steps)
    if spec.schedule == "linear":
        return spec.lr * left
    return spec.lr if spec.schedule == "constant" else spec.lr * (1 - math.cos(math.pi * left)) / 2
