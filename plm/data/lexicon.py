"""The words of the generated language: invented, inflected, and in bags to draw from; and the dice that draw.

Function words are English, so that a sentence can be read; all content words are made up.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from plm.data.world import World

DOMAINS = ("home", "field")
Token = tuple[str, str]  # a word and its part of speech (Universal Dependencies' tags)
SINGULAR, PLURAL = 0, 1
T = TypeVar("T")


@dataclass(frozen=True)
class Inflected:
    """A noun or verb: its singular and plural form, and the kind it belongs to or selects (None: any)."""

    forms: tuple[Token, Token]
    kind: int | None


class Dice:
    """A stream of random choices that depends on its key alone, so that one stream never shifts another."""

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256(repr(key).encode()).digest()
        self._rng = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
        self._uniform = self._draw()

    def _draw(self) -> Iterator[float]:
        while True:  # in blocks: a call of numpy for each choice would take most of the time
            yield from self._rng.random(4096).tolist()

    def chance(self, probability: float) -> bool:
        return next(self._uniform) < probability

    def below(self, n: int) -> int:
        return int(next(self._uniform) * n)

    def pick(self, bag: Bag[T]) -> T:
        return bag.items[bisect(bag.cumulative, next(self._uniform) * bag.cumulative[-1])]


class Bag(Generic[T]):
    """Items to draw from, in proportion to their weights (Zipf's law in the items' order if not given)."""

    def __init__(self, items: Sequence[T], weights: np.ndarray | None = None) -> None:
        if not items:
            raise ValueError("a bag of no items: the world is too small, give it more words")
        self.items = items
        self.cumulative = np.cumsum(_zipf(len(items)) if weights is None else weights).tolist()


def _zipf(n: int) -> np.ndarray:
    return 1.0 / np.arange(1.0, n + 1)


def _fixed(text: str) -> dict[str, Token]:
    pairs = [entry.split("/") for entry in text.split()]
    return {word: (word, tag) for word, tag in pairs}


W = _fixed(
    "the/DET a/DET every/DET this/DET some/DET most/DET these/DET that/SCONJ and/CCONJ but/CCONJ or/CCONJ "
    "is/AUX are/AUX does/AUX do/AUX not/PART he/PRON she/PRON ./PUNCT "
    "in/ADP from/ADP for/ADP near/ADP behind/ADP with/ADP under/ADP beside/ADP"
)
DETERMINERS = tuple(Bag([W[word] for word in row.split()]) for row in ("the a every this", "the some most these"))
PREPOSITIONS = Bag([W["near"], W["behind"], W["with"], W["under"], W["beside"]])
CONJUNCTIONS = Bag([W["and"], W["but"], W["or"]])
BE, DO = (W["is"], W["are"]), (W["does"], W["do"])
CONSONANTS, VOWELS = "bdfgklmnprtvz", "aeiou"


class Lexicon:
    """The content words of a world, in bags by what the grammar asks for; a neutral bag comes last."""

    def __init__(self, world: World) -> None:
        dice = Dice(world.seed, "lexicon")
        coin, kinds = _coin(dice), range(world.num_kinds)

        def noun(kind: int) -> Inflected:
            stem = next(coin)
            one, other = (stem + "a", "NOUN"), (stem + "o", "NOUN")
            # Half of the nouns swap the endings, so that an ending alone does not tell the number.
            return Inflected((other, one) if dice.chance(0.5) else (one, other), kind)

        def verbs(n: int, kind: int | None) -> Bag[Inflected]:
            stems = [next(coin) for _ in range(n)]
            return Bag([Inflected(((stem + "s", "VERB"), (stem, "VERB")), kind) for stem in stems])

        def plain(n: int, tag: str) -> Bag[Token]:
            return Bag([(next(coin) + "e", tag) for _ in range(n)])

        by_kind = [[noun(kind) for _ in range(world.num_nouns // world.num_kinds)] for kind in kinds]
        n = world.num_task_nouns // world.num_kinds
        # Domains within one text differ less than texts of one domain each.
        self.nouns, self.nouns_apart = (
            {domain: [_noun_bag(own, n, i, contrast) for own in by_kind] for i, domain in enumerate(DOMAINS)}
            for contrast in (3.0, 30.0)
        )
        # One in four is kept from the labelled rows; pairs, since neighbours belong to different domains.
        self.task_nouns = {
            "train": [_flat([noun for i, noun in enumerate(own[:n]) if i // 2 % 4]) for own in by_kind],
            "validation": [_flat([noun for i, noun in enumerate(own[:n]) if not i // 2 % 4]) for own in by_kind],
        }
        self.taking = [verbs(12, kind) for kind in kinds] + [verbs(12, None)]  # by the kind of the object
        self.acting = [verbs(12, kind) for kind in kinds] + [verbs(12, None)]  # by the kind of the subject
        self.adjectives = [plain(12, "ADJ") for _ in kinds] + [plain(12, "ADJ")]
        self.adverbs = plain(150, "ADV")
        self.saying = verbs(12, None)
        self.places = plain(40, "PROPN")
        self.people = plain(60, "PROPN"), plain(60, "PROPN")  # he, she


def _flat(items: Sequence[T]) -> Bag[T]:
    return Bag(items, np.ones(len(items)))


def _noun_bag(nouns: list[Inflected], core: int, domain: int, contrast: float) -> Bag[Inflected]:
    """Weigh the core evenly and the tail by Zipf's law, four to one; every other noun is the domain's own.

    Flat, because a noun needs hundreds of sightings before a small model knows its kind.
    """
    tail = _zipf(len(nouns) - core)
    weights = np.concatenate([np.full(core, 0.8 / core), 0.2 * tail / tail.sum()])
    return Bag(nouns, weights * np.where(np.arange(len(nouns)) % len(DOMAINS) == domain, contrast, 1.0))


def _coin(dice: Dice) -> Iterator[str]:
    """Yield new pronounceable stems that end in a consonant."""
    seen = set(W) | {word[:-1] for word in W}  # so that no stem nor any inflection of it is a function word
    while True:
        syllables = range(1 + dice.below(2) + dice.chance(0.3))
        stem = "".join(CONSONANTS[dice.below(13)] + VOWELS[dice.below(5)] for _ in syllables)
        stem += CONSONANTS[dice.below(13)]
        if stem not in seen:
            seen.add(stem)
            yield stem
