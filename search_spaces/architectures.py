"""Choices of architecture: small models of a family by their size, and ALBERT's two ways of having fewer weights."""

from __future__ import annotations

import functools
import re
from typing import Any

from plm.models import SHARINGS, Model
from search_spaces.axis import Axis, choices
from search_spaces.texts import reading

HEAD_SIZE = 32
"""Width of an attention head."""


def models(*values: str) -> Axis:
    """An axis of models of the families of its values, by their size, such as `bert-4x128`: layers x width."""
    families = [value.partition("-")[0] for value in values]
    form = " or ".join(f"{family}-LAYERSxWIDTH" for family in families)

    def parse(text: str) -> tuple[str, ...]:
        found = re.fullmatch(rf"({'|'.join(families)})-([1-9]\d*)x([1-9]\d*)", text)
        if not found or int(found[3]) % HEAD_SIZE:
            raise ValueError(
                f"{text!r} is not a model here: write {form}, such as {values[0]}; the width is a multiple of "
                f"{HEAD_SIZE}, the width of a head."
            )
        return (text,)

    return Axis(values, parse, f"{form}, such as {values[0]}")


def sharings(*values: str) -> Axis:
    """An axis of what layers share of their weights."""
    return choices(*values, known=SHARINGS)


def embedding_sizes(*values: int) -> Axis:
    """An axis of widths of the embeddings."""

    def parse(text: str) -> tuple[int, ...]:
        if not text.isdecimal() or int(text) == 0:
            raise ValueError(f"{text!r} is not a width: write a positive whole number.")
        return (int(text),)

    return Axis(values, parse, "positive whole numbers")


def architecture(model: str, text: str, **fields: Any) -> Model:
    """The architecture that a model's name means, as large as a text's vocabulary and sequences ask for.

    Wide initial weights, because with BERT's 0.02 so narrow a model takes long to leave the unigram plateau. An
    ELECTRA's embeddings are as wide as its layers, as a BERT's are, and its generator half as wide: 64 of 128, as that
    of the paper's small one.

    Args:
        fields: The family's own, such as `sharing="all"`.
    """
    from plm.registry import member

    family, _, size = model.partition("-")
    layers, width = map(int, size.split("x"))
    if family == "electra":
        fields = {"embedding_size": width, "generator_fraction": 0.5, **fields}
    named: Model = member("models", family)(
        vocab_size=_vocab_size(text),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD_SIZE,
        intermediate_size=4 * width,
        max_position_embeddings=max(64, reading(text).seq_len),
        dropout=0.0,
        initializer_range=0.05,
        **fields,
    )
    return named


@functools.cache
def _vocab_size(text: str) -> int:
    from plm.data.sources import corpus

    return corpus(text, reading(text).vocabulary).vocab_size
