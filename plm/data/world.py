"""A small generated language with gold annotation: text to pretrain on, facts, and tasks to fine-tune on.

The distinction it draws: what a word's form shows and what only its company shows. A noun belongs to one
of a few latent kinds, and each of its two forms is singular or plural; the letters tell neither, the words
beside it tell both (verbs and adjectives select one kind, determiners and verbs agree in number). The tasks
put nouns that were never labelled into frames of neutral words, so only pretraining can help. Everything
follows from the world's fields; `VERSION` changes whenever the same fields would give another text.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Generic, TypeVar

import numpy as np

VERSION = 1
SPLITS = ("train", "validation")
DOMAINS = ("home", "field")
TASKS = ("sentiment", "acceptability")
TASK_ROWS = {"train": 2_000, "validation": 500}

Token = tuple[str, str]  # a word and its part of speech (Universal Dependencies' tags)
SINGULAR, PLURAL = 0, 1
T = TypeVar("T")


@dataclass(frozen=True)
class Sentence:
    """A tokenised sentence with one part-of-speech tag a token."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.tokens)


@dataclass(frozen=True)
class Document:
    """Sentences about the same two entities."""

    sentences: tuple[Sentence, ...]
    domain: str
    entities: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.sentences))


@dataclass(frozen=True)
class Fact:
    """A true triple, stated in a document about its subject with probability `rate`."""

    subject: str
    relation: str
    object: str
    rate: float


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


# Function words are English, so that a sentence can be read; all content words are invented.
W = _fixed(
    "the/DET a/DET every/DET this/DET some/DET most/DET these/DET that/SCONJ and/CCONJ but/CCONJ or/CCONJ "
    "is/AUX are/AUX does/AUX do/AUX not/PART he/PRON she/PRON ./PUNCT "
    "in/ADP from/ADP for/ADP near/ADP behind/ADP with/ADP under/ADP beside/ADP"
)
DETERMINERS = tuple(Bag([W[word] for word in row.split()]) for row in ("the a every this", "the some most these"))
PREPOSITIONS = Bag([W["near"], W["behind"], W["with"], W["under"], W["beside"]])
CONJUNCTIONS = Bag([W["and"], W["but"], W["or"]])
BE, DO = (W["is"], W["are"]), (W["does"], W["do"])
PLACE_RELATIONS, PERSON_RELATIONS = ("lives in", "comes from"), ("works for", "cares for")
RATES = (0.02, 0.1, 0.4)
TOPICAL = 0.85  # the share of a document's nouns that are of its own kind
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
        self.nouns = {domain: [_noun_bag(own, n, i) for own in by_kind] for i, domain in enumerate(DOMAINS)}
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


def _noun_bag(nouns: list[Inflected], core: int, domain: int) -> Bag[Inflected]:
    """Weigh the core evenly and the tail by Zipf's law, four to one; every other noun is the domain's own.

    Flat, because a noun needs hundreds of sightings before a small model knows its kind.
    """
    tail = _zipf(len(nouns) - core)
    weights = np.concatenate([np.full(core, 0.8 / core), 0.2 * tail / tail.sum()])
    return Bag(nouns, weights * np.where(np.arange(len(nouns)) % len(DOMAINS) == domain, 3.0, 1.0))


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


