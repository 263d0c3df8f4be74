"""A corpus as blocks of tokens: tokenised once, kept as Arrow, read in an order that is a pure function.

The blocks are a function of the corpus and the sequence length alone; which block comes when is decided by a seed and
an epoch; what is masked in it by a seed and a step.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from plm.data import tokenizer as tokenizers
from plm.data.files import Files
from plm.data.world import World
from plm.rng import numpy_stream
from plm.spec import External, digest

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Corpus:
    """Text and the tokenizer it is read with."""

    kind: ClassVar[str] = "data/corpus"
    version: ClassVar[int] = 1
    text: World | Files
    vocabulary: External | None
    """The model whose tokenizer is used; None: the generated language's own word list."""

    def __post_init__(self) -> None:
        if self.vocabulary is None and not isinstance(self.text, World):
            raise ValueError("a corpus of files needs a tokenizer: name a model whose tokenizer to use.")

    @property
    def num_sequences(self) -> int:
        """Not known before tokenising.

        Raises:
            ValueError: always; a corpus is trained on for steps or tokens.
        """
        raise ValueError("a duration in epochs: pretraining on a corpus is given in steps or tokens.")

    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""
        if self.vocabulary is None:
            return tokenizers.word_level(tuple(self.text.vocabulary()))  # type: ignore[union-attr]
        return tokenizers.load(self.vocabulary)


def blocks(corpus: Corpus, split: str, seq_len: int, folder: Path) -> NDArray[np.int32]:
    """The split's tokens as (number of blocks, T), from `folder`; tokenised on first use.

    A document is `[CLS] line [SEP] line [SEP]`; documents are laid end to end and cut every T tokens.

    Raises:
        ValueError: the split has less than one block of text.
    """
    path = folder / f"{digest(corpus)[:16]}-{split}-{seq_len}.arrow"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f".{path.name}.{uuid.uuid4().hex}"
        with pa.OSFile(str(new), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("tokens", pa.int32())])) as writer:
            for chunk in _whole_blocks(_tokens(corpus, split), seq_len):
                writer.write_batch(pa.record_batch([pa.array(chunk)], names=["tokens"]))
        os.replace(new, path)
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    if table.num_rows == 0:
        raise ValueError(f"the {split} split of the corpus is shorter than one sequence of {seq_len} tokens.")
    return table.column("tokens").to_numpy().reshape(-1, seq_len)


def _tokens(corpus: Corpus, split: str) -> Iterator[NDArray[np.int32]]:
    tokenizer = corpus.tokenizer()
    start, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    for document in corpus.text.text(split):
        lines = tokenizer.encode_batch(document.split("\n"), add_special_tokens=False)
        yield np.asarray([start, *(token for line in lines for token in (*line.ids, end))], np.int32)


def _whole_blocks(
    documents: Iterator[NDArray[np.int32]], seq_len: int, at_once: int = 1024
) -> Iterator[NDArray[np.int32]]:
    """Documents end to end in chunks of whole blocks; what is left over at the end is dropped."""
    held: list[NDArray[np.int32]] = []
    for document in documents:
        held.append(document)
        if sum(map(len, held)) >= at_once * seq_len:
            joined = np.concatenate(held)
            whole = len(joined) // seq_len * seq_len
            yield joined[:whole]
            held = [joined[whole:]]
    joined = np.concatenate(held) if held else np.empty(0, np.int32)
    if len(joined) >= seq_len:
        yield joined[: len(joined) // seq_len * seq_len]


def block_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of the blocks in an epoch."""
    return numpy_stream(seed, "order", epoch).permutation(count)
