"""Tokenizers: the one of an external model, one trained by us, or the word list of the generated language.

All are `tokenizers.Tokenizer` objects once loaded; which of their tokens plays which role is found by the names that the
families of models use. The folder form that `AutoTokenizer` reads is written beside every checkpoint.
"""

from __future__ import annotations

import functools
import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plm.data.examples import Examples
from plm.external import verify
from plm.models import OFFSET, Model, Shape
from plm.spec import Checkpoint, External, RunSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from plm.data.corpus import Corpus

WORD_LEVEL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROLES = {
    "pad_token": ("[PAD]", "<pad>", "<|padding|>", "<|pad|>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<cls>"),
    "sep_token": ("[SEP]", "<sep>"),
    "mask_token": ("[MASK]", "<mask>"),
    "bos_token": ("<s>", "<|begin_of_text|>", "<|endoftext|>"),
    "eos_token": ("</s>", "<|end_of_text|>", "<|endoftext|>"),
}
"""What the families call their special tokens. Where there is a mask, RoBERTa's `<s>` and `</s>` frame a text too."""
VOCABULARIES = ("vocab.", "spiece.model", "tokenizer.model")


@dataclass(frozen=True)
class Symbols:
    """What corruption and layout must know of a tokenizer of V tokens."""

    size: int
    special: NDArray[np.bool_]
    """(V,) which tokens stand for no text; rows beyond V are models' padding of the vocabulary."""
    continues: NDArray[np.bool_]
    """(V,) which tokens continue the word before them, unless a special token stands there."""
    pad: int
    """See `padding`."""
    cls: int | None
    sep: int | None
    mask: int | None
    bos: int | None
    eos: int | None
    bytes: NDArray[np.int64] | None = None
    """(V,) of text that each token stands for; None where the tokenizer does not keep the text as it was."""


def symbols(tokenizer: Tokenizer) -> Symbols:
    """The special tokens of a tokenizer, and which tokens go on with a word."""
    ids = _ids(tokenizer)
    marked = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}.union(ids.values())
    vocabulary = tokenizer.get_vocab()
    special = np.zeros(max(tokenizer.get_vocab_size(), max(vocabulary.values()) + 1), bool)
    special[list(marked)] = True
    given = {role.removesuffix("_token"): ids.get(role) for role in ROLES if role not in ("pad_token", "unk_token")}
    continues = _continues(tokenizer, vocabulary) & ~special
    sizes = _bytes(tokenizer, special)
    return Symbols(len(special), special, continues, padding(tokenizer), **given, bytes=sizes)


def roles(tokenizer: Tokenizer) -> dict[str, str]:
    """The special tokens that a tokenizer has, by the role that transformers gives them."""
    found = {}
    for role, names in ROLES.items():
        there = [name for name in names if tokenizer.token_to_id(name) is not None]
        if there:
            found[role] = there[0]
    if "mask_token" in found:
        for role, like in (("cls_token", "bos_token"), ("sep_token", "eos_token")):
            if role not in found and like in found:
                found[role] = found[like]
    return found


def _ids(tokenizer: Tokenizer) -> dict[str, int]:
    vocabulary = tokenizer.get_vocab()
    return {role: vocabulary[token] for role, token in roles(tokenizer).items()}


def _continues(tokenizer: Tokenizer, vocabulary: dict[str, int]) -> NDArray[np.bool_]:
    """By the marks of the algorithm: WordPiece marks what continues, the others the space before what begins.

    Punctuation is a word of its own in all of them. (The marks of GPT-1, at the end of words, tell nothing of a token's
    beginning: there each token counts as a word.)
    """
    model = json.loads(tokenizer.to_str())["model"]
    found = np.zeros(max(vocabulary.values()) + 1, bool)
    if model["type"] == "WordPiece":
        prefix = model["continuing_subword_prefix"]
        found[[i for token, i in vocabulary.items() if token.startswith(prefix)]] = True
    elif model["type"] in ("BPE", "Unigram") and not model.get("end_of_word_suffix"):
        space = max("Ġ▁", key=lambda mark: sum(token.startswith(mark) for token in vocabulary))
        begins = (space, "Ċ", *string.punctuation)
        found[[i for token, i in vocabulary.items() if not token.startswith(begins)]] = True
    return found


def padding(tokenizer: Tokenizer) -> int:
    """The padding token; of tokenizers without one, the end of text; 0 where there is none either."""
    ids = _ids(tokenizer)
    return ids.get("pad_token", ids.get("eos_token", 0))


def _bytes(tokenizer: Tokenizer, special: NDArray[np.bool_]) -> NDArray[np.int64] | None:
    """Bytes of each token of a byte-level tokenizer, which writes each byte as a character; special tokens have none."""
    state = json.loads(tokenizer.to_str())
    if (state["decoder"] or {}).get("type") != "ByteLevel" or state["normalizer"] is not None:
        return None
    found = np.zeros(len(special), np.int64)
    for token, i in tokenizer.get_vocab().items():
        found[i] = 0 if special[i] else len(token)
    return found


