"""Tokenizers that we train: a value that says on which text and how, and the training.

The value enters the identity, the tokenizer does not, so training must be a function of the value: equal in every
process, whatever its threads and hash seeds are. The algorithms are those of the `tokenizers` library; where its result
depends on the order of a hash table, it is put in an order here.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from plm.data.columns import alone
from plm.data.files import Files
from plm.data.mixture import Mixture
from plm.data.world import World
from plm.spec import digest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHARACTERS, OF_UNIGRAM = 1 << 28, 1 << 23
"""Training reads the text up to about this length: word counts change little after it, and they must fit in memory.

Unigram's passes over the words cost more than the others' (8 million characters of Wikipedia: 23 s on a core).
"""
ALPHABET = 20
"""At most every so-manieth token is a single character (1,000 at most); rarer characters are unknown."""


@dataclass(frozen=True)
class Trained:
    """A tokenizer trained on the training split of a text."""

    kind: ClassVar[str] = "data/trained"
    version: ClassVar[int] = 1
    text: World | Files | Mixture
    algorithm: str
    """`wordpiece` (BERT's), `bpe` (byte-level, with RoBERTa's symbols), `gpt2` (byte-level, with an end of text alone),
    `unigram` (ALBERT's)."""
    vocab_size: int
    """Tokens, special ones included; fewer where the text has no more to learn from."""
    lowercase: bool

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"a tokenizer of {self.algorithm!r}: there are {', '.join(ALGORITHMS)}.")
        least = 300 if self.algorithm in ("bpe", "gpt2") else 100  # 256 bytes, or an alphabet
        if not self.vocab_size >= least:
            raise ValueError(f"a vocabulary of {self.vocab_size} tokens: {self.algorithm} needs {least} at least.")

    def documents(self) -> Iterator[str]:
        """What it is trained on."""
        left = OF_UNIGRAM if self.algorithm == "unigram" else CHARACTERS
        for document in self.text.text("train"):
            yield document
            left -= len(document)
            if left <= 0:
                return


def load(trained: Trained, folder: Path) -> Tokenizer:
    """The tokenizer, trained on first use and kept in `folder`."""
    return _load(trained, str(folder))


@functools.lru_cache(maxsize=8)
def _load(trained: Trained, folder: str) -> Tokenizer:
    path = Path(folder) / f"{digest(trained)[:16]}.tokenizer"
    kept = _read(path)
    if kept is None:
        with alone(path.parent):
            kept = _read(path)  # another process may have made it meanwhile
            if kept is None:
                kept = train(trained)
                text = kept.to_str()
                new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
                new.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}", encoding="utf-8")
                os.replace(new, path)
    return kept


def _read(path: Path) -> Tokenizer | None:
    """The tokenizer in a file; None where there is none, or a damaged one."""
    from tokenizers import Tokenizer

    if not path.is_file():
        return None
    sha256, _, text = path.read_bytes().partition(b"\n")
    return Tokenizer.from_str(text.decode()) if hashlib.sha256(text).hexdigest().encode() == sha256 else None


def train(trained: Trained) -> Tokenizer:
    """Train a tokenizer; equal values give equal tokenizers."""
    return ALGORITHMS[trained.algorithm](trained)


def _wordpiece(trained: Trained) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=trained.lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    alphabet = _alphabet(trained, tokenizer.normalizer.normalize_str)
    # The trainer numbers continuing characters in the order of a hash table, and ties go by number: number them first.
    split = tokenizer.pre_tokenizer.pre_tokenize_str
    continuing = [f"##{c}" for c in alphabet if len(split(f"a{c}")) == 1]
    trainer = trainers.WordPieceTrainer(
        vocab_size=trained.vocab_size, special_tokens=[*special, *alphabet, *continuing], show_progress=False,
        limit_alphabet=len(alphabet), initial_alphabet=alphabet,
    )  # fmt: skip
    tokenizer.train_from_iterator(trained.documents(), trainer)
    finished = Tokenizer(models.WordPiece(tokenizer.get_vocab(with_added_tokens=True), unk_token="[UNK]"))
    finished.normalizer, finished.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    finished.decoder = decoders.WordPiece()
    return _framed(finished, special, "[CLS]", "[SEP]")


