"""A corpus as blocks of tokens: tokenised once, kept in Arrow files, read in an order that is a pure function.

The tokens are a function of the corpus alone and are kept once; the blocks of a sequence length are arithmetic over
them. Which block comes when is decided by a seed and an epoch; what is masked in it by a seed and a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, final

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from plm.data import sentences
from plm.data import tokenizer as tokenizers
from plm.data import trained as training
from plm.data.columns import Columns, Types, Writer, alone, found
from plm.data.files import Files
from plm.data.mixture import Mixture
from plm.data.trained import Trained
from plm.data.world import World
from plm.rng import numpy_stream
from plm.spec import External, digest, neutral

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

SLICE_SHARE = 20
"""To select by: one in so many training documents."""
TOKENS: Types = {"token": np.int32}
SENTENCES: Types = {"start": np.int64, "length": np.int32, "document": np.int64}
CHARACTERS_AT_ONCE = 1 << 20
"""Text that is tokenised at once, in parallel; a token in work takes about 200 bytes."""


@dataclass(frozen=True)
class Corpus:
    """Text and the tokenizer it is read with."""

    kind: ClassVar[str] = "data/corpus"
    version: ClassVar[int] = 1
    text: World | Files | Mixture
    vocabulary: External | Trained | None
    """The model whose tokenizer is used, or one to train; None: the generated language's own word list."""
    slice: bool = neutral(False)
    """Evaluate on a slice of the training documents, which are not trained on, instead of the validation split."""
    part: tuple[int, int] = neutral((0, 1))
    """(i, n): of each text's training documents, without those of a slice, those alone whose number is i modulo n. Of
    parts with i = 0 the smaller lies in the larger where n is a multiple; two of one n share no document."""
    beside: tuple[World | Files, ...] = neutral(())
    """Texts that are only evaluated, each by a perplexity of its own: what is forgotten of them."""

    def __post_init__(self) -> None:
        self._check_part()
        own = {digest(text) for text in self.texts}
        beside = {digest(text): text for text in self.beside}
        if own & set(beside):
            raise ValueError("a text is evaluated beside itself: it has its perplexity already.")
        object.__setattr__(self, "beside", tuple(beside[each] for each in sorted(beside)))  # one set, one spelling
        self._check_words()
        self._check_names()

    def _check_part(self) -> None:
        whole = isinstance(self.part, tuple) and [type(number) for number in self.part] == [int, int]
        if not whole or not 0 <= self.part[0] < self.part[1]:
            raise ValueError(f"part {self.part} of the documents: write (i, n), whole numbers, with i from 0 to n - 1.")

    def _check_words(self) -> None:
        if self.vocabulary is not None:
            return
        worlds = [text for text in (*self.texts, *self.beside) if isinstance(text, World)]
        if len(worlds) < len(self.texts) + len(self.beside):
            raise ValueError(
                "a corpus of files needs a tokenizer: name a model whose tokenizer to use, or one to train, such as "
                "wordpiece:8192."
            )
        if any(world.vocabulary() != worlds[0].vocabulary() for world in worlds[1:]):
            raise ValueError("a mixture of generated languages of different words needs a tokenizer: name one.")

    def _check_names(self) -> None:
        """Each text's perplexity is reported by its name: of two of one name only one would be."""
        names = [*self.names, *(text.name for text in self.beside)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"two texts are called {twice[0]!r}, among those that are only evaluated and those that are read: their "
                "perplexities could not be told apart. Rename the file or folder of one."
            )

    @property
    def texts(self) -> tuple[World | Files, ...]:
        """The parts of a mixture, or the one text."""
        return self.text.parts if isinstance(self.text, Mixture) else (self.text,)

    @property
    def names(self) -> tuple[str, ...]:
        """What the texts are called in metrics; those of one name are numbered."""
        names = [text.name for text in self.texts]
        return tuple(name if names.count(name) == 1 else f"{name}-{i}" for i, name in enumerate(names))

    @property
    def parts(self) -> tuple[Corpus, ...]:
        """The texts as corpora of their own, all read with one tokenizer."""
        return tuple(replace(self, text=text, beside=()) for text in self.texts)

    def held_back(self) -> Corpus:
        """The corpus to select by: what is reported later comes from documents that no choice has seen."""
        return replace(self, slice=True)

    def documents(self, split: str) -> Iterator[str]:
        """The documents of a split; with `slice`, one in `SLICE_SHARE` of the training documents is for validation."""
        (which, of), sliced, taken = self.part, self.slice, 0
        for number, document in enumerate(self.text.text("train" if sliced else split)):
            if sliced and (number % SLICE_SHARE == SLICE_SHARE - 1) is not (split == "validation"):
                continue
            if split != "train" or taken % of == which:
                yield document
            taken += 1

    @property
    def weights(self) -> tuple[float, ...]:
        """The share of each part in the sequences of training."""
        return self.text.weights if isinstance(self.text, Mixture) else (1.0,)

    @property
    def vocab_size(self) -> int:
        """Tokens of the tokenizer; of one that is still to be trained, at most."""
        if isinstance(self.vocabulary, Trained):
            return self.vocabulary.vocab_size
        return self.tokenizer(Path()).get_vocab_size()

    @property
    def num_sequences(self) -> int:
        """Not known before tokenising.

        Raises:
            ValueError: always; a corpus is trained on for steps or tokens.
        """
        raise ValueError("a duration in epochs: pretraining on a corpus is given in steps or tokens.")

    def tokenizer(self, folder: Path) -> Tokenizer:
        """The tokenizer; one that is trained by us is kept in `folder`."""
        if isinstance(self.vocabulary, Trained):
            return training.load(self.vocabulary, folder)
        if self.vocabulary is None:
            return tokenizers.word_level(tuple(self.texts[0].vocabulary()))  # type: ignore[union-attr]
        return tokenizers.load(self.vocabulary)


