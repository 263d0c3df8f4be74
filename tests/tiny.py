"""Tiny things, but real ones: sentences of sixty words, tasks of a few dozen rows, models of two layers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORDS = tuple(f"w{i:02}" for i in range(60))
SIZES = {
    "vocab_size": 65,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}


def sentence(i: int) -> str:
    """Three to nine words; odd ones say `w58` somewhere."""
    said = [WORDS[(7 * i + 3 * j * j) % 55] for j in range(3 + i % 6)]
    return " ".join([*said[: i % 3], *(["w58"] if i % 2 else []), *said[i % 3 :]])


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_task(folder: Path, row: Callable[[int], dict[str, Any]], train: int = 40, validation: int = 70) -> str:
    """A task's folder; 70 evaluated rows are one full batch of evaluation and a part of one."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "train.jsonl", [row(i) for i in range(train)])
    write_rows(folder / "validation.jsonl", [row(1000 + i) for i in range(validation)])
    return str(folder)


def save_model(model: Any, folder: Path) -> str:
    """A model's folder, with the tokenizer of `WORDS`."""
    from plm.data import tokenizer

    model.save_pretrained(folder)
    for name, data in tokenizer.files(tokenizer.word_level(WORDS)).items():
        (folder / name).write_bytes(data)
    return str(folder)


def perturbed(model: Any, seed: int = 0) -> Any:
    """The model as if trained: biases and norms are not at their neutral values either."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=draw)
    return model


def stop_after(passes: int) -> Callable[[], bool]:
    """A `should_stop` that lets so many steps pass."""
    count = itertools.count()
    return lambda: next(count) >= passes
