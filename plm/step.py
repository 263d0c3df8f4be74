"""One update of the weights: the golden step that every run is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from plm.build import seeded
from plm.objectives import total
from plm.parallel import exchanging, group, whole
from plm.rng import seed_of
from plm.spec import RunSpec

if TYPE_CHECKING:
    from plm.train import Execution


@dataclass(frozen=True)
class Step:
    """What an update says of itself."""

    loss: float
    """Mean over the scored predictions of the whole batch, components added up."""
    parts: dict[str, float]
    """The mean of each component."""
    grad_norm: float
    """Global norm of the gradients before clipping."""
    tokens: int
    """Input tokens of the whole batch."""

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


def train_step(
    scorer: nn.Module,
    optimizer: torch.optim.Optimizer,
    spec: RunSpec,
    batch: dict[str, Tensor],
    step: int,
    lr: float,
    execution: Execution,
) -> Step:
    """Update the weights once on a batch of the whole group; not if the gradients are not finite.

    Args:
        scorer: What `plm.parallel.spread` gave.
        step: Updates that came before; with the run's seed it decides the dropout, and by schedule the objective.
        lr: Learning rate of this update.
    """
    for entry in optimizer.param_groups:
        entry["lr"] = lr * entry["scale"]
    device = torch.device(execution.device)
    objective = spec.objective.at(step, batch_size=spec.batch_size, seq_len=spec.seq_len)
    among, counts = group(), objective.counts(batch)
    sums = dict.fromkeys(objective.components, 0.0)
    pieces = among.parts(batch, execution.micro_batch)
    noise = (step,) if among.size == 1 else (step, among.rank)
    with seeded(seed_of(spec.seeds.noise, "dropout", *noise)):  # stateless, so that a resumed run needs no generator
        for number, (piece, counted) in enumerate(pieces, 1):
            with exchanging(scorer, number == len(pieces)):
                with torch.autocast(device.type, torch.bfloat16, enabled=spec.dtype == "bfloat16"):
                    scored = scorer({name: tensor.to(device) for name, tensor in piece.items()}, objective)
                    # Gradients are averaged over the group, and the loss is a sum over it.
                    loss = total(objective, scored, counts) * (among.size * counted)
                loss.backward()
            for name in sums:
                sums[name] += float(scored[name].loss.detach().sum()) * counted
    parameters = [p for p in scorer.parameters() if p.grad is not None]
    grad_norm = float(whole(nn.utils.clip_grad_norm_(parameters, spec.optim.clip)))
    if math.isfinite(grad_norm):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    summed = dict(zip(sums, among.summed(*sums.values()), strict=True))
    parts = {name: value / max(1, counts[name]) for name, value in summed.items()}
    weights = objective.weights
    return Step(
        sum(parts[name] * weights[name] for name in parts), parts, grad_norm, int(batch["attention_mask"].sum())
    )
