"""A training state as files: a folder that `AutoModel` and `AutoTokenizer` load, and the optimizer beside it.

Tensors are safetensors throughout; nothing is pickled. The manifest with the files' SHA-256 is the store's business.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from plm.data import tokenizer as tokenizers
from plm.store import RunFolder

OPTIMIZER, PROGRESS = "optimizer.safetensors", "progress.json"
"""What resuming needs beyond the weights."""


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The model's tensors by name, on the CPU, tied ones once."""
    seen: set[int] = set()
    found = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen or tensor.numel() == 0:
            seen.add(tensor.data_ptr())
            found[name] = tensor.detach().cpu().contiguous()
    return found


def weights_sha256(model: PreTrainedModel) -> str:
    """SHA-256 over names and bytes of all weights: equal weights, equal hash."""
    total = hashlib.sha256()
    for name, tensor in sorted(weights(model).items()):
        total.update(name.encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def model_files(model: PreTrainedModel, tokenizer: Tokenizer) -> dict[str, bytes]:
    """The files of a folder that transformers loads."""
    config = json.dumps(
        {**model.config.to_diff_dict(), "architectures": [type(model).__name__]}, indent=1, sort_keys=True
    )
    return {
        "model.safetensors": save_tensors(weights(model), metadata={"format": "pt"}),
        "config.json": config.encode(),
        **tokenizers.files(tokenizer),
    }


def progress_files(optimizer: torch.optim.Optimizer, progress: dict[str, Any]) -> dict[str, bytes]:
    """Optimizer state and counters."""
    state = optimizer.state_dict()["state"]
    tensors = {
        f"{index}.{name}": value.cpu().contiguous() for index, entry in state.items() for name, value in entry.items()
    }
    return {OPTIMIZER: save_tensors(tensors), PROGRESS: json.dumps(progress).encode()}


def resume(folder: RunFolder, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Put the newest complete checkpoint's state into model and optimizer; its counters, or None if there is none.

    A checkpoint whose files do not match its manifest is passed over for the one before.
    """
    for name in reversed(folder.checkpoints()):
        held = folder.path / "checkpoints" / name
        if not (folder.get(f"checkpoints/{name}/{OPTIMIZER}") and folder.verify_checkpoint(name)):
            continue
        _load_weights(model, held)
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in load_tensors((held / OPTIMIZER).read_bytes()).items():
            index, _, what = key.partition(".")
            state.setdefault(int(index), {})[what] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return json.loads((held / PROGRESS).read_text())
    return None


def _load_weights(model: PreTrainedModel, folder: Path) -> None:
    tensors = load_tensors((folder / "model.safetensors").read_bytes())
    missing, extra = model.load_state_dict(tensors, strict=False)
    tied = {name for name in missing if name not in weights(model)}
    if extra or set(missing) - tied:
        raise ValueError(f"{folder} does not fit the model: missing {sorted(set(missing) - tied)}, extra {extra}.")