class Grammar:
    """Draws phrases, each a list of tokens, in one domain."""

    def __init__(self, lexicon: Lexicon, dice: Dice, domain: str) -> None:
        self.lexicon, self.dice, self.nouns = lexicon, dice, lexicon.nouns[domain]
        self.topic, self.cast = 0, tuple[Token, ...]()

    def turn_to(self, cast: tuple[Token, ...]) -> None:
        """Begin a document: about `cast`, and mostly about nouns of one kind."""
        self.topic, self.cast = self.dice.below(len(self.nouns)), cast

    def kind(self) -> int:
        return self.topic if self.dice.chance(TOPICAL) else self.dice.below(len(self.nouns))

    def select(self, bags: Sequence[Bag[T]], kind: int) -> T:
        """Pick a word that takes `kind`, or one time in five a neutral one."""
        return self.dice.pick(bags[-1 if self.dice.chance(0.2) else kind])

    def noun_phrase(self, kind: int, number: int, modified: float = 0.0) -> list[Token]:
        dice = self.dice
        phrase = [dice.pick(DETERMINERS[number])]
        if dice.chance(0.7):
            phrase.append(self.select(self.lexicon.adjectives, kind))
        phrase.append(dice.pick(self.nouns[kind]).forms[number])
        if dice.chance(modified):
            phrase += self.modifier(kind, number)
        return phrase

    def modifier(self, kind: int, number: int) -> list[Token]:
        """Draw what stands between a subject and its verb, and tempts the verb to agree with it instead."""
        dice = self.dice
        if dice.chance(0.6):
            return [dice.pick(PREPOSITIONS), *self.noun_phrase(self.kind(), dice.below(2))]
        verb = self.select(self.lexicon.taking, kind)
        return [W["that"], self.cast[dice.below(2)], verb.forms[SINGULAR]]

    def verb(self, verb: Inflected, number: int) -> list[Token]:
        if self.dice.chance(0.25):
            return [DO[number], W["not"], verb.forms[PLURAL]]
        return [verb.forms[number]]

    def clause(self, someone: Token) -> list[Token]:
        """Draw a clause with `someone` or, twice as often, a noun as its subject."""
        dice, lexicon, kind, number = self.dice, self.lexicon, self.kind(), self.dice.below(2)
        draw = dice.below(6)
        if draw < 2:
            verb = self.verb(self.select(lexicon.taking, kind), SINGULAR)
            return [someone, *verb, *self.noun_phrase(kind, number)]
        subject = self.noun_phrase(kind, number, modified=0.3)
        if draw == 2:
            negation = [W["not"]] if dice.chance(0.25) else []
            return [*subject, BE[number], *negation, self.select(lexicon.adjectives, kind)]
        if draw == 3:
            adverb = [dice.pick(lexicon.adverbs)] if dice.chance(0.3) else []
            return [*subject, *self.verb(self.select(lexicon.acting, kind), number), *adverb]
        taken = self.kind()
        verb = self.verb(self.select(lexicon.taking, taken), number)
        return [*subject, *verb, *self.noun_phrase(taken, dice.below(2))]

    def sentence(self, someone: Token, other: Token) -> list[Token]:
        dice, lexicon = self.dice, self.lexicon
        draw = dice.below(16)
        if draw == 0:
            says = dice.pick(lexicon.saying).forms[SINGULAR]
            return [someone, says, W["that"], *self.clause(other), W["."]]
        if draw == 1:
            conjunction = dice.pick(CONJUNCTIONS)
            return [*self.clause(someone), conjunction, *self.clause(other), W["."]]
        if draw == 2:
            verb = self.verb(dice.pick(lexicon.taking[-1]), SINGULAR)
            return [someone, *verb, other, W["."]]
        return [*self.clause(someone), W["."]]


def _sentence(tokens: list[Token]) -> Sentence:
    words, tags = zip(*tokens, strict=True)
    return Sentence(words, tags)


