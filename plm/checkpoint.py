"""A training state as files: a folder that `AutoModel` and `AutoTokenizer` load, and the optimizer beside it.

Tensors are safetensors throughout; nothing is pickled. A snapshot is taken between two steps and written while training
goes on. The manifest with the files' SHA-256 is the store's business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from plm.data import tokenizer as tokenizers
from plm.parallel import like, whole
from plm.store import RunFolder

MODEL, OPTIMIZER, PROGRESS = "model.safetensors", "optimizer.safetensors", "progress.json"
"""The weights, and what resuming needs beyond them."""

Tensors = dict[str, torch.Tensor]


def weights(model: PreTrainedModel) -> Tensors:
    """The model's tensors by name, on the CPU, tied ones once; every process of a group must ask."""
    again = _tied(model)
    return {
        name: whole(tensor).detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if name not in again
    }


def _tied(model: PreTrainedModel) -> set[str]:
    """Names that stand for a parameter which has a name already."""
    seen: set[int] = set()
    again = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in seen:
            again.add(name)
        seen.add(id(parameter))
    return again


def sha256_of(tensors: Tensors) -> str:
    """SHA-256 over names and bytes of some tensors: equal weights, equal hash."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(name.encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def weights_sha256(model: PreTrainedModel) -> str:
    """`sha256_of` a model's weights."""
    return sha256_of(weights(model))


def optimizer_state(optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimizer's tensors, by number of the parameter and name; every process of a group must ask."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": whole(value).cpu().contiguous()
        for index, entry in sorted(state.items())  # in one order everywhere: gathering shards is done together
        for name, value in sorted(entry.items())
    }


def snapshot(tensors: Tensors) -> Tensors:
    """Copies that training does not change."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


def model_files(model: PreTrainedModel, tensors: Tensors, tokenizer: Tokenizer) -> dict[str, bytes]:
    """The files of a folder that transformers loads."""
    name = getattr(model, "saved_as", type(model).__name__)
    config = json.dumps({**model.config.to_diff_dict(), "architectures": [name]}, indent=1, sort_keys=True)
    return {
        MODEL: save_tensors(tensors, metadata={"format": "pt"}),
        "config.json": config.encode(),
        **tokenizers.files(tokenizer),
    }


def progress_files(state: Tensors, progress: dict[str, Any]) -> dict[str, bytes]:
    """Optimizer state and counters."""
    return {OPTIMIZER: save_tensors(state), PROGRESS: json.dumps(progress).encode()}


class Writer:
    """Writes one thing at a time beside the training; trouble comes out at the next call."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._job: Future[None] | None = None

    def submit(self, job: Callable[[], None]) -> None:
        """Start a job once the one before it has ended."""
        self.wait()
        self._job = self._pool.submit(job)

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
            Exception: what the job raised.
        """
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


def newest_whole(folder: RunFolder, limit: int | None = None) -> str | None:
    """The newest complete checkpoint that training can go on from, up to a step; None if there is none.

    One whose files do not match its manifest is passed over for the one before.
    """
    for name in reversed(folder.checkpoints()):
        late = limit is not None and int(name.removeprefix("step_")) > limit
        if not late and folder.holds(name, OPTIMIZER) and folder.verify_checkpoint(name):
            return name
    return None


def restore(held: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a checkpoint's state into model and optimizer; its counters."""
    _load_weights(model, held)
    restore_optimizer(held, optimizer)
    return json.loads((held / PROGRESS).read_text())


def restore_optimizer(held: Path, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's optimizer state into an optimizer of the same parameters."""
    parameters = [p for entry in optimizer.param_groups for p in entry["params"]]
    state: dict[int, Tensors] = {}
    for key, tensor in load_tensors((held / OPTIMIZER).read_bytes()).items():
        index, _, what = key.partition(".")
        parameter = parameters[int(index)]
        state.setdefault(int(index), {})[what] = like(tensor, parameter) if tensor.shape == parameter.shape else tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _load_weights(model: PreTrainedModel, folder: Path) -> None:
    tensors = load_tensors((folder / MODEL).read_bytes())
    there = model.state_dict()
    fitting = {name: like(tensor, there[name]) if name in there else tensor for name, tensor in tensors.items()}
    missing, extra = model.load_state_dict(fitting, strict=False)
    lacking = set(missing) - _tied(model)
    if extra or lacking:
        raise ValueError(f"{folder} does not fit the model: missing {sorted(lacking)}, extra {extra}.")
