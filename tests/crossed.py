"""A language in which word frequency, class size and predictability are crossed, so that their effects can be told apart.

In natural text the three go together: determiners are frequent, few, and follow from their neighbours. Here each of eight
classes has its own combination. It comes as files that go through the same doors as anybody's: text to pretrain on, and
tagged sentences.

A sentence is a few pairs of a cue and a word. The cue tells the word's class; in bound classes it tells the word too.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from plm.data.gold import TaggedSentence, aligned
from plm.rng import numpy_stream

FREQUENCY = {"rare": 1.0, "frequent": 8.0}
"""How often a word of the class occurs, relative to others."""
TYPES = {"few": 5, "many": 20}
"""Words of the class."""
BOUND = {"free": 0.0, "bound": 0.9}
"""In which share of pairs the cue tells the word; in the others it is any cue of the class."""
SPREAD = 4.0
"""The commonest word of a class occurs so many times as often as its rarest."""
PAIRS = 5
"""Of a sentence."""
CUE, STOP = "CUE", "PUNCT"
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprtvz" for vowel in "aeiou"]


class Class(NamedTuple):
    """Words that are alike, and their cues: the n-th cue belongs to the n-th word."""

    name: str
    words: tuple[str, ...]
    cues: tuple[str, ...]
    weights: tuple[float, ...]
    bound: float


def classes(seed: int = 0) -> tuple[Class, ...]:
    """The eight classes, named like `FREQUENT-FEW-BOUND`."""
    forms = iter(numpy_stream(seed, "crossed", "words").permutation(len(_SYLLABLES) ** 2).tolist())

    def coined(count: int) -> tuple[str, ...]:
        return tuple("".join(_SYLLABLES[part] for part in divmod(next(forms), len(_SYLLABLES))) for _ in range(count))

    return tuple(
        Class(
            "-".join((frequency, size, bound)).upper(),
            coined(TYPES[size]),
            coined(TYPES[size]),
            tuple((FREQUENCY[frequency] * SPREAD ** np.linspace(0.5, -0.5, TYPES[size])).tolist()),
            BOUND[bound],
        )
        for frequency, size, bound in product(FREQUENCY, TYPES, BOUND)
    )


def sentences(count: int, split: str, seed: int = 0) -> list[TaggedSentence]:
    """Tagged sentences; another `split` has others."""
    there, draw = classes(seed), numpy_stream(seed, "crossed", split)
    owners = [(k, i) for k, own in enumerate(there) for i in range(len(own.words))]
    weights = np.array([weight for own in there for weight in own.weights])
    chosen = draw.choice(len(owners), size=(count, PAIRS), p=weights / weights.sum())
    told, other = draw.random((count, PAIRS)), draw.random((count, PAIRS))
    found = []
    for row in range(count):
        words, tags = list[str](), list[str]()
        for pair in range(PAIRS):
            k, i = owners[chosen[row, pair]]
            own = there[k]
            cue = i if told[row, pair] < own.bound else int(other[row, pair] * len(own.cues))
            words += [own.cues[cue], own.words[i]]
            tags += [CUE, own.name]
        found.append(aligned([*words, "."], [*tags, STOP], [""] * (2 * PAIRS + 1), None))
    return found


def write(folder: Path, count: int = 20_000, seed: int = 0) -> tuple[str, str]:
    """Write `count` sentences of training text, a twentieth of validation text, and 500 tagged sentences of each split.

    Returns:
        The folders of text and of tagged sentences: a corpus for `plm.pretrain`, gold data for `plm.analyses`.
    """
    text, gold = folder / "text", folder / "gold"
    for place in (text, gold):
        place.mkdir(parents=True, exist_ok=True)
    train, validation = sentences(count, "train", seed), sentences(count // 20, "validation", seed)
    for name, own in (("train", train), ("validation", validation)):
        (text / f"{name}.txt").write_text("".join(f"{sentence.text}\n" for sentence in own))
    for name, own in (("train", train[:500]), ("test", sentences(500, "test", seed))):
        (gold / f"{name}.conllu").write_text("\n".join(map(_conllu, own)))
    return str(text), str(gold)


def _conllu(sentence: TaggedSentence) -> str:
    lines = [
        "\t".join([str(number), word, "_", tag, *"______"])
        for number, (word, tag) in enumerate(zip(sentence.words, sentence.upos, strict=True), 1)
    ]
    return "\n".join([f"# text = {sentence.text}", *lines, ""])
