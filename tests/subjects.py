"""Tiny subjects of analyses: random models of two layers that read whole words, or the pieces of a toy WordPiece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiny import SIZES, WORDS, perturbed

PIECES = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    ".",
    "un",
    "##know",
    "##able",
    "##s",
)


def words(vocabulary: Sequence[str] = WORDS) -> Any:
    """A tokenizer of whole words."""
    from plm.data.tokenizer import word_level

    return fast(word_level(tuple(vocabulary)))


def pieces() -> Any:
    """A tokenizer of word pieces."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(PIECES[:5]))
    return fast(tokenizer)


def sentencepieces() -> Any:
    """A tokenizer of SentencePiece's kind: some words have a piece with the space before them, some have not."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    named = [(token, 0.0) for token in PIECES[:5]]
    own = [("▁", -3.0), ("▁the", -1.0), ("cat", -1.0), ("un", -1.0)]
    tokenizer = Tokenizer(models.Unigram([*named, *own], unk_id=1))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(list(PIECES[:5]))
    return fast(tokenizer)


def fast(tokenizer: Any) -> Any:
    """A tokenizer as transformers holds it."""
    from transformers import PreTrainedTokenizerFast

    from plm.data.tokenizer import roles

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles(tokenizer))


def subject(head: str = "BertForMaskedLM", tokenizer: Any = None, seed: int = 0, **changes: Any) -> Any:
    """A subject with a random model; `head` is the name of a class of transformers."""
    import torch
    import transformers

    from plm.analyses import Subject

    tokenizer = tokenizer or words()
    cls = getattr(transformers, head)
    sizes = {**SIZES, "vocab_size": len(tokenizer), "hidden_size": 16, "num_attention_heads": 2} | changes
    causal = head.startswith(("GPT2", "Llama"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = perturbed(cls(cls.config_class(**sizes, bos_token_id=None, eos_token_id=None)), seed).eval()
    return Subject(model, tokenizer, sizes["max_position_embeddings"], causal, torch.device("cpu"))