@final
class Blocks:
    """The tokens of a split cut into blocks of T, the rest at the end dropped."""

    def __init__(self, tokens: Columns, seq_len: int) -> None:
        self.tokens, self._seq_len = tokens, seq_len

    def __len__(self) -> int:
        return len(self.tokens) // self._seq_len

    @property
    def size(self) -> int:
        """Tokens in whole blocks."""
        return len(self) * self._seq_len

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> Int[np.ndarray, "B T"]:
        """Copy the chosen blocks."""
        chosen = np.arange(len(self))[rows] if isinstance(rows, slice) else rows
        copied = np.empty((len(chosen), self._seq_len), np.int32)
        for row, start in enumerate((chosen * self._seq_len).tolist()):
            copied[row] = self.tokens.read("token", start, start + self._seq_len)
        return copied


def blocks(corpus: Corpus, split: str, seq_len: int, folder: Path) -> Blocks:
    """The split's blocks of `seq_len` tokens, from `folder`; tokenised on first use.

    Raises:
        ValueError: the split has less than one block of text.
    """
    cut = Blocks(tokenised(corpus, split, folder).tokens, seq_len)
    if not len(cut):
        raise ValueError(f"the {split} split of the corpus is shorter than one sequence of {seq_len} tokens.")
    return cut


class Tokenised(NamedTuple):
    """A split on disk."""

    tokens: Columns
    """`token`: the documents end to end."""
    sentences: Columns
    """`start` and `length` of each sentence in the tokens, and the number of its `document`."""


def tokenised(corpus: Corpus, split: str, folder: Path) -> Tokenised:
    """The split's tokens and where its sentences are, made on first use, or where a file was cut short.

    A document is `[CLS] line [SEP] line [SEP]`; for tokenizers without these, the text as it is, between its marks of
    beginning (if there is one) and end.

    Raises:
        ValueError: the text cannot be read, or the tokenizer has no mark that ends a document.
    """
    there = _there(corpus, split, folder)
    if there is None:
        tokenizer = corpus.tokenizer(folder)
        with alone(folder):
            there = _there(corpus, split, folder)  # another process may have made them meanwhile
            if there is None:
                _write(corpus, split, tokenizer, folder)
                there = _there(corpus, split, folder)
    assert there is not None
    return there


