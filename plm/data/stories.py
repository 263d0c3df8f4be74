"""Stories of the generated language: sentences that need the ones before them.

Each sentence takes up the thing that came last: what is new comes with `a` or `some`, what is known with `the`, `this`
or `these`; people come by name first. So two neighbouring sentences tell their order, and sentences of two stories that
they do not belong together; in the notes (see `plm.data.world`) sentences share a topic and nothing else.
"""

from __future__ import annotations

from plm.data.grammar import Grammar
from plm.data.lexicon import BE, SINGULAR, Inflected, Token, W

NEW = (W["a"], W["some"])
KNOWN = ((W["the"], W["this"]), (W["the"], W["these"]))
LENGTH = 5, 5
"""Sentences of a story: so many and up to so many more, less one."""

Thing = tuple[Inflected, int]
"""A noun and its number."""


def story(grammar: Grammar, cast: tuple[Token, Token], pronoun: Token, known: bool) -> list[list[Token]]:
    """The sentences of a story about two people; `pronoun` stands for the first, who may be `known` before it."""
    dice = grammar.dice
    thing, said = _new(grammar)
    kind = thing[0].kind
    assert kind is not None
    name = pronoun if known and dice.chance(0.5) else cast[0]
    sentences = [[name, *grammar.verb(grammar.select(grammar.lexicon.taking, kind), SINGULAR), *said, W["."]]]
    for i in range(LENGTH[0] - 1 + dice.below(LENGTH[1])):
        someone = pronoun if dice.chance(0.5) else cast[1 if i and dice.chance(0.4) else 0]
        sentence, thing = _next(grammar, someone, thing)
        sentences.append([*sentence, W["."]])
    return sentences


def _next(grammar: Grammar, someone: Token, thing: Thing) -> tuple[list[Token], Thing]:
    """A sentence that takes up a thing, and the thing that the next one takes up."""
    dice, lexicon, known, (noun, number) = grammar.dice, grammar.lexicon, _known(grammar, thing), thing
    kind = noun.kind
    assert kind is not None
    draw = dice.below(6)
    if draw == 0:
        return [*known, *grammar.verb(grammar.select(lexicon.acting, kind), number)], thing
    if draw == 1:
        return [*known, BE[number], grammar.select(lexicon.adjectives, kind)], thing
    if draw == 2:
        return [someone, *grammar.verb(grammar.select(lexicon.taking, kind), SINGULAR), *known], thing
    other, said = _new(grammar)
    assert other[0].kind is not None
    taking = grammar.select(lexicon.taking, other[0].kind)
    if draw == 3:
        return [someone, *grammar.verb(taking, SINGULAR), *said, W["near"], *known], other
    return [*known, *grammar.verb(taking, number), *said], other


def _new(grammar: Grammar) -> tuple[Thing, list[Token]]:
    """A thing that was not spoken of, and how it is brought in."""
    dice, kind, number = grammar.dice, grammar.kind(), grammar.dice.below(2)
    noun = dice.pick(grammar.nouns[kind])
    adjective = [grammar.select(grammar.lexicon.adjectives, kind)] if dice.chance(0.4) else []
    return (noun, number), [NEW[number], *adjective, noun.forms[number]]


def _known(grammar: Grammar, thing: Thing) -> list[Token]:
    noun, number = thing
    return [KNOWN[number][grammar.dice.below(2)], noun.forms[number]]
