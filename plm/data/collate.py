"""Streams of batches: `batch(step)` is a pure function, so training resumes at any step without replaying the ones before.

`evaluation()` gives the evaluation split in a fixed order with fixed masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from plm.data import tokenizer as tokenizers
from plm.data.corpus import Corpus, block_order, blocks
from plm.data.examples import batches
from plm.models import config_of
from plm.rng import numpy_stream
from plm.spec import RunSpec
from plm.tasks import load

if TYPE_CHECKING:
    from tokenizers import Tokenizer

EVALUATION_BATCH = 64
EVALUATION_BLOCKS = 512
"""How many blocks of a corpus's validation split the loss is measured on, at most."""
EVALUATION_MASKS = 0
"""Seed of the masks of evaluation: the same for all runs, so that their losses compare."""

Tokens = tuple[list[int], list[int]]


@runtime_checkable
class Stream(Protocol):
    """Batches of one run."""

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of the update from `step` to `step + 1`."""
        ...

    def evaluation(self) -> Iterator[dict[str, Tensor]]:
        """The evaluation split, from beginning to end."""
        ...

    def notes(self) -> dict[str, Any]:
        """What the result should say of the data."""
        ...


def pad(rows: list[Tokens], pad_id: int) -> dict[str, Int[Tensor, "B T"]]:
    """Token ids, segments and attention mask of some sequences, padded to the longest."""
    width = max(len(ids) for ids, _ in rows)
    ids, segments, there = (torch.full((len(rows), width), value) for value in (pad_id, 0, 0))
    for row, (tokens, types) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        segments[row, : len(types)] = torch.tensor(types)
        there[row, : len(tokens)] = 1
    return {"input_ids": ids, "token_type_ids": segments, "attention_mask": there}


@dataclass(frozen=True)
class Tokenised:
    """A task's rows under one tokenizer: read-only, shared by all runs of a process."""

    train: list[Tokens]
    train_labels: tuple[float, ...]
    held_out: list[Tokens]
    held_out_labels: tuple[float, ...]
    pad_id: int


def tokenise(spec: RunSpec, tokenizer: Tokenizer, seq_len: int) -> Tokenised:
    """Tokenise both splits of a run's task."""
    train, held_out = load(spec.data.task)  # type: ignore[union-attr]
    return Tokenised(
        tokenizers.encode(tokenizer, train.texts, seq_len),
        train.labels,
        tokenizers.encode(tokenizer, held_out.texts, seq_len),
        held_out.labels,
        config_of(spec.init.architecture()).pad_token_id or 0,
    )  # decoders find a text's end by it


class ExampleStream:
    """Batches of labelled examples, similar lengths together."""

    def __init__(self, spec: RunSpec, rows: Tokenised, *, segments: bool) -> None:
        chosen = spec.data.select(rows.train_labels)  # type: ignore[union-attr]
        self._spec, self._rows, self._chosen, self._segments = spec, rows, chosen, segments
        self._lengths = [len(rows.train[i][0]) for i in chosen]
        self._epoch: tuple[int, list[NDArray[np.int64]]] = (-1, [])

    def batch(self, step: int) -> dict[str, Tensor]:
        size = self._spec.batch_size
        epoch, index = divmod(step, -(-len(self._chosen) // size))
        if self._epoch[0] != epoch:
            self._epoch = epoch, batches(self._lengths, size, self._spec.seeds.order, epoch)
        rows = self._chosen[self._epoch[1][index]]
        return self._collate(self._rows.train, self._rows.train_labels, rows)

    def vocabulary(self) -> Int[Tensor, " K"]:
        """The token ids that any batch may hold, ascending."""
        rows = (*(self._rows.train[i] for i in self._chosen), *self._rows.held_out)
        return torch.tensor(sorted({self._rows.pad_id}.union(*(ids for ids, _ in rows))))

    def evaluation(self) -> Iterator[dict[str, Tensor]]:
        order = np.argsort([-len(ids) for ids, _ in self._rows.held_out], kind="stable")
        for start in range(0, len(order), EVALUATION_BATCH):
            yield self._collate(
                self._rows.held_out, self._rows.held_out_labels, order[start : start + EVALUATION_BATCH]
            )

    def _collate(self, tokens: list[Tokens], labels: tuple[float, ...], rows: NDArray[np.int64]) -> dict[str, Tensor]:
        batch = pad([tokens[i] for i in rows], self._rows.pad_id)
        if not self._segments:
            del batch["token_type_ids"]
        return batch | {"labels": torch.tensor([labels[i] for i in rows]), "ids": torch.as_tensor(rows)}

    def notes(self) -> dict[str, Any]:
        """The number of training examples of each class."""
        if self._spec.data.task.num_labels == 1:  # type: ignore[union-attr]
            return {"examples": len(self._chosen)}
        labels, counts = np.unique([self._rows.train_labels[i] for i in self._chosen], return_counts=True)
        return {
            "examples": len(self._chosen),
            "class_counts": {str(int(label)): int(n) for label, n in zip(labels, counts, strict=True)},
        }


class CorpusStream:
    """Batches of a corpus, corrupted as the objective says."""

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        assert isinstance(spec.data, Corpus)
        self._spec = spec
        self._train, self._held_out = (
            blocks(spec.data, split, spec.seq_len, folder) for split in ("train", "validation")
        )
        self._symbols = tokenizers.symbols(spec.data.tokenizer())
        self._epoch: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def batch(self, step: int) -> dict[str, Tensor]:
        positions = np.arange(step * self._spec.batch_size, (step + 1) * self._spec.batch_size)
        rows = [self._order(int(p) // len(self._train))[p % len(self._train)] for p in positions]
        draw = numpy_stream(self._spec.seeds.noise, "mask", step)
        return self._corrupted(self._train[rows], np.asarray(rows), draw)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self._epoch[0] != epoch:
            self._epoch = epoch, block_order(len(self._train), self._spec.seeds.order, epoch)
        return self._epoch[1]

    def evaluation(self) -> Iterator[dict[str, Tensor]]:
        count = min(EVALUATION_BLOCKS, len(self._held_out))
        for start in range(0, count, EVALUATION_BATCH):
            rows = np.arange(start, min(start + EVALUATION_BATCH, count))
            draw = numpy_stream(EVALUATION_MASKS, "evaluation masks", start)
            yield self._corrupted(self._held_out[rows], rows, draw)

    def _corrupted(
        self, ids: NDArray[np.int32], rows: NDArray[np.int64], draw: np.random.Generator
    ) -> dict[str, Tensor]:
        clean = {"input_ids": ids.astype(np.int64), "attention_mask": np.ones(ids.shape, np.int64)}
        batch = self._spec.objective.corrupt(clean, self._symbols, draw)
        return {name: torch.from_numpy(array) for name, array in batch.items()} | {"ids": torch.from_numpy(rows)}

    def notes(self) -> dict[str, Any]:
        """The size of the corpus."""
        return {"train_tokens": self._train.size, "validation_tokens": self._held_out.size}
