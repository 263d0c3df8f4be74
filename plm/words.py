"""Words of tagged sentences as a tokenizer cuts them, and which of them a model gets right.

A word is right only if all its pieces are. A word that shares a piece with its neighbour, does not fit into the model's
sequence, or is not in the vocabulary cannot be scored: it has a row, and no answer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from plm import covariates
from plm.analyses import Unit, check_size
from plm.data.gold import Tagged, TaggedSentence, tagged
from plm.names import parted
from plm.rows import groups

if TYPE_CHECKING:
    from plm.analyses import Row, Subject
    from plm.word_statistics import Read, Statistics, Text

Stretch: TypeAlias = tuple[int, int]
"""First character, and the one after the last."""
UNIT = Unit(value="right", by=("tag", "form"), cluster="sentence")


class Word(NamedTuple):
    """A word of a sentence, and the places of its pieces."""

    number: int
    """Of the word in the sentence."""
    places: tuple[int, ...]
    """In the sequence that the model reads, special tokens included; empty: it cannot be scored."""


@dataclass(frozen=True)
class Cut:
    """A sentence as the model reads it."""

    sentence: int
    ids: tuple[int, ...]
    words: tuple[Word, ...]
    """Every word of the sentence, in order."""


def cut(subject: Subject, sentences: Sequence[tuple[int, TaggedSentence]]) -> list[Cut]:
    """Sentences as the model's tokenizer cuts them, framed as in pretraining and shortened to what the model reads."""
    from plm.inference import frame, symbols_of

    before, after = frame(symbols_of(subject))
    room, unknown = subject.seq_len - len(before) - len(after), subject.tokenizer.unk_token_id
    texts = [sentence.text for _, sentence in sentences]
    encoded = subject.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    found = []
    for (number, sentence), encoding in zip(sentences, encoded, strict=True):
        ids, offsets = encoding.ids[:room], encoding.offsets[:room]
        known = [token != unknown for token in ids]
        own = [
            tuple(len(before) + place for place in places)
            for places in _places(sentence.text, offsets, known, sentence.spans)
        ]
        found.append(Cut(number, (*before, *ids, *after), tuple(Word(i, places) for i, places in enumerate(own))))
    return found


def _places(
    text: str, offsets: Sequence[Stretch], known: Sequence[bool], spans: Sequence[Stretch]
) -> Iterator[tuple[int, ...]]:
    """The pieces of each word, none if it cannot be scored: a piece belongs to all words that it shares a character with."""
    from plm.inference import pieces_in

    shares = [pieces_in(text, offsets, *span) for span in spans]
    owners = Counter(place for places in shares for place in places)
    for (begin, end), places in zip(spans, shares, strict=True):
        whole = bool(places) and offsets[places[0]][0] <= begin and offsets[places[-1]][1] >= end
        alone = all(owners[place] == 1 and known[place] for place in places)
        yield tuple(places) if whole and alone else ()


def rows(analysis: Any, subject: Subject, cuts: Sequence[Cut], right: dict[tuple[int, int], bool]) -> list[Row]:
    """A row a word of an analysis of tagged sentences.

    Args:
        right: (sentence, word) -> whether all pieces were right, of the words that were scored.
    """
    chosen = analysis.data.sentences(analysis.size, analysis.seed)
    known = _Known.of(analysis.data, normaliser(subject))
    by_number = {one.sentence: one for one in cuts}
    text = analysis.text or subject.text
    found = _statistics(text, [sentence for _, sentence in chosen], subject.causal)
    return [
        _row(by_number[number], word, sentence, right, known) | own[word.number]
        for (number, sentence), own in zip(chosen, found, strict=True)
        for word in by_number[number].words
    ]


class _Known(NamedTuple):
    """What is known of words without a model."""

    normal: Callable[[str], str]
    commonest: dict[str, str]
    counts: Counter[str]
    types: Counter[str]

    @staticmethod
    def of(data: Tagged, normal: Callable[[str], str]) -> _Known:
        reference = data.reference()
        return _Known(normal, reference.commonest(normal), reference.counts(), reference.types())

    def guess(self, name: str, word: str) -> bool:
        """Whether always saying the commonest word of a tag or form would be right."""
        return self.commonest.get(name) == self.normal(word)


def normaliser(subject: Subject) -> Callable[[str], str]:
    """What of a word a model can see before it is cut: to some `The` and `the` are one word."""
    own = subject.tokenizer.backend_tokenizer.normalizer
    return str if own is None else own.normalize_str


