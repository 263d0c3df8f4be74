"""Minimal pairs of the generated language: sentences of its grammar, and twins that break one rule of it.

Agreement is of number, between a determiner and its noun, or a verb and its subject with more or less between them;
selection is of kind, which no word's form shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from plm.data.lexicon import BE, DETERMINERS, DO, PLURAL, PREPOSITIONS, SINGULAR, Dice, Inflected, Lexicon, Token, W
from plm.data.world import World

PAIRS = 200
"""Of each paradigm."""
Pair = tuple[list[Token], list[Token]]


class Paradigm(NamedTuple):
    """What a paradigm is about, and how a pair of it is drawn."""

    field: str
    term: str
    draw: Callable[[Words], Pair]


class Words:
    """Draws words and phrases."""

    def __init__(self, lexicon: Lexicon, dice: Dice) -> None:
        self.lexicon, self.dice = lexicon, dice

    def kinds(self) -> tuple[int, int]:
        """Two different kinds of nouns."""
        n = len(self.lexicon.task_nouns["train"])
        one, step = self.dice.below(n), 1 + self.dice.below(n - 1)
        return one, (one + step) % n

    def noun(self, kind: int) -> Inflected:
        return self.dice.pick(self.lexicon.nouns["home"][kind])

    def number(self) -> int:
        return self.dice.below(2)

    def the(self, number: int, kind: int | None = None) -> list[Token]:
        """`the` and a noun."""
        return [W["the"], self.noun(self.kinds()[0] if kind is None else kind).forms[number]]

    def someone(self) -> Token:
        return self.dice.pick(self.lexicon.people[self.dice.below(2)])

    def acting(self, kind: int = -1) -> Inflected:
        """A verb without an object, neutral unless a kind is given."""
        return self.dice.pick(self.lexicon.acting[kind])

    def taking(self, kind: int = -1) -> Inflected:
        """A verb with an object, neutral unless a kind is given."""
        return self.dice.pick(self.lexicon.taking[kind])

    def adjective(self, kind: int = -1) -> Token:
        return self.dice.pick(self.lexicon.adjectives[kind])


def draw(world: World, paradigm: str) -> list[tuple[str, str]]:
    """The pairs of a paradigm, the acceptable sentence first."""
    words = Words(world.lexicon, Dice(world.seed, "minimal pairs", paradigm))
    drawn = [PARADIGMS[paradigm].draw(words) for _ in range(PAIRS)]
    return [(_written(good), _written(bad)) for good, bad in drawn]


def _written(tokens: list[Token]) -> str:
    return " ".join(word for word, _ in [*tokens, W["."]])


def _determiner(words: Words) -> Pair:
    number = words.number()
    before, noun = [words.someone(), words.taking().forms[SINGULAR]], words.the(number)[1]
    only = [[d for d in DETERMINERS[n].items if d not in DETERMINERS[1 - n].items] for n in (SINGULAR, PLURAL)]
    right, wrong = (only[n][words.dice.below(len(only[n]))] for n in (number, 1 - number))
    return [*before, right, noun], [*before, wrong, noun]


def _verb(words: Words, between: Callable[[Words, int], list[Token]] = lambda words, number: []) -> Pair:
    number, verb = words.number(), words.acting()
    subject = [*words.the(number), *between(words, number)]
    return [*subject, verb.forms[number]], [*subject, verb.forms[1 - number]]


def _copula(words: Words) -> Pair:
    number, said = words.number(), words.adjective()
    subject = words.the(number)
    return [*subject, BE[number], said], [*subject, BE[1 - number], said]


def _negation(words: Words) -> Pair:
    number, verb = words.number(), words.acting()
    subject, rest = words.the(number), [W["not"], verb.forms[PLURAL]]
    return [*subject, DO[number], *rest], [*subject, DO[1 - number], *rest]


def _object(words: Words) -> Pair:
    kind, other = words.kinds()
    before, number = [words.someone(), words.taking(kind).forms[SINGULAR]], words.number()
    return [*before, *words.the(number, kind)], [*before, *words.the(number, other)]


def _subject(words: Words) -> Pair:
    kind, other = words.kinds()
    number = words.number()
    verb = words.acting(kind).forms[number]
    return [*words.the(number, kind), verb], [*words.the(number, other), verb]


def _adjective(words: Words) -> Pair:
    kind, other = words.kinds()
    number, said = words.number(), words.adjective(kind)
    return [*words.the(number, kind), BE[number], said], [*words.the(number, other), BE[number], said]


def _prepositional(words: Words, number: int) -> list[Token]:
    """A noun of the other number between subject and verb."""
    return [words.dice.pick(PREPOSITIONS), *words.the(1 - number)]


def _relative(words: Words, number: int) -> list[Token]:
    return [W["that"], words.someone(), words.taking().forms[SINGULAR]]


AGREEMENT, VERB, SELECTION = "agreement", "subject_verb_agreement", "selectional_restriction"
PARADIGMS = {
    "determiner_noun": Paradigm(AGREEMENT, "determiner_noun_agreement", _determiner),
    "verb_beside_subject": Paradigm(AGREEMENT, VERB, _verb),
    "verb_after_attractor": Paradigm(AGREEMENT, VERB, lambda words: _verb(words, _prepositional)),
    "verb_after_relative_clause": Paradigm(AGREEMENT, VERB, lambda words: _verb(words, _relative)),
    "copula": Paradigm(AGREEMENT, VERB, _copula),
    "negated_verb": Paradigm(AGREEMENT, VERB, _negation),
    "verb_and_object": Paradigm("selection", SELECTION, _object),
    "verb_and_subject": Paradigm("selection", SELECTION, _subject),
    "adjective_and_noun": Paradigm("selection", SELECTION, _adjective),
}
"""By name."""