def _paths(corpus: Corpus, split: str, folder: Path) -> tuple[Path, Path]:
    stem = f"{digest(corpus)[:16]}-{split}"
    return folder / f"{stem}.arrow", folder / f"{stem}-sentences.arrow"


def _there(corpus: Corpus, split: str, folder: Path) -> Tokenised | None:
    tokens, index = _paths(corpus, split, folder)
    words, sentence_index = found(tokens, TOKENS), found(index, SENTENCES)
    return None if words is None or sentence_index is None else Tokenised(words, sentence_index)


def _write(corpus: Corpus, split: str, tokenizer: Tokenizer, folder: Path) -> None:
    frame, at, number = _frame(tokenizer), 0, 0
    tokens, sentence_index = _paths(corpus, split, folder)
    with ExitStack() as stack:
        words = stack.enter_context(Writer(tokens, TOKENS))
        index = stack.enter_context(Writer(sentence_index, SENTENCES))
        for documents in _at_once(corpus.documents(split)):
            cut = [document.split("\n") if frame.by_line else [document] for document in documents]
            encoded = iter(tokenizer.encode_batch([piece for c in cut for piece in c], add_special_tokens=False))
            for pieces in cut:
                ids, starts, lengths = _document(pieces, encoded, frame)
                words.append(token=np.asarray(ids, np.int32))
                index.append(
                    start=np.asarray(starts, np.int64) + at,
                    length=np.asarray(lengths, np.int32),
                    document=np.full(len(starts), number),
                )
                at, number = at + len(ids), number + 1


class _Frame(NamedTuple):
    """What stands before a document and after each of its pieces."""

    begin: list[int]
    end: int
    by_line: bool


def _frame(tokenizer: Tokenizer) -> _Frame:
    special = tokenizers.symbols(tokenizer)
    if special.cls is not None and special.sep is not None:
        return _Frame([special.cls], special.sep, True)
    if special.eos is None:
        raise ValueError(
            "the tokenizer has no token that ends a document: it needs [CLS] and [SEP], </s>, or <|endoftext|>."
        )
    begin = [] if special.bos is None or special.bos == special.eos else [special.bos]
    return _Frame(begin, special.eos, False)


def _document(pieces: list[str], encoded: Iterator[Encoding], frame: _Frame) -> tuple[list[int], list[int], list[int]]:
    """Token ids of a document; start and length of its sentences among them."""
    ids, starts, lengths = list(frame.begin), [], []
    for piece in pieces:
        encoding = next(encoded)
        there = encoding.ids
        for begin, end in pairwise([*_sentence_starts(piece, encoding), len(there)]):
            if end > begin:
                starts.append(len(ids) + begin)
                lengths.append(end - begin)
        ids += there
        ids.append(frame.end)
    return ids, starts, lengths


def _sentence_starts(piece: str, encoding: Encoding) -> list[int]:
    """The tokens that begin a sentence, 0 first, ascending."""
    begun, passed = [0], 0
    for line in piece.split("\n"):
        for start in sentences.starts(line):
            token = encoding.char_to_token(passed + start) if passed + start else None
            if token is not None and token > begun[-1]:
                begun.append(token)
        passed += len(line) + 1
    return begun


def _at_once(documents: Iterator[str] | list[str]) -> Iterator[list[str]]:
    held: list[str] = []
    size = 0
    for document in documents:
        held.append(document)
        size += len(document)
        if size >= CHARACTERS_AT_ONCE:
            yield held
            held, size = [], 0
    if held:
        yield held


def block_order(count: int, seed: int, epoch: int, *part: int) -> NDArray[np.int64]:
    """The order of the blocks in an epoch; `part` says of which part of a mixture."""
    return numpy_stream(seed, "order", epoch, *part).permutation(count)