def _statistics(text: Read | None, sentences: Sequence[TaggedSentence], causal: bool) -> list[list[Row]]:
    """What the training text says of each word; nothing where there is no text, or of words that a causal model has
    still to read."""
    nothing: Row = dict.fromkeys(covariates.WITHIN)
    if text is None:
        return [[nothing] * len(sentence.spans) for sentence in sentences]
    from plm.word_statistics import statistics

    def columns(own: Statistics | None) -> Row:
        return nothing if own is None else {**own._asdict(), **({"after": None} if causal else {})}

    return [[columns(own) for own in line] for line in statistics(text).of(sentences)]


def _row(one: Cut, word: Word, sentence: TaggedSentence, right: dict[tuple[int, int], bool], known: _Known) -> Row:
    tag, form, text = (of[word.number] for of in (sentence.upos, sentence.forms, sentence.words))
    scored = (one.sentence, word.number) in right
    ids = [one.ids[place] for place in word.places]
    return {
        "id": f"{one.sentence}:{word.number}",
        "sentence": one.sentence,
        "tag": tag,
        "form": form,
        "word": text.casefold(),
        "pieces": len(ids),
        "right": right[one.sentence, word.number] if scored else None,
        "guess": known.guess(tag, text),
        "form_guess": known.guess(form, text) if form else None,
        "log_count": math.log1p(known.counts[text.casefold()]),
        "log_types": math.log1p(known.types[tag]),
        "mean_id": float(np.mean(ids)) if ids else None,
    }


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """By class (a part of speech, or a form of verbs): share of right words, and what that is to be held against.

    `accuracy/DET` of all words that could be scored, `single/DET` of those of one piece, `guess/DET` what always saying
    the tag's commonest word would score, `words/DET` how many, `types/DET` how many different, `log_count/DET` the mean
    log of a word's count in the reference, `mean_id/DET` of its pieces' ids (Chiang et al. 2020, count_freq.py). And
    `accuracy` over all words, `macro` over parts of speech, `left_out` the share that could not be scored. Where the
    training text is known, `adjusted/DET` and `effect/frequency` (see `plm.covariates`).
    """
    scored = [row for row in rows if row["right"] is not None]
    tags = groups(scored, "tag")
    found = {"accuracy": _mean(scored, "right"), "left_out": 1 - len(scored) / max(1, len(rows))} if scored else {}
    forms = groups_of_forms(scored)
    for name, chosen in (forms | tags).items():
        own = [scored[i] for i in chosen]
        single = [row for row in own if row["pieces"] == 1]
        found |= {
            f"accuracy/{name}": _mean(own, "right"),
            f"guess/{name}": _mean(own, "guess" if name in tags else "form_guess"),
            f"words/{name}": float(len(own)),
            f"types/{name}": float(len({row["word"] for row in own})),
            f"log_count/{name}": _mean(own, "log_count"),
            f"mean_id/{name}": _mean(own, "mean_id"),
        }
        found |= {f"single/{name}": _mean(single, "right")} if single else {}
    if tags:
        found["macro"] = float(np.mean([found[f"accuracy/{tag}"] for tag in tags]))
    without = covariates.adjusted({name: [row[name] for row in rows] for name in covariates.COLUMNS})
    return found | {name: float(draws[0]) for name, draws in without.items()}


def groups_of_forms(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Row numbers by form of verb, in the order of the forms' names."""
    forms = groups(rows, "form")
    return {form: forms[form] for form in sorted(forms) if form}


def _mean(rows: Sequence[Row], name: str) -> float:
    return float(np.mean([float(row[name]) for row in rows]))  # type: ignore[arg-type]


def named(data: str) -> tuple[Tagged, Text | None]:
    """Tagged sentences by name, and after a `+` the training text of the model that is read.

    Raises:
        ValueError: there are no such sentences, or no such text.
    """
    from plm.data import sources

    sentences, *text = parted(data, "+")
    return tagged(sentences), sources.text("+".join(text)) if text else None


def normalise(analysis: Any) -> None:
    """Give an analysis of tagged sentences its one spelling, in place: all of them is no size, and needs no seed.

    Raises:
        ValueError: a size that is not positive.
    """
    check_size(analysis.size, "sentences")
    if analysis.size is None or analysis.size >= analysis.data.counts[0]:
        object.__setattr__(analysis, "size", None)
        object.__setattr__(analysis, "seed", 0)


def pieces_read(data: Tagged, size: int | None) -> float:
    """Tokens of the sentences that are chosen, about: 1.3 pieces a word and two special tokens a sentence."""
    sentences, words = data.counts
    return min(1.0, (size or sentences) / sentences) * (1.3 * words + 2 * sentences)
