"""From a spec to a model with weights: read strictly, draw what is fresh, apply the init's change.

Nothing is filled in silently: a checkpoint may lack a head (and the pooler, which masked-LM training leaves out), and
may have another head too many. Any other missing or extra tensor is a `Mismatch`.
"""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

import plm.modeling  # noqa: F401  # makes transformers' automatic classes know our own
from plm.data import tokenizer as tokenizers
from plm.data.examples import Examples
from plm.external import verify
from plm.frozen import attach, freeze
from plm.models import Model, config_of
from plm.objectives import Objective
from plm.objectives.classify import Classify
from plm.rng import seed_of, torch_stream
from plm.spec import Checkpoint, External, RunSpec, Source
from plm.store import Store

HEADS = (
    "pooler",
    "cls",
    "lm_head",
    "embed_out",
    "mlm",
    "classifier",
    "probe",
    "score",
    "qa_outputs",
    "predictions",
    "sop_classifier",
    "discriminator_predictions",
    "generator",
    "generator_predictions",
    "generator_lm_head",
    "vocab_transform",
    "vocab_layer_norm",
    "vocab_projector",
    "pre_classifier",
    "logits_proj",
    "sequence_summary",
    "multiple_choice_head",
)
"""Modules that belong to one objective: a checkpoint may have them or not."""


class Mismatch(Exception):
    """Weights do not fit the model."""

    def __init__(self, where: str, missing: list[str], extra: list[str]) -> None:
        self.missing, self.extra = missing, extra
        super().__init__(f"{where} does not fit the model: missing {missing or 'nothing'}, extra {extra or 'nothing'}.")


@dataclass
class Cache:
    """What a process keeps from run to run: pristine weights (never trained, only copied) and tokenised data."""

    models: dict[tuple[Any, ...], tuple[PreTrainedModel, list[str]]] = field(default_factory=dict)
    data: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def remember(self, kept: dict[tuple[Any, ...], Any], key: tuple[Any, ...], make: Any, limit: int = 4) -> Any:
        """`make()` once per key; the oldest entry goes when there are more than `limit`."""
        if key not in kept:
            kept[key] = make()
            while len(kept) > limit:
                kept.pop(next(iter(kept)))
        return kept[key]


@dataclass(frozen=True)
class Built:
    """A model ready to be trained."""

    model: PreTrainedModel
    fresh: list[str]
    """Parameters drawn from `seeds.fresh`."""
    redrawn: list[str]
    """Parameters that the init changed."""
    afresh: list[str]
    """All parameters of what the init drew afresh, those that kept their values included."""


def build(spec: RunSpec, store: Store, cache: Cache) -> Built:
    """The model of a run at step 0, with what is not trained frozen.

    Raises:
        Mismatch: the origin's tensors do not fit.
        ValueError: the origin's files have changed or are not there.
    """
    origin = spec.init.origin
    if isinstance(origin, Model):
        with seeded(seed_of(spec.seeds.fresh, "scratch")):
            config = origin.config()
            if not isinstance(spec.data, Examples):
                tokenizers.agree(config, tokenizers.of(spec, store.root / "data"))
            model = _from_config(spec.objective, config)
        fresh = [name for name, _ in model.named_parameters()]
    else:
        pristine, fresh = _read(spec.objective, origin, store, cache)
        model = copy.deepcopy(pristine)
        _draw(model, fresh, spec.seeds.fresh)
    redrawn = spec.init.apply(model, lambda source: _read(spec.objective, source, store, cache)[0])
    if spec.trained == "head":
        freeze(model, {name for name in fresh if _is_head(name, model)})
    elif spec.trained == "probe":
        assert isinstance(spec.objective, Classify)
        attach(model, spec.objective.num_labels)
    there = dict(model.named_parameters())
    return Built(model, [name for name in fresh if name in there], redrawn, spec.init.afresh(model))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run with torch's global generator at a seed, and put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def folder(source: Source, store: Store) -> Path:
    """The local folder of a checkpoint or external model, verified."""
    return store.checkpoint(source) if isinstance(source, Checkpoint) else verify(source)


