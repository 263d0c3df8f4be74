"""The sentences of the generated language: phrases that agree in number and select by kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from plm.data.lexicon import (
    BE,
    CONJUNCTIONS,
    DETERMINERS,
    DO,
    PLURAL,
    PREPOSITIONS,
    SINGULAR,
    Bag,
    Dice,
    Inflected,
    Lexicon,
    Token,
    W,
)

T = TypeVar("T")
TOPICAL = 0.85  # the share of a document's nouns that are of its own kind


class Grammar:
    """Draws phrases, each a list of tokens, in one domain."""

    def __init__(self, lexicon: Lexicon, dice: Dice, nouns: list[Bag[Inflected]]) -> None:
        self.lexicon, self.dice, self.nouns = lexicon, dice, nouns
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