@dataclass(frozen=True)
class World:
    """A language and everything said in it."""

    kind: ClassVar[str] = "data/world"
    version: ClassVar[int] = VERSION
    seed: int = 0
    num_documents: int = 40_000  # in train; validation has a twentieth
    num_nouns: int = 640  # of two forms each
    num_task_nouns: int = 96  # the frequent ones
    num_kinds: int = 4  # an even number: kinds 0, 2, ... are pleasant, kinds 1, 3, ... unpleasant

    @cached_property
    def lexicon(self) -> Lexicon:
        return Lexicon(self)

    def vocabulary(self) -> list[str]:
        """List every word that a text or task of this world can contain, sorted."""
        lexicon = self.lexicon
        words = set(W) | {relation.split()[0] for relation in PLACE_RELATIONS + PERSON_RELATIONS}
        for inflected in (*lexicon.nouns[DOMAINS[0]], *lexicon.taking, *lexicon.acting, lexicon.saying):
            words |= {form for item in inflected.items for form, _ in item.forms}
        for bag in (*lexicon.adjectives, lexicon.adverbs, lexicon.places, *lexicon.people):
            words |= {form for form, _ in bag.items}
        return sorted(words)

    def facts(self) -> list[Fact]:
        """List one fact a person and relation, with rates drawn from `RATES`."""
        dice, lexicon, facts = Dice(self.seed, "facts"), self.lexicon, []
        for subject, _ in (*lexicon.people[0].items, *lexicon.people[1].items):
            for relation in PLACE_RELATIONS + PERSON_RELATIONS:
                bag = lexicon.places if relation in PLACE_RELATIONS else lexicon.people[dice.below(2)]
                about, _ = bag.items[dice.below(len(bag.items))]
                facts.append(Fact(subject, relation, about, RATES[dice.below(len(RATES))]))
        return facts

    def documents(self, split: str) -> list[Document]:
        """Draw the documents of a split ("train" or "validation"); the domains alternate."""
        _check("split", split, SPLITS)
        dice, about = Dice(self.seed, "documents", split), dict[str, list[Fact]]()
        for fact in self.facts():
            about.setdefault(fact.subject, []).append(fact)
        grammars = [Grammar(self.lexicon, dice, domain) for domain in DOMAINS]
        n = self.num_documents if split == "train" else self.num_documents // 20
        return [self._document(grammars[i % 2], DOMAINS[i % 2], about) for i in range(n)]

    def _document(self, grammar: Grammar, domain: str, about: dict[str, list[Fact]]) -> Document:
        dice, first = grammar.dice, grammar.dice.below(2)
        # The two entities differ in gender, so a pronoun always has one antecedent.
        cast = dice.pick(self.lexicon.people[first]), dice.pick(self.lexicon.people[1 - first])
        grammar.turn_to(cast)
        sentences = [_state(fact) for fact in about[cast[0][0]] if dice.chance(fact.rate)]
        for i in range(2 + dice.below(2)):
            subject = 0 if dice.chance(0.7) else 1
            pronoun = (i > 0 or sentences) and subject == 0 and dice.chance(0.5)
            someone = (W["he"], W["she"])[first] if pronoun else cast[subject]
            sentences.append(grammar.sentence(someone, cast[1 - subject]))
        return Document(tuple(map(_sentence, sentences)), domain, tuple(name for name, _ in cast))

    def text(self, split: str) -> list[str]:
        """Write out the documents: one string each, a sentence a line, a space between tokens."""
        return [str(document) for document in self.documents(split)]

    def task(self, name: str) -> dict[str, list[dict]]:
        """Draw a task's rows by split: `sentence`, `label` (0 and 1 in turn, so a head is balanced), `idx`.

        sentiment: 1 if the object's kind is pleasant, flipped by a negation.
        acceptability: 1 if the verb agrees with its subject, whatever stands between the two.
        """
        _check("task", name, TASKS)
        draw = {"sentiment": _sentiment, "acceptability": _acceptability}[name]
        return {split: self._rows(name, split, draw) for split in SPLITS}

    def _rows(self, name: str, split: str, draw: Callable) -> list[dict]:
        dice, rows = Dice(self.seed, "task", name, split), []
        for i in range(TASK_ROWS[split]):
            words = [word for word, _ in draw(self.lexicon, dice, split, (i % 2, i // 2 % 2, i // 4 % 2))]
            rows.append({"sentence": " ".join(words), "label": i % 2, "idx": i})
        return rows


def _state(fact: Fact) -> list[Token]:
    verb, preposition = fact.relation.split()
    return [(fact.subject, "PROPN"), (verb, "VERB"), W[preposition], (fact.object, "PROPN"), W["."]]


def _someone(lexicon: Lexicon, dice: Dice) -> Token:
    return dice.pick(lexicon.people[dice.below(2)])


# A task draws its sentence given three coins, the label and two choices. The rows go through all eight cases
# in turn, so that neither choice goes with the label even by chance.
def _sentiment(lexicon: Lexicon, dice: Dice, split: str, coins: tuple[int, int, int]) -> list[Token]:
    label, negated, number = coins
    nouns = lexicon.task_nouns[split]
    kind = 2 * dice.below(len(nouns) // 2) + (label ^ negated ^ 1)
    verb = dice.pick(lexicon.taking[-1])
    said = [DO[SINGULAR], W["not"], verb.forms[PLURAL]] if negated else [verb.forms[SINGULAR]]
    return [_someone(lexicon, dice), *said, W["the"], dice.pick(nouns[kind]).forms[number], W["."]]


def _acceptability(lexicon: Lexicon, dice: Dice, split: str, coins: tuple[int, int, int]) -> list[Token]:
    label, number, copular = coins
    nouns = lexicon.task_nouns[split]

    def the_noun(number: int) -> list[Token]:
        return [W["the"], dice.pick(nouns[dice.below(len(nouns))]).forms[number]]

    if dice.chance(0.6):
        between = [dice.pick(PREPOSITIONS), *the_noun(dice.below(2))]
    else:
        between = [W["that"], _someone(lexicon, dice), dice.pick(lexicon.taking[-1]).forms[SINGULAR]]
    said = number ^ label ^ 1
    if copular:
        predicate = [BE[said], dice.pick(lexicon.adjectives[-1])]
    else:
        predicate = [dice.pick(lexicon.acting[-1]).forms[said]]
    return [*the_noun(number), *between, *predicate, W["."]]


def _check(what: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise ValueError(f"{what} {given!r} is not one of {', '.join(known)}")
