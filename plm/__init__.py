"""Pretrain, change and fine-tune language models, each run a value with an identity. Knows nothing of clusters.

Names are imported when first used, so that a plan can be made without waiting for torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plm.audit import audit
    from plm.build import Cache, Mismatch
    from plm.data.sources import mixture
    from plm.duration import Duration, epochs, steps, tokens
    from plm.external import external
    from plm.inheritance import inherit, inheritance_loss
    from plm.inits.drop import Drop
    from plm.inits.graft import Graft
    from plm.inits.load import Load
    from plm.inits.permute import Permute, permutation
    from plm.inits.reinit import Reinit
    from plm.inits.scratch import Scratch
    from plm.interventions import drop, graft, permute, reinit
    from plm.models import architecture, shape
    from plm.models.albert import Albert
    from plm.models.bert import Bert
    from plm.models.configured import Configured
    from plm.models.electra import Electra
    from plm.models.gpt import GPT
    from plm.models.gpt2 import GPT2
    from plm.models.roberta import Roberta
    from plm.probe import within
    from plm.reading import Reading, read
    from plm.recipes import finetune, model, pretrain
    from plm.redraw import reinitialize
    from plm.spec import AdamW, Checkpoint, External, RunSpec, Seeds
    from plm.store import Store
    from plm.tasks import Task
    from plm.train import Diverged, Execution, Reporter, Result, Stopped, train
    from plm.trajectory import Trajectory, dense_early, intervals, schedule, trajectory
    from plm.verdict import Verdict

_WHERE = {
    "plm.audit": ("audit",),
    "plm.build": ("Cache", "Mismatch"),
    "plm.data.sources": ("mixture",),
    "plm.duration": ("Duration", "epochs", "steps", "tokens"),
    "plm.external": ("external",),
    "plm.inheritance": ("inherit", "inheritance_loss"),
    "plm.inits.drop": ("Drop",),
    "plm.inits.graft": ("Graft",),
    "plm.inits.load": ("Load",),
    "plm.inits.permute": ("Permute", "permutation"),
    "plm.inits.reinit": ("Reinit",),
    "plm.inits.scratch": ("Scratch",),
    "plm.interventions": ("drop", "graft", "permute", "reinit"),
    "plm.models": ("architecture", "shape"),
    "plm.models.albert": ("Albert",),
    "plm.models.bert": ("Bert",),
    "plm.models.configured": ("Configured",),
    "plm.models.electra": ("Electra",),
    "plm.models.gpt": ("GPT",),
    "plm.models.gpt2": ("GPT2",),
    "plm.models.roberta": ("Roberta",),
    "plm.probe": ("within",),
    "plm.reading": ("Reading", "read"),
    "plm.recipes": ("finetune", "model", "pretrain"),
    "plm.redraw": ("reinitialize",),
    "plm.spec": ("AdamW", "Checkpoint", "External", "RunSpec", "Seeds"),
    "plm.store": ("Store",),
    "plm.tasks": ("Task",),
    "plm.train": ("Diverged", "Execution", "Reporter", "Result", "Stopped", "train"),
    "plm.trajectory": ("Trajectory", "dense_early", "intervals", "schedule", "trajectory"),
    "plm.verdict": ("Verdict",),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "GPT",
    "GPT2",
    "AdamW",
    "Albert",
    "Bert",
    "Cache",
    "Checkpoint",
    "Configured",
    "Diverged",
    "Drop",
    "Duration",
    "Electra",
    "Execution",
    "External",
    "Graft",
    "Load",
    "Mismatch",
    "Permute",
    "Reading",
    "Reinit",
    "Reporter",
    "Result",
    "Roberta",
    "RunSpec",
    "Scratch",
    "Seeds",
    "Stopped",
    "Store",
    "Task",
    "Trajectory",
    "Verdict",
    "architecture",
    "audit",
    "dense_early",
    "drop",
    "epochs",
    "external",
    "finetune",
    "graft",
    "inherit",
    "inheritance_loss",
    "intervals",
    "mixture",
    "model",
    "permutation",
    "permute",
    "pretrain",
    "read",
    "reinit",
    "reinitialize",
    "schedule",
    "shape",
    "steps",
    "tokens",
    "train",
    "trajectory",
    "within",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'plm' has no attribute {name!r}")
    found = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Importing a submodule sets it as an attribute: `plm.train` and `plm.external` must stay the functions."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
