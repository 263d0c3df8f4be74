"""The structure of sentences of the generated language: constituents, semantic roles, and whom a pronoun means.

Read off the parts of speech, which leave its grammar one reading. Labels are those of the Penn Treebank and PropBank.
"""

from __future__ import annotations

from typing import NamedTuple

from plm.data.world import Document, Sentence

Span = tuple[int, int]
"""First word, and the one after the last."""
OF_RELATION = {"lives": "ARGM-LOC", "comes": "ARGM-DIR", "works": "ARG2", "cares": "ARG1"}
"""The role of what follows the preposition in a stated fact."""


class Constituent(NamedTuple):
    """A phrase."""

    label: str
    span: Span


class Role(NamedTuple):
    """What a phrase is to a verb or an auxiliary."""

    label: str
    predicate: Span
    span: Span


class Parse(NamedTuple):
    """Of one sentence."""

    constituents: tuple[Constituent, ...]
    roles: tuple[Role, ...]


def parse(sentence: Sentence) -> Parse:
    """The phrases and roles of a sentence, in order of their places.

    Raises:
        ValueError: not a sentence of the language.
    """
    reader = _Reader(sentence)
    reader.sentence()
    return Parse(
        tuple(sorted(reader.constituents, key=lambda c: (c.span[0], -c.span[1], c.label))),
        tuple(sorted(reader.roles, key=lambda r: (r.predicate, r.span, r.label))),
    )


class _Reader:
    """Reads a sentence from left to right and notes what it finds."""

    def __init__(self, sentence: Sentence) -> None:
        self.words, self.tags, self.at = sentence.tokens, sentence.tags, 0
        self.constituents: list[Constituent] = []
        self.roles: list[Role] = []

    def next_is(self, *tags: str) -> bool:
        return self.at < len(self.tags) and self.tags[self.at] in tags

    def take(self, *tags: str) -> int:
        """The place of the next word, which has one of some tags."""
        if not self.next_is(*tags):
            raise ValueError(f"{' '.join(self.words)!r}: no {' or '.join(tags)} at word {self.at}.")
        self.at += 1
        return self.at - 1

    def phrase(self, label: str, start: int) -> Span:
        """Note what was read since `start`."""
        self.constituents.append(Constituent(label, (start, self.at)))
        return start, self.at

    def role(self, label: str, predicate: int, span: Span) -> None:
        self.roles.append(Role(label, (predicate, predicate + 1), span))

    def sentence(self) -> None:
        self.clause()
        if self.next_is("CCONJ"):
            self.take("CCONJ")
            self.clause()
        self.take("PUNCT")
        self.phrase("S", 0)
        if self.at < len(self.words):
            raise ValueError(f"{' '.join(self.words)!r} goes on after its end.")

    def clause(self) -> Span:
        start = self.at
        self.verb_phrase(self.noun_phrase())
        return self.phrase("S", start)

    def noun_phrase(self) -> Span:
        start = self.at
        if self.next_is("PROPN", "PRON"):
            self.take("PROPN", "PRON")
            return self.phrase("NP", start)
        self.take("DET")
        if self.next_is("ADJ"):
            self.take("ADJ")
        self.take("NOUN")
        core = self.phrase("NP", start)
        if self.next_is("ADP"):
            self.prepositional()
            return self.phrase("NP", start)
        if self.next_is("SCONJ"):
            self.relative(core)
            return self.phrase("NP", start)
        return core

    def prepositional(self) -> Span:
        start = self.take("ADP")
        self.noun_phrase()
        return self.phrase("PP", start)

    def relative(self, head: Span) -> None:
        start = self.take("SCONJ")
        someone = self.noun_phrase()
        verb = self.take("VERB")
        self.phrase("VP", verb)
        self.phrase("SBAR", start)
        self.role("ARG0", verb, someone)
        self.role("ARG1", verb, head)

    def verb_phrase(self, subject: Span) -> None:
        start = self.at
        verb, negation = self.take("AUX", "VERB"), None
        if self.next_is("PART"):
            not_ = self.take("PART")
            negation = not_, not_ + 1
        if self.tags[verb] == "AUX" and self.next_is("ADJ"):
            said = self.take("ADJ")
            self.role("ARG1", verb, subject)
            self.role("ARG2", verb, self.phrase("ADJP", said))
        else:
            verb = self.take("VERB") if self.tags[verb] == "AUX" else verb
            self.role("ARG0", verb, subject)
            self.complement(verb)
        if negation:
            self.role("ARGM-NEG", verb, negation)
        self.phrase("VP", start)

    def complement(self, verb: int) -> None:
        """What follows a verb, if anything."""
        if self.next_is("ADP"):
            self.role(OF_RELATION[self.words[verb]], verb, self.prepositional())
        elif self.next_is("SCONJ"):
            start = self.take("SCONJ")
            self.clause()
            self.role("ARG1", verb, self.phrase("SBAR", start))
        elif self.next_is("DET", "PROPN"):
            self.role("ARG1", verb, self.noun_phrase())
        elif self.next_is("ADV"):
            start = self.take("ADV")
            self.role("ARGM-MNR", verb, self.phrase("ADVP", start))


class Mention(NamedTuple):
    """A word of a document."""

    sentence: int
    word: int


class Coreference(NamedTuple):
    """A pronoun, a name before it, and whether the two are one person."""

    pronoun: Mention
    name: Mention
    same: bool


def coreference(document: Document) -> list[Coreference]:
    """Each pronoun with the nearest name before it of the person it means, and with that of the other.

    Pronouns without both are left out, so that as many pairs are of one person as are not.
    """
    found, last = list[Coreference](), dict[str, Mention]()
    for number, sentence in enumerate(document.sentences):
        for place, (word, tag) in enumerate(zip(sentence.tokens, sentence.tags, strict=True)):
            if word in document.entities:
                last[word] = Mention(number, place)
            if tag == "PRON" and all(entity in last for entity in document.entities):
                means, other = (last[entity] for entity in document.entities)
                pronoun = Mention(number, place)
                found += [Coreference(pronoun, means, True), Coreference(pronoun, other, False)]
    return found
