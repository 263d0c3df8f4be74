"""From the `AdamW` value to torch's optimizer, and the learning rate of every step."""

from __future__ import annotations

import math

import torch
from torch import nn

from plm.spec import AdamW


def build(model: nn.Module, spec: AdamW) -> torch.optim.AdamW:
    """torch's fused AdamW in two groups: matrices, which decay, and biases and norms, which do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
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
