"""Texts and tokenizers by name: what an experimenter writes, turned into the value that is meant."""

from __future__ import annotations

import re
from collections.abc import Mapping

from plm.data.corpus import Corpus
from plm.data.files import Files, files
from plm.data.lexicon import DOMAINS
from plm.data.mixture import Mixture
from plm.data.trained import Trained
from plm.data.world import STYLES, World
from plm.external import external
from plm.names import parted
from plm.spec import External

Text = World | Files | Mixture

_SPELLED = re.compile(r"(?P<algorithm>[a-z0-9]+):(?P<size>\d+)(:(?P<case>cased|uncased))?(@(?P<text>.+))?")


def text(name: str | Text) -> Text:
    """A text by name: `world`, a file, a folder or a hub id (see `plm.data.files.files`), or several joined by `+`.

    The generated language has a style and domains: `world:stories`, `world:field`, `world:stories:home`. Of several texts
    each is read as often as any other; `mixture` takes other weights.

    Raises:
        ValueError: there is no such text.
    """
    if not isinstance(name, str):
        return name
    if len(several := parted(name, "+")) > 1:
        if not all(several):
            raise ValueError(f"text {name!r}: beside each + stands a text on either side.")
        return mixture(dict.fromkeys(several, 1.0))
    first, *varieties = name.split(":")
    return _world(varieties) if first == "world" else files(name)


def _world(varieties: list[str]) -> World:
    style = [v for v in varieties if v in STYLES]
    domain = [v for v in varieties if v in DOMAINS]
    if len(style) > 1 or len(domain) > 1 or len(style) + len(domain) < len(varieties):
        raise ValueError(
            f"world:{':'.join(varieties)}: after the world stand a style ({', '.join(STYLES)}) and a domain "
            f"({', '.join(DOMAINS)}), or one of them."
        )
    return World(style=[*style, "notes"][0], domain=domain[0] if domain else None)


def mixture(weights: Mapping[str | Text, float]) -> Mixture:
    """Texts in proportion: `mixture({"world": 3, "path/to/folder": 1})`.

    Raises:
        ValueError: fewer than two texts, a weight that is not positive, or no such text.
    """
    parts = tuple(map(text, weights))
    if any(isinstance(part, Mixture) for part in parts):
        raise ValueError("a mixture of mixtures: name all texts in one.")
    return Mixture(parts, tuple(map(float, weights.values())))  # type: ignore[arg-type]


def corpus(named: str | Text, vocabulary: str | External | Trained | None = None) -> Corpus:
    """Text and tokenizer by name.

    Args:
        vocabulary: A tokenizer to train, such as `wordpiece:8192` (see `tokenizer`), or the model (by path
            or hub id) whose tokenizer is used; None: the generated language's own words.

    Raises:
        ValueError: there is no such text, model or algorithm.
    """
    found = text(named)
    if isinstance(vocabulary, str):
        vocabulary = tokenizer(vocabulary, found) or external(vocabulary)
    return Corpus(found, vocabulary)


def tokenizer(name: str, read: Text) -> Trained | None:
    """The tokenizer to train that a string spells: `wordpiece:8192`, `bpe:8192:uncased`, `unigram:8192@path/to/text`.

    WordPiece and Unigram are uncased unless it is said, as BERT's and ALBERT's; the byte-level ones keep case. None: the
    string spells none.

    Raises:
        ValueError: an unknown algorithm, too few tokens, or no such text.
    """
    found = _SPELLED.fullmatch(name)
    if found is None:
        return None
    case = found["case"] or ("uncased" if found["algorithm"] in ("wordpiece", "unigram") else "cased")
    source = text(found["text"]) if found["text"] else read
    return Trained(source, found["algorithm"], int(found["size"]), case == "uncased")
