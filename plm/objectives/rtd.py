"""Replaced-token detection (Clark et al. 2020, section 2): a small generator fills masks, the model says which it filled.

The generator is a masked language model of its own; the discriminator is the model that is kept. They share their token
embeddings and are trained together, but no gradient passes from one to the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from plm.heads import encode, vocabulary_scores
from plm.objectives import IGNORED, Arrays, Objective, Scored, judging
from plm.objectives.mlm import MaskedLM, token_loss

if TYPE_CHECKING:
    from torch import Tensor

    from plm.data.tokenizer import Symbols
    from plm.models import Shape
    from plm.objectives import Batch

WHERE = ("all", "chosen")


@dataclass(frozen=True)
class ReplacedTokens(Objective):
    """Nats per masked token of the generator, and `weight` times the nats per token of telling the replaced from the rest.

    Source: Clark et al. 2020 and its release. There the chosen positions of a sequence are drawn with replacement; here
    each is chosen by itself, so that `rate` is their share.
    """

    kind: ClassVar[str] = "objectives/rtd"
    version: ClassVar[int] = 1
    rate: float = 0.15
    """Share of the tokens (special ones aside) that the generator predicts and replaces."""
    weight: float = 50.0
    """Of the discriminator's loss beside the generator's."""
    scored: str = "all"
    """Tokens that the discriminator judges: `all` but padding; `chosen`: those that the generator filled (ELECTRA 15%)."""
    mask_share: float = 0.85
    """Of the chosen tokens, how many show the generator the mask; the rest show themselves."""

    def __post_init__(self) -> None:
        if self.scored not in WHERE:
            raise ValueError(f"scored {self.scored!r}: there are {', '.join(WHERE)}.")
        if not self.weight > 0:
            raise ValueError(f"a weight of {self.weight}: it must be positive.")
        _ = self.masking  # its own checks

    @property
    def masking(self) -> MaskedLM:
        """How the generator's text is masked."""
        return MaskedLM(self.rate, mask_share=self.mask_share, random_share=0.0)

    @property
    def components(self) -> tuple[str, ...]:
        return ("generator", "rtd")

    @property
    def language(self) -> str:
        return "generator"

    @property
    def weights(self) -> dict[str, float]:
        return {"generator": 1.0, "rtd": self.weight}

    def auto(self) -> Any:
        from plm.modeling.electra import ElectraForJointPreTraining

        return ElectraForJointPreTraining

    def check(self, model_type: str) -> None:
        if model_type != "electra":
            raise ValueError(f"{model_type} has no generator beside it: replaced-token detection trains an ELECTRA.")

    def corrupt(self, batch: Arrays, symbols: Symbols, draw: np.random.Generator) -> Arrays:
        masked = self.masking.corrupt(batch, symbols, draw)
        return {**masked, "chance": draw.random(batch["input_ids"].shape, np.float32)}

    def flops_per_token(self, model: Shape, seq_len: float) -> float:
        assert model.generator is not None
        generator = self.masking.flops_per_token(model.generator, seq_len)
        return (
            generator + model.flops_per_token(seq_len) + (1.0 if self.scored == "all" else self.rate) * judging(model)
        )

    def counts(self, batch: Batch) -> dict[str, int]:
        chosen = int((batch["labels"] != IGNORED).sum())
        return {"generator": chosen, "rtd": chosen if self.scored == "chosen" else int(batch["attention_mask"].sum())}

    def losses(self, model: Any, batch: Batch) -> dict[str, Scored]:
        from torch.nn import functional as F

        chosen, shown, generated = fill(model, batch)
        replaced = shown != batch["input_ids"].where(~chosen, batch["labels"])
        judged = chosen if self.scored == "chosen" else batch["attention_mask"] > 0
        hidden = encode(model, batch | {"input_ids": shown})[0]
        logits, labels = model.discriminator_predictions(hidden[judged]).float(), replaced[judged]
        loss = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
        scores = logits.detach()
        return {"generator": generated, "rtd": Scored(loss, (scores > 0) == labels, scores[:, None], labels)}


def fill(model: Any, batch: Batch) -> tuple[Tensor, Tensor, Scored]:
    """Where tokens were chosen (B, T), the text (B, T) with samples of the generator there, and the generator's losses."""
    chosen = batch["labels"] != IGNORED
    logits = vocabulary_scores(model.generator, encode(model.generator, batch)[0][chosen])
    shown = batch["input_ids"].masked_scatter(chosen, sample(logits.detach(), batch["chance"][chosen]))
    return chosen, shown, token_loss(logits, batch["labels"][chosen])


def sample(logits: Float[Tensor, "K V"], chance: Float[Tensor, " K"]) -> Int[Tensor, " K"]:
    """Draw a token from each distribution with a given uniform number in [0, 1), by the inverse of its cumulative sum.

    The same distribution as that of Gumbel noise at temperature 1; but the number comes with the batch, so that one
    process and several, and any micro-batch, draw the same tokens.
    """
    import torch

    cumulative = logits.softmax(-1).cumsum(-1)
    found = torch.searchsorted(cumulative, chance[:, None] * cumulative[:, -1:], right=True)[:, 0]
    return found.clamp(max=logits.shape[1] - 1)
