"""A small generated language with gold annotation: text to pretrain on, facts, and tasks to fine-tune on.

The distinction it draws: what a word's form shows and what only its company shows. A noun belongs to one
of a few latent kinds, and each of its two forms is singular or plural; the letters tell neither, the words
beside it tell both (verbs and adjectives select one kind, determiners and verbs agree in number). The tasks
put nouns that were never labelled into frames of neutral words, so only pretraining can help. Everything
follows from the world's fields; `VERSION` changes whenever the same fields would give another text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from plm.data.grammar import Grammar
from plm.data.lexicon import BE, DO, DOMAINS, PLURAL, PREPOSITIONS, SINGULAR, Dice, Lexicon, Token, W
from plm.data.stories import story
from plm.spec import neutral

VERSION = 1
SPLITS = ("train", "validation")
STYLES = ("notes", "stories")
TASKS = ("sentiment", "acceptability")
TASK_ROWS = {"train": 2_000, "validation": 500}
PLACE_RELATIONS, PERSON_RELATIONS = ("lives in", "comes from"), ("works for", "cares for")
RATES = (0.02, 0.1, 0.4)


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
    style: str = neutral("notes")  # or "stories", whose sentences need the ones before
    domain: str | None = neutral(None)  # the documents' own, with few nouns of the other; None: both in turn

    def __post_init__(self) -> None:
        _check("style", self.style, STYLES)
        if self.domain is not None:
            _check("domain", self.domain, DOMAINS)

    @property
    def name(self) -> str:
        """How it is asked for."""
        return ":".join(["world", *([self.style] if self.style != "notes" else []), *filter(None, [self.domain])])

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
        """Draw the documents of a split ("train" or "validation"); without a domain, the domains alternate."""
        _check("split", split, SPLITS)
        variety = () if (self.style, self.domain) == ("notes", None) else (self.style, str(self.domain))
        dice, about = Dice(self.seed, "documents", split, *variety), dict[str, list[Fact]]()
        for fact in self.facts():
            about.setdefault(fact.subject, []).append(fact)
        nouns = self.lexicon.nouns if self.domain is None else self.lexicon.nouns_apart
        domains = DOMAINS if self.domain is None else (self.domain,)
        grammars = [Grammar(self.lexicon, dice, nouns[domain]) for domain in domains]
        n = self.num_documents if split == "train" else self.num_documents // 20
        return [self._document(grammars[i % len(domains)], domains[i % len(domains)], about) for i in range(n)]

    def _document(self, grammar: Grammar, domain: str, about: dict[str, list[Fact]]) -> Document:
        dice, first = grammar.dice, grammar.dice.below(2)
        # The two entities differ in gender, so a pronoun always has one antecedent.
        cast = dice.pick(self.lexicon.people[first]), dice.pick(self.lexicon.people[1 - first])
        grammar.turn_to(cast)
        sentences = [_state(fact) for fact in about[cast[0][0]] if dice.chance(fact.rate)]
        tell = story if self.style == "stories" else _note
        sentences += tell(grammar, cast, (W["he"], W["she"])[first], bool(sentences))
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


def _note(grammar: Grammar, cast: tuple[Token, Token], pronoun: Token, known: bool) -> list[list[Token]]:
    """Some sentences about two people; `pronoun` stands for the first, who may be `known` from sentences before."""
    dice, sentences = grammar.dice, list[list[Token]]()
    for i in range(2 + dice.below(2)):
        subject = 0 if dice.chance(0.7) else 1
        short = (i > 0 or known) and subject == 0 and dice.chance(0.5)
        sentences.append(grammar.sentence(pronoun if short else cast[subject], cast[1 - subject]))
    return sentences


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
