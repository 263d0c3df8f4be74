"""Classification or regression of one or two sentences, by the model's own head or a linear probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from jaxtyping import Float

from plm.heads import representation
from plm.objectives import Objective, Scored

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

    from plm.objectives import Batch


@dataclass(frozen=True)
class Classify(Objective):
    """Cross-entropy over classes, in nats per example; squared error where there is one output."""

    kind: ClassVar[str] = "objectives/classify"
    version: ClassVar[int] = 1
    num_labels: int
    """Number of classes; 1 for regression."""

    @property
    def components(self) -> tuple[str, ...]:
        return ("classify",)

    def auto(self) -> Any:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification

    def configure(self, config: PreTrainedConfig) -> None:
        config.num_labels = self.num_labels

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"classify": len(batch["labels"])}

    def losses(self, model: PreTrainedModel, batch: Batch) -> dict[str, Scored]:
        logits = class_scores(model, batch)
        return {"classify": Scored(classification_loss(logits, batch["labels"]), outputs=logits.detach())}

    def predictions(self, batch: Batch, scored: dict[str, Scored]) -> list[dict[str, Any]]:
        outputs = scored["classify"].outputs
        assert outputs is not None
        return [
            {"id": int(i), "label": float(y), "logits": row}
            for i, y, row in zip(batch["ids"], batch["labels"], outputs.tolist(), strict=True)
        ]


def class_scores(model: Any, batch: Batch) -> Float[Tensor, "B C"]:
    """Logits of the classes, in float32: of the model's probe if it has one, else of its own head."""
    if hasattr(model, "probe"):
        return model.probe(model, batch).float()
    if hasattr(model, "score"):  # a decoder
        return model.score(representation(model, batch)).float()
    return model(**{name: tensor for name, tensor in batch.items() if name not in ("labels", "ids")}).logits.float()


def classification_loss(logits: Float[Tensor, "B C"], labels: Tensor) -> Float[Tensor, " B"]:
    """Cross-entropy in nats; squared error where C is 1."""
    from torch.nn import functional as F

    if logits.shape[1] == 1:
        return F.mse_loss(logits[:, 0], labels.float(), reduction="none")
    return F.cross_entropy(logits, labels.long(), reduction="none")