def _bpe(trained: Trained) -> Tokenizer:
    from tokenizers import AddedToken

    special = ["<pad>", "<s>", "</s>", "<unk>"]  # padding first, as in every family here; RoBERTa's own has it second
    tokenizer = _byte_level(trained, [*special, "<mask>"], add_prefix_space=True)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])  # takes in the space before it
    return _framed(tokenizer, special, "<s>", "</s>", segments=False)


def _gpt2(trained: Trained) -> Tokenizer:
    return _byte_level(trained, ["<|endoftext|>"], add_prefix_space=False)


def _byte_level(trained: Trained, special: list[str], *, add_prefix_space: bool) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    if trained.lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=trained.vocab_size, special_tokens=special, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(trained.documents(), trainer)
    return tokenizer


def _unigram(trained: Trained) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.Unigram())
    steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if trained.lowercase else [])]
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(r"\s+"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    # Every character that the trainer sees becomes a token: it is shown the frequent ones.
    normal = tokenizer.normalizer.normalize_str
    alphabet = frozenset(_alphabet(trained, normal))
    rare = re.compile(f"[^{re.escape(''.join(sorted(alphabet)))}]")
    trainer = trainers.UnigramTrainer(
        vocab_size=trained.vocab_size, special_tokens=special, unk_token="<unk>", show_progress=False,
        shrinking_factor=0.5,  # half the time of 0.75; as many tokens of held-out text to within 1%
    )  # fmt: skip
    tokenizer.train_from_iterator((rare.sub(" ", normal(document)) for document in trained.documents()), trainer)
    pieces = [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]
    learned = _ordered(pieces[len(special) :])
    finished = Tokenizer(models.Unigram([*((token, 0.0) for token in special), *learned], unk_id=1))
    finished.normalizer, finished.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    finished.decoder = decoders.Metaspace()
    return _framed(finished, special, "[CLS]", "[SEP]")


def _ordered(pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Learned pieces with their log-probabilities, without what comes of the order of the trainer's hash tables.

    Its sums run in that order: three digits are the same in every order. Characters that it had thrown away it adds
    again at the lowest score and, in that order, 0.0001 more for each: here at the lowest.
    """
    lowest = min(score for _, score in pieces)
    added = lowest + 1e-4 * sum(len(piece) == 1 for piece, _ in pieces) + 1e-3
    settled = [(p, round(lowest if len(p) == 1 and score < added else score, 3)) for p, score in pieces]
    return sorted(settled, key=lambda piece: (-piece[1], piece[0]))


ALGORITHMS: dict[str, Callable[[Trained], Tokenizer]] = {
    "wordpiece": _wordpiece,
    "bpe": _bpe,
    "gpt2": _gpt2,
    "unigram": _unigram,
}


def _alphabet(trained: Trained, normal: Callable[[str], str]) -> list[str]:
    """The most frequent characters of the normalised text, in order."""
    raw, counts = Counter[str](), Counter[str]()
    for document in trained.documents():
        raw.update(document)
    for character, count in raw.items():
        for shown in normal(character):
            counts[shown] += count
    ordered = sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))
    return sorted(ordered[: min(1000, max(60, trained.vocab_size // ALPHABET))])


def _framed(tokenizer: Tokenizer, special: list[str], start: str, end: str, *, segments: bool = True) -> Tokenizer:
    """The tokenizer with its special tokens marked, and with what stands around a text and between two."""
    from tokenizers import processors

    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B:1 {end}:1" if segments else f"{start} $A {end} {end} $B {end}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (start, end)],
    )
    return tokenizer