def agree(config: Any, tokenizer: Tokenizer) -> None:
    """Give a configuration the special tokens of its tokenizer, in place; what it does not name stays unnamed.

    The padding token is named only if it is one: many decoders never train the embedding of what is named so, and the
    end of text, with which texts are padded where there is nothing else, is a token to be learned.

    Raises:
        ValueError: the family counts positions from the padding token, and there is none.
    """
    ids = _ids(tokenizer)
    config.pad_token_id = ids.get("pad_token")
    if config.pad_token_id is None and config.model_type in OFFSET:
        raise ValueError(
            f"{config.model_type} counts positions from the padding token, and the tokenizer has none: it needs one of "
            f"{', '.join(ROLES['pad_token'])}."
        )
    for name, role in (("bos_token", "cls_token"), ("eos_token", "sep_token")):
        token = ids.get(name, ids.get(role))
        if token is not None and getattr(config, f"{name}_id", None) is not None:
            setattr(config, f"{name}_id", token)


def check_positions(model: Shape, tokenizer: Tokenizer, seq_len: int) -> None:
    """Refuse sequences that do not fit into a position table whose rows are counted from the tokenizer's padding token.

    Raises:
        ValueError: they do not fit.
    """
    rows, first = model.max_position_embeddings, padding(tokenizer) + 1
    if first + seq_len > rows:
        raise ValueError(
            f"seq_len {seq_len}: {model.model_type} counts positions from the padding token, which is {first - 1} here, "
            f"so that its {rows} rows read {max(0, rows - first)} tokens. Shorten it, or set max_position_embeddings to "
            f"{first + seq_len}."
        )


def of(spec: RunSpec, folder: Path) -> Tokenizer:
    """The tokenizer that a run reads text with: its corpus's, or its origin's, found through the lineage.

    Args:
        folder: Where trained tokenizers are kept: the store's `data`.

    Raises:
        ValueError: the run starts from nothing and its data has no tokenizer.
    """
    found = source(spec)
    return load(found) if isinstance(found, External) else found.tokenizer(folder)


def source(spec: RunSpec) -> Corpus | External:
    """What a run's tokenizer is read from: equal sources, equal tokens.

    Raises:
        ValueError: the run starts from nothing and its data has no tokenizer.
    """
    origin = spec.init.origin
    if not isinstance(spec.data, Examples):
        return spec.data
    if isinstance(origin, Checkpoint):
        return source(origin.run)
    if isinstance(origin, Model):
        raise ValueError(f"{spec.run_id} starts from scratch and has no tokenizer: start from a pretrained model.")
    return origin


def load(model: External) -> Tokenizer:
    """The tokenizer of an external model, without truncation or padding.

    Raises:
        ValueError: its files have changed, or there is no tokenizer that can be read.
    """
    return _load(str(verify(model)), model.files)


@functools.lru_cache(maxsize=8)
def _load(folder: str, files: tuple[tuple[str, str], ...]) -> Tokenizer:
    from tokenizers import Tokenizer

    path = Path(folder) / "tokenizer.json"
    if path.is_file():
        tokenizer = Tokenizer.from_file(str(path))
    elif not any(name.startswith(VOCABULARIES) for name, _ in files):  # transformers would make an empty one up
        raise ValueError(f"{folder} has no tokenizer that can be read. Save the model's tokenizer there.")
    else:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
        except Exception as error:  # transformers raises a different type for each missing piece
            raise ValueError(
                f"{folder} has no tokenizer that can be read ({type(error).__name__}: "
                f"{str(error).splitlines()[0]}). Save the model's tokenizer there."
            ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@functools.lru_cache(maxsize=8)
def word_level(vocabulary: tuple[str, ...]) -> Tokenizer:
    """A tokenizer of whole words, split at white space, with BERT's special tokens first (ids 0 to 4)."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    ids = {word: i for i, word in enumerate((*WORD_LEVEL, *vocabulary))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(WORD_LEVEL))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return tokenizer


def files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """The files that make a folder loadable by `AutoTokenizer`."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **roles(tokenizer),
    }
    return {
        "tokenizer.json": tokenizer.to_str(pretty=True).encode(),
        "tokenizer_config.json": json.dumps(config, indent=1).encode(),
    }


def encode(tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]], seq_len: int) -> list[tuple[list[int], list[int]]]:
    """Token ids and segment ids of single texts or pairs, cut to `seq_len` (the longer text of a pair first)."""
    tokenizer.enable_truncation(seq_len)
    try:
        encoded = tokenizer.encode_batch([t[0] if len(t) == 1 else (t[0], t[1]) for t in texts])
    finally:
        tokenizer.no_truncation()
    return [(e.ids, e.type_ids) for e in encoded]


def unknown_share(tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]]) -> float:
    """Share of the tokens of some texts that the tokenizer does not know."""
    model = json.loads(tokenizer.to_str())["model"]  # a Unigram model has an id where the others have a token
    ids = [i for e in tokenizer.encode_batch([" ".join(t) for t in texts], add_special_tokens=False) for i in e.ids]
    unknown = model.get("unk_token")
    unknown_id = model.get("unk_id") if unknown is None else tokenizer.token_to_id(unknown)
    return sum(i == unknown_id for i in ids) / max(1, len(ids))
