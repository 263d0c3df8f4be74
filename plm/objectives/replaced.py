"""Masked language modelling of a generator's text (Clark et al. 2020, section 3.4): two steps from BERT to ELECTRA.

The model sees a generator's samples where BERT sees masks. It predicts the originals there (`chosen`, their Replace
MLM), or everywhere with a copy mechanism (`all`, their All-Tokens MLM); ELECTRA asks only whether a token was replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from plm.heads import encode, vocabulary_scores
from plm.objectives import Arrays, Objective, Scored, judging, predicting
from plm.objectives.mlm import token_loss
from plm.objectives.rtd import ReplacedTokens, fill

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig

    from plm.data.tokenizer import Symbols
    from plm.models import Shape
    from plm.objectives import Batch


@dataclass(frozen=True)
class ReplacedLM(Objective):
    """Nats per masked token of the generator, and per predicted token of the model, added up (the paper names no weight)."""

    kind: ClassVar[str] = "objectives/replaced"
    version: ClassVar[int] = 1
    rate: float = 0.15
    """Share of the tokens (special ones aside) that the generator predicts and replaces."""
    scored: str = "chosen"
    """Tokens that the model predicts: `chosen`, those that the generator filled; `all` but padding, with copying."""
    mask_share: float = 0.85
    """Of the chosen tokens, how many show the generator the mask; the rest show themselves."""

    def __post_init__(self) -> None:
        _ = self._filling  # its own checks

    @property
    def _filling(self) -> ReplacedTokens:
        return ReplacedTokens(self.rate, scored=self.scored, mask_share=self.mask_share)

    @property
    def components(self) -> tuple[str, ...]:
        return ("generator", "mlm")

    @property
    def language(self) -> str:
        """The generator where copying makes the model's nats another thing."""
        return "mlm" if self.scored == "chosen" else "generator"

    def auto(self) -> Any:
        from plm.modeling.replaced import ElectraForReplacedLM

        return ElectraForReplacedLM

    def check(self, model_type: str) -> None:
        self._filling.check(model_type)

    def configure(self, config: PreTrainedConfig) -> None:
        config.copies = self.scored == "all"

    def corrupt(self, batch: Arrays, symbols: Symbols, draw: np.random.Generator) -> Arrays:
        return self._filling.corrupt(batch, symbols, draw)

    def flops_per_token(self, model: Shape, seq_len: float) -> float:
        assert model.generator is not None
        generator = model.generator.flops_per_token(seq_len) + self.rate * predicting(model.generator)
        head = predicting(model) + judging(model) if self.scored == "all" else self.rate * predicting(model)
        return generator + model.flops_per_token(seq_len) + head  # judging: whether to copy

    def counts(self, batch: Batch) -> dict[str, int]:
        generator, judged = self._filling.counts(batch).values()
        return {"generator": generator, "mlm": judged}

    def losses(self, model: Any, batch: Batch) -> dict[str, Scored]:
        chosen, shown, generated = fill(model, batch)
        original = batch["input_ids"].where(~chosen, batch["labels"])
        where = chosen if self.scored == "chosen" else batch["attention_mask"] > 0
        hidden = encode(model, batch | {"input_ids": shown})[0][where]
        scores = vocabulary_scores(model, hidden)
        if self.scored == "chosen":
            return {"generator": generated, "mlm": token_loss(scores, original[where])}
        copies = model.discriminator_predictions(hidden).float()
        return {"generator": generated, "mlm": copying_loss(scores, copies, shown[where], original[where])}


def copying_loss(
    scores: Float[Tensor, "K V"], copies: Float[Tensor, " K"], shown: Int[Tensor, " K"], original: Int[Tensor, " K"]
) -> Scored:
    """Nats of the original under D times what is shown plus (1 - D) times the softmax of the scores.

    Args:
        copies: Logit of D, that the token shown is the original.
    """
    import torch
    from torch.nn import functional as F

    copied, written = F.logsigmoid(copies), F.logsigmoid(-copies)[:, None] + scores.log_softmax(-1)
    predicted = written.gather(1, original[:, None])[:, 0]
    nats = torch.where(shown == original, torch.logaddexp(copied, predicted), predicted)
    with torch.no_grad():
        kept = torch.logaddexp(copied, written.gather(1, shown[:, None])[:, 0])
        best = written.max(1)
        guess = torch.where(kept >= best.values, shown, best.indices)
    return Scored(-nats, guess == original)
