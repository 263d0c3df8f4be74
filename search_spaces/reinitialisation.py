"""What can be chosen when layers are drawn afresh: which, how, and how they are fine-tuned then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plm.spec import RunSpec
from search_spaces.space import Trial

SCHEMES = ("bert", "matched")
MULTIPLES = (1.0, 2.0, 5.0)
"""Of the learning rate, for what is drawn afresh; Tamkin et al. 2020 tried 5."""
DURATIONS = ("epochs:2", "epochs:3", "epochs:4")
RATES = (1e-5, 1e-4)
"""Around the choices of Devlin et al. 2019, appendix A.3."""
EMBEDDED_DURATIONS, EMBEDDED_RATES = ("steps:100", "steps:200"), (2e-4, 1e-3)


def reinitialisation(trial: Trial, point: Mapping[str, Any]) -> dict[str, Any]:
    """Any mask of the model's layers, a bit a layer from the input side (`1` = drawn afresh), and the fine-tuning.

    How weights are drawn, and how much faster they learn, is asked only where something is drawn afresh.
    """
    from plm.models import shape
    from plm.recipes import NAMED, model

    embedded = point["model"] in NAMED
    layers = range(shape(model(point["model"])).num_hidden_layers)
    mask = "".join(trial.suggest_categorical(f"layer_{layer}", ("0", "1")) for layer in layers)
    low, high = EMBEDDED_RATES if embedded else RATES
    chosen = {
        "mask": mask,
        "lr": trial.suggest_float("lr", low, high, log=True),
        "duration": trial.suggest_categorical("duration", EMBEDDED_DURATIONS if embedded else DURATIONS),
    }
    if "1" in mask:
        chosen |= {
            "scheme": trial.suggest_categorical("scheme", SCHEMES),
            "redrawn_lr": trial.suggest_categorical("redrawn_lr", MULTIPLES),
        }
    return chosen


def kept_layers(spec: RunSpec) -> float:
    """Layers that start from pretrained weights."""
    from plm.models import shape

    return float(shape(spec.init.architecture()).num_hidden_layers - len(getattr(spec.init, "layers", ())))
