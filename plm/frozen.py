"""A body that stays as it is, in evaluation mode: its own head is trained, or a linear probe of what the body says.

The paper's probe is the first (Tamkin et al. 2020, section 3: the pretrained pooler, frozen, below a classifier). What it
finds depends on the scale of the vectors: texts may differ by a thousandth at a lower layer, where no classifier moves in
a few epochs though the layer tells them apart. So a linear probe reads standardised vectors, as He et al. 2022 (masked
autoencoders, appendix A.1) let a normalisation without weights come first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plm.heads import representation

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plm.objectives import Batch


class LinearProbe(nn.Module):
    """A linear classifier, zero at first, of vectors whose every feature has mean 0 and spread 1 on the training texts."""

    mean: Float[Tensor, " D"]
    scale: Float[Tensor, " D"]

    def __init__(self, width: int, num_labels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.linear = nn.Linear(width, num_labels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, vectors: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        return self.linear((vectors.float() - self.mean) / self.scale)


def freeze(model: PreTrainedModel, but: Collection[str]) -> None:
    """Keep the body as it is, and without dropout, for good.

    Args:
        but: Parameters of the body that are trained all the same, as a head is.
    """
    body = model.base_model
    for name, parameter in body.named_parameters():
        parameter.requires_grad = f"{model.base_model_prefix}.{name}" in but
    body.eval()
    body.train = lambda mode=True: body  # type: ignore[method-assign]  # whoever puts the whole model into training mode


def attach(model: PreTrainedModel, num_labels: int) -> None:
    """Give a model a linear probe, which is all that is trained of it; its own head is not read."""
    freeze(model, ())
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.probe = LinearProbe(model.config.hidden_size, num_labels)


@torch.no_grad()
def standardise(model: PreTrainedModel, texts: Iterable[Batch], dtype: torch.dtype) -> None:
    """Let a model's probe know the mean and the spread of what it reads of its training texts, each once."""
    sums, count = torch.zeros(2, model.config.hidden_size, dtype=torch.float64), 0
    for batch in texts:
        with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
            vectors = representation(model, {name: tensor.to(model.device) for name, tensor in batch.items()}).double()
        sums += torch.stack([vectors.sum(0), vectors.square().sum(0)]).cpu()
        count += len(vectors)
    mean, squares = sums / count
    scale = (squares - mean.square()).clamp(min=0).sqrt()
    varies = scale > 1e-6 * (1 + mean.abs())  # beyond the rounding of float32
    probe = model.probe
    assert isinstance(probe, LinearProbe)
    probe.mean.copy_(mean)
    probe.scale.copy_(torch.where(varies, scale, torch.ones_like(scale)))
