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
from jaxtyping import Float, Int
from torch import Tensor, nn

from plm.heads import representation

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plm.objectives import Batch


class LinearProbe(nn.Module):
    """A linear classifier, zero at first, of vectors whose every feature has mean 0 and spread 1 on the training texts.

    What the body says of those does not change, so it is asked once.
    """

    mean: Float[Tensor, " D"]
    scale: Float[Tensor, " D"]

    def __init__(self, width: int, num_labels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.linear = nn.Linear(width, num_labels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self._ids, self._vectors = torch.empty(0), torch.empty(0)

    def forward(self, model: PreTrainedModel, batch: Batch) -> Float[Tensor, "B C"]:
        """Logits of the texts of a batch; in training, those that were asked about before."""
        if self.training and len(self._ids):
            vectors = self._vectors[torch.searchsorted(self._ids, batch["ids"])]
        else:
            vectors = representation(model, batch)
        return self.linear((vectors.float() - self.mean) / self.scale)

    @torch.no_grad()
    def know(self, ids: Int[Tensor, " N"], vectors: Float[Tensor, "N D"], labels: Tensor) -> None:
        """Keep the vectors of the training texts, and let their mean and spread be 0 and 1.

        A regression begins at the mean of its labels.

        Raises:
            ValueError: the body says the same of all texts.
        """
        order = ids.argsort()
        self._ids, self._vectors = ids[order], vectors[order]
        scale, mean = torch.std_mean(vectors, 0, correction=0)
        self.mean.copy_(mean)
        varies = scale > 1e-6 * (1 + mean.abs())  # beyond the rounding of float32
        if not varies.any():
            raise ValueError(
                "a linear probe has nothing to go by: the frozen body has one vector for all training texts, at the token "
                "that it is read at (the first, or a decoder's last). Probe a body that was trained, or trained='head'."
            )
        self.scale.copy_(torch.where(varies, scale, torch.ones_like(scale)))
        if self.linear.out_features == 1:  # a regression: else most of the training would be spent on getting there
            self.linear.bias.fill_(labels.double().mean())


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
    """Give a model a linear probe, which is all that is trained of it, in the place of its own head."""
    freeze(model, ())
    own = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    width = next(
        part.in_features for name in own for part in getattr(model, name).modules() if isinstance(part, nn.Linear)
    )
    for name in own:  # what was never trained is not kept, or it would be handed on
        setattr(model, name, nn.Identity())
    model.probe = LinearProbe(width, num_labels)


@torch.no_grad()
def read(model: PreTrainedModel, texts: Iterable[Batch], dtype: str) -> int:
    """Let a model's probe read its training texts, each once; the number of tokens in them."""
    probe, tokens, ids, vectors, labels = model.probe, 0, [], [], []
    assert isinstance(probe, LinearProbe)
    for batch in texts:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            own = representation(model, {name: tensor.to(model.device) for name, tensor in batch.items()})
        tokens += int(batch["attention_mask"].sum())
        ids.append(batch["ids"])
        vectors.append(own.float())
        labels.append(batch["labels"])
    probe.know(torch.cat(ids).to(model.device), torch.cat(vectors), torch.cat(labels))
    return tokens