@functools.lru_cache(maxsize=64)
def num_parameters(objective: Objective | None, architecture: External | Model) -> int:
    """How many weights a model has with an objective's head, tied ones once; no memory is taken for them.

    Args:
        objective: None: the body alone.
    """
    with torch.device("meta"):
        config = config_of(architecture)
        model = _from_config(objective, config) if objective else AutoModel.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


def _from_config(objective: Objective, config: PreTrainedConfig) -> PreTrainedModel:
    objective.configure(config)
    return objective.auto().from_config(config)


def _read(objective: Objective | None, source: Source, store: Store, cache: Cache) -> tuple[PreTrainedModel, list[str]]:
    """The pristine model of a source, and what its checkpoint lacks; without an objective the body alone."""
    return cache.remember(cache.models, (objective, source), lambda: _from_checkpoint(objective, source, store))


def _from_checkpoint(objective: Objective | None, source: Source, store: Store) -> tuple[PreTrainedModel, list[str]]:
    where = folder(source, store)
    config = AutoConfig.from_pretrained(where, local_files_only=True)
    if objective:
        objective.configure(config)
    # Our own check below says what is missing and refuses; the library's report of the same would only repeat it.
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with seeded(0):
        model, info = (objective.auto() if objective else AutoModel).from_pretrained(
            where,
            config=config,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    misfits = {n for n, *_ in info["mismatched_keys"]}  # such as a head for another number of classes
    missing = sorted(n for n in info["missing_keys"] if not _is_head(n, model))
    extra = sorted(n for n in info["unexpected_keys"] if not _is_head(n, model))
    extra += sorted(str(n) for n in info["mismatched_keys"] if not _is_head(n[0], model))
    if missing or extra:
        raise Mismatch(str(where), missing, extra)
    model.eval()
    return model, [name for name, _ in model.named_parameters() if name in info["missing_keys"] or name in misfits]


def body(source: Source, store: Store, cache: Cache, device: torch.device) -> PreTrainedModel:
    """A model without a head, in evaluation mode, only to be read."""
    pristine, _ = _read(None, source, store, cache)
    return pristine if device.type == "cpu" else copy.deepcopy(pristine).to(device)  # type: ignore[arg-type]


def beside(
    objective: Objective, source: Source | Model, store: Store, cache: Cache, device: torch.device
) -> PreTrainedModel:
    """A model that is read beside the one that is trained, in evaluation mode: of a source, or untrained.

    Raises:
        ValueError: the source has no weights for the objective's head.
    """
    if isinstance(source, Model):
        with seeded(0):
            return _from_config(objective, source.config()).to(device).eval()  # type: ignore[arg-type]
    pristine, missing = _read(objective, source, store, cache)
    if missing:
        raise ValueError(
            f"{folder(source, store)} has no head that predicts tokens as {objective.kind} does: {missing[0]} is missing. "
            "Choose a model that was pretrained so."
        )
    return pristine if device.type == "cpu" else copy.deepcopy(pristine).to(device)  # type: ignore[arg-type]


def _is_head(name: str, model: PreTrainedModel) -> bool:
    return name.removeprefix(model.base_model_prefix + ".").partition(".")[0] in HEADS


@torch.no_grad()
def _draw(model: nn.Module, names: list[str], seed: int) -> None:
    """Draw a head: matrices from the model's initialiser range, biases 0, norms 1; a stream of its own for each tensor."""
    std = getattr(model.config, "initializer_range", 0.02)
    for name in names:
        parameter = model.get_parameter(name)
        if parameter.ndim > 1:
            parameter.copy_(torch.randn(parameter.shape, generator=torch_stream(seed, "fresh", name)) * std)
        else:
            parameter.fill_(1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0)
