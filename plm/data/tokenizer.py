"""Tokenizers as values: the one of an external model, or the word list of the generated language.

All are `tokenizers.Tokenizer` objects once loaded; the folder form that `AutoTokenizer` reads is written beside every
checkpoint.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from plm.data.examples import Examples
from plm.external import verify
from plm.models import Model
from plm.spec import Checkpoint, External, RunSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from plm.data.corpus import Corpus

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
VOCABULARIES = ("vocab.", "spiece.model", "tokenizer.model")


@dataclass(frozen=True)
class Symbols:
    """What corruption must know of a tokenizer of V tokens."""

    size: int
    special: NDArray[np.bool_]
    """(V,) which tokens stand for no text; rows beyond V are models' padding of the vocabulary."""
    pad: int
    cls: int | None
    sep: int | None
    mask: int | None


def symbols(tokenizer: Tokenizer) -> Symbols:
    """The special tokens of a tokenizer."""
    ids = {role: tokenizer.token_to_id(token) for role, token in SPECIAL.items()}
    special = np.zeros(tokenizer.get_vocab_size(), bool)
    special[[i for i in ids.values() if i is not None]] = True
    return Symbols(len(special), special, ids["pad_token"] or 0, ids["cls_token"], ids["sep_token"], ids["mask_token"])


def of(spec: RunSpec) -> Tokenizer:
    """The tokenizer that a run reads text with: its corpus's, or its origin's, found through the lineage.

    Raises:
        ValueError: the run starts from nothing and its data has no tokenizer.
    """
    found = source(spec)
    return load(found) if isinstance(found, External) else found.tokenizer()


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

    ids = {word: i for i, word in enumerate((*SPECIAL.values(), *vocabulary))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(SPECIAL.values()))
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
        **{role: token for role, token in SPECIAL.items() if tokenizer.token_to_id(token) is not None},
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
