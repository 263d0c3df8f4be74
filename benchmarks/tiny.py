"""A tiny BERT with a tokenizer of its own, and a toy task: the work that benchmarks of overhead do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = tuple(f"{a}{b}" for a in "bdfgklmnprst" for b in "aeiou")


def tiny_bert(folder: Path) -> None:
    """Save a BERT of two layers, 32 wide, and its word-level tokenizer."""
    from transformers import BertConfig, BertModel

    from plm.data.tokenizer import files, word_level

    config = BertConfig(
        vocab_size=len(WORDS) + 5,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    for name, data in files(word_level(WORDS)).items():
        (folder / name).write_bytes(data)


def toy_rows(count: int) -> list[dict[str, Any]]:
    """Sentences of six words, labelled by whether the first word is in the first half of the list."""
    rows = []
    for i in range(count):
        words = [WORDS[(7 * i + 13 * j) % len(WORDS)] for j in range(6)]
        rows.append({"sentence": " ".join(words), "label": int(WORDS.index(words[0]) < len(WORDS) // 2)})
    return rows


def write_task(folder: Path) -> None:
    """A folder with train and validation files."""
    folder.mkdir(parents=True)
    for split, count in (("train", 64), ("validation", 32)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toy_rows(count)))
