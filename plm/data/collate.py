"""Streams of batches: `batch(step)` is a pure function, so training resumes at any step without replaying the ones before.

`evaluation()` gives the evaluation split in a fixed order with fixed masks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
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
from plm.data.mixture import dealt
from plm.data.pairs import paired, runs
from plm.data.trained import Trained
from plm.models import Model, config_of
from plm.objectives import Arrays
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

    def texts(self) -> tuple[tuple[str, int], ...]:
        """Of the evaluation split's texts the name and the first id; none where there is one text or no text."""
        ...

    def beside(self) -> Iterator[tuple[str, Iterator[dict[str, Tensor]]]]:
        """Texts that are only evaluated, by name."""
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
    architecture = spec.init.architecture()
    # What we train agrees with its tokenizer; of other models the configuration counts (decoders find a text's end by it).
    ours = isinstance(architecture, Model)
    return Tokenised(
        tokenizers.encode(tokenizer, train.texts, seq_len),
        train.labels,
        tokenizers.encode(tokenizer, held_out.texts, seq_len),
        held_out.labels,
        tokenizers.padding(tokenizer) if ours else config_of(architecture).pad_token_id or 0,
    )


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

    def examples(self) -> Iterator[dict[str, Tensor]]:
        """The training examples, each once."""
        return self._once(self._rows.train, self._rows.train_labels, self._chosen)

    def evaluation(self) -> Iterator[dict[str, Tensor]]:
        return self._once(self._rows.held_out, self._rows.held_out_labels, np.arange(len(self._rows.held_out)))

    def _once(
        self, tokens: list[Tokens], labels: tuple[float, ...], rows: NDArray[np.int64]
    ) -> Iterator[dict[str, Tensor]]:
        """Long texts first."""
        order = rows[np.argsort([-len(tokens[i][0]) for i in rows], kind="stable")]
        for start in range(0, len(order), EVALUATION_BATCH):
            yield self._collate(tokens, labels, order[start : start + EVALUATION_BATCH])

    def _collate(self, tokens: list[Tokens], labels: tuple[float, ...], rows: NDArray[np.int64]) -> dict[str, Tensor]:
        batch = pad([tokens[i] for i in rows], self._rows.pad_id)
        if not self._segments:
            del batch["token_type_ids"]
        return batch | {"labels": torch.tensor([labels[i] for i in rows]), "ids": torch.as_tensor(rows)}

    def texts(self) -> tuple[tuple[str, int], ...]:
        return ()

    def beside(self) -> Iterator[tuple[str, Iterator[dict[str, Tensor]]]]:
        return iter(())

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

    def __init__(self, spec: RunSpec, folder: Path, *, trained: bool = True) -> None:
        """Open both splits, and of the texts beside the one they are evaluated on; not `trained`: that one alone."""
        assert isinstance(spec.data, Corpus)
        self._spec, self._weights = spec, spec.data.weights
        tokenizer = spec.data.tokenizer(folder)
        self._tokenizer = tokenizer if isinstance(spec.data.vocabulary, Trained) else None
        self._symbols = tokenizers.symbols(tokenizer)
        if spec.objective.pairs and (self._symbols.cls is None or self._symbols.sep is None):
            raise ValueError("the tokenizer has no [CLS] and [SEP], which an objective on pairs of segments needs.")
        read = runs if spec.objective.pairs else blocks
        self._train, self._held_out = (
            _Parts([read(part, split, spec.seq_len, folder) for part in spec.data.parts if trained or split != "train"])
            for split in ("train", "validation")
        )
        alone = replace(spec.data, part=(0, 1), beside=())
        self._beside = {
            text.name: CorpusStream(replace(spec, data=replace(alone, text=text)), folder, trained=False)
            for text in spec.data.beside
        }
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def batch(self, step: int) -> dict[str, Tensor]:
        positions = np.arange(step * self._spec.batch_size, (step + 1) * self._spec.batch_size)
        parts, turns = dealt(positions, self._weights, self._spec.seeds.order)
        rows = np.array([self._row(part, turn) for part, turn in zip(parts.tolist(), turns.tolist(), strict=True)])
        keys = [(self._spec.seeds.noise, "pair", position) for position in positions.tolist()]
        draw = numpy_stream(self._spec.seeds.noise, "mask", step)
        return self._corrupted(self._train, parts, rows, keys, draw, static=self._spec.objective.static)

    def _row(self, part: int, turn: int) -> int:
        """The row of a part whose turn it is after so many others of it."""
        count = len(self._train[part])
        epoch = turn // count
        if self._orders.get(part, (-1,))[0] != epoch:
            which = (part,) if len(self._weights) > 1 else ()
            self._orders[part] = epoch, block_order(count, self._spec.seeds.order, epoch, *which)
        return int(self._orders[part][1][turn % count])

    def evaluation(self) -> Iterator[dict[str, Tensor]]:
        """Of each part its share, from its beginning."""
        shares = [
            min(len(part), max(1, round(EVALUATION_BLOCKS * weight)))
            for part, weight in zip(self._held_out, self._weights, strict=True)
        ]
        parts = np.repeat(np.arange(len(shares)), shares)
        rows = np.concatenate([np.arange(share) for share in shares])
        for start in range(0, len(rows), EVALUATION_BATCH):
            chosen = slice(start, start + EVALUATION_BATCH)
            keys = [(EVALUATION_MASKS, "evaluation pair", start + i) for i in range(len(rows[chosen]))]
            draw = numpy_stream(EVALUATION_MASKS, "evaluation masks", start)
            yield self._corrupted(self._held_out, parts[chosen], rows[chosen], keys, draw, static=False)

    def _corrupted(
        self,
        split: _Parts,
        parts: NDArray[np.int64],
        rows: NDArray[np.int64],
        keys: list[tuple[int, str, int]],
        draw: np.random.Generator,
        *,
        static: bool,
    ) -> dict[str, Tensor]:
        """The chosen rows, pairs drawn by their `keys` and the rest by `draw`; static ones by the row alone."""
        objective, noise = self._spec.objective, self._spec.seeds.noise
        ids = split.offsets[parts] + rows
        if static:
            keys = [(noise, "static pair", row) for row in ids.tolist()]
        if objective.pairs:
            chosen = [
                (split[part], row, numpy_stream(*key))
                for part, row, key in zip(parts.tolist(), rows.tolist(), keys, strict=True)
            ]
            # How far a row is padded must not depend on its neighbours where its masks must not.
            clean = paired(chosen, objective, self._symbols, self._spec.seq_len, whole=objective.static)
        else:
            clean = split.blocks(parts, rows)
        if static:
            draws = [numpy_stream(noise, "static mask", row) for row in ids.tolist()]
            alone = ({name: array[i : i + 1] for name, array in clean.items()} for i in range(len(rows)))
            each = [objective.corrupt(row, self._symbols, draw) for row, draw in zip(alone, draws, strict=True)]
            batch = {name: np.concatenate([row[name] for row in each]) for name in each[0]}
        else:
            batch = objective.corrupt(clean, self._symbols, draw)
        told = {"ids": ids} | ({"text": parts} if len(self._weights) > 1 else {})
        return {name: torch.from_numpy(array) for name, array in (batch | told).items()}

    def texts(self) -> tuple[tuple[str, int], ...]:
        assert isinstance(self._spec.data, Corpus)
        told = self._spec.data.names
        return tuple(zip(told, self._held_out.offsets.tolist(), strict=True)) if len(told) > 1 else ()

    def beside(self) -> Iterator[tuple[str, Iterator[dict[str, Tensor]]]]:
        """Each as a run on that text alone would evaluate it."""
        for name, stream in self._beside.items():
            yield name, stream.evaluation()

    def notes(self) -> dict[str, Any]:
        """The size of the corpus, and the tokenizer that was trained for it."""
        sizes = {
            "train_tokens": sum(part.size for part in self._train),
            "validation_tokens": sum(part.size for part in self._held_out),
        }
        if self._tokenizer is None:
            return sizes
        return sizes | {"tokenizer_sha256": hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()}


class _Parts(list[Any]):
    """The sources of a split, one for each text of a mixture; rows are numbered through them all."""

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """The number of the first row of each."""
        return np.cumsum([0, *map(len, self[:-1])])

    def blocks(self, parts: NDArray[np.int64], rows: NDArray[np.int64]) -> Arrays:
        """Packed text."""
        ids = np.concatenate([self[part][rows[parts == part]] for part in np.unique(parts)]).astype(np.int64)
        ids = ids[np.argsort(np.argsort(parts, kind="stable"), kind="stable")]
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
