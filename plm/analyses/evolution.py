"""The evolution of examples: what a model makes of chosen sentences, word by word, so that one can read how it learns.

The other analyses count; this one shows. Its numbers are of a handful of sentences and stand for nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from plm.analyses import Analysis, Row, Subject, Unit
from plm.direction import is_causal
from plm.rows import groups, numbers

if TYPE_CHECKING:
    from plm.models import Shape

ASKED = re.compile(r"\[\[(.+?)\]\]")
"""Of a sentence, what alone is hidden: `the capital of France is [[Paris]] .`"""
SEEN, HIDDEN, FILLED, NEXT = "seen", "hidden", "filled", "next"
TOKENS_PER_WORD = 1.3


class Question(NamedTuple):
    """A sequence that a model reads, and the places of one word, at which it is asked for that word's pieces."""

    sequence: tuple[int, ...]
    places: tuple[int, ...]
    word: int


@dataclass(frozen=True)
class Evolution(Analysis):
    """Sentences as a model says them: with nothing hidden (`seen`), each word hidden in turn (`hidden`).

    Of a sentence with `[[marked]]` words these alone are hidden (`filled`); a causal model says each word after those
    before it (`next`). In `said`, words that are wrong stand between asterisks. `accuracy` is the share of right words, a
    mean over sentences.

    Source: the tables of example sentences in Chiang et al. 2020.
    """

    kind: ClassVar[str] = "analyses/evolution"
    version: ClassVar[int] = 1
    head: ClassVar[str] = "tokens"
    usual: ClassVar[int] = 6
    unit: ClassVar[Unit | None] = Unit(value="right", by=("mode",), cluster="sentence")
    anecdotal: ClassVar[bool] = True
    sentences: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.sentences or not all(ASKED.sub(r"\1", sentence).strip() for sentence in self.sentences):
            raise ValueError("sentences to be said: give at least one, and none that is empty.")
        object.__setattr__(self, "sentences", tuple(dict.fromkeys(self.sentences)))

    @classmethod
    def of(cls, data: str, *, size: int | None = None, seed: int = 0) -> Evolution:
        """Of the lines of a text file, the first `size`; or of tagged sentences, some at random."""
        if data.endswith(".txt"):
            path = Path(data).expanduser()
            if not path.is_file():
                raise ValueError(f"there is no file {data!r} with a sentence a line.")
            return cls(tuple(line.strip() for line in path.read_text().splitlines() if line.strip())[:size])
        from plm.data.gold import tagged

        found = tagged(data)
        chosen = found.sentences(None if size is None else min(size, found.counts[0]), seed)
        return cls(tuple(sentence.text for _, sentence in chosen))

    def fewer(self, size: int) -> Evolution:
        return replace(self, sentences=self.sentences[:size])

    def flops(self, shape: Shape) -> float:
        lengths = [TOKENS_PER_WORD * len(sentence.split()) for sentence in self.sentences]
        copies = [1 if is_causal(shape.model_type) else 1 + length for length in lengths]
        return sum(
            read * length * (shape.flops_per_token(length) + shape.flops_per_prediction() / read)
            for read, length in zip(copies, lengths, strict=True)
        )

    def rows(self, subject: Subject) -> list[Row]:
        from plm.inference import predictions

        cuts = [_Cut.of(subject, sentence) for sentence in self.sentences]
        asked = [(i, mode, question) for i, cut in enumerate(cuts) for mode, question in _questions(cut, subject)]
        said: dict[tuple[int, int], int] = {}
        sequences, places = [q.sequence for *_, q in asked], [q.places for *_, q in asked]
        for at, scores in predictions(subject, sequences, places):
            said |= dict(zip(at, scores.argmax(-1).tolist(), strict=True))
        answers: dict[tuple[int, str], dict[int, list[int]]] = {}
        for row, (i, mode, question) in enumerate(asked):
            answers.setdefault((i, mode), {})[question.word] = [said[row, place] for place in question.places]
        return [_row(i, mode, cuts[i], own, subject) for (i, mode), own in answers.items()]

    def summary(self, rows: list[Row]) -> dict[str, float]:
        right = numbers(rows, "right")
        by_mode = {mode: float(right[own].mean()) for mode, own in groups(rows, "mode").items()}
        return {"accuracy": float(np.mean(list(by_mode.values())))} | {
            f"accuracy/{mode}": mean for mode, mean in by_mode.items()
        }

    @classmethod
    def told(cls, read: Mapping[int, Sequence[Row]]) -> str:
        steps = sorted(read)
        lines = list[str]()
        for row in read[steps[0]]:
            lines += [f"### {_escaped(str(row['text']))} ({row['mode']})", ""]
            lines += ["| step | said | right |", "| --- | --- | --- |"]
            for step in steps:
                own = next(other for other in read[step] if other["id"] == row["id"])
                lines.append(f"| {step:,} | {_escaped(str(own['said']))} | {own['right']:.0%} |")
            lines.append("")
        return "\n".join(lines) + "\n"


class _Cut(NamedTuple):
    """A sentence in pieces."""

    text: str
    ids: tuple[int, ...]
    """Framed."""
    words: tuple[tuple[int, ...], ...]
    """The places of each word's pieces."""
    asked: frozenset[int]
    """Words that are marked."""

    @staticmethod
    def of(subject: Subject, sentence: str) -> _Cut:
        from plm.inference import frame, symbols_of
        from plm.likelihood import word_ends

        symbols = symbols_of(subject)
        text, marked = _unmarked(sentence)
        encoding = subject.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        before, after = frame(symbols)
        room = subject.seq_len - len(before) - len(after)
        ids, offsets = encoding.ids[:room], encoding.offsets[:room]
        ends = word_ends(symbols, ids)
        words = [tuple(range(start, ends[start])) for start in [0, *sorted(set(ends))][:-1]] if ids else []
        if not words:
            raise ValueError(f"sentence {sentence!r} has no token: leave it out.")
        if marked and offsets and max(end for _, end in marked) > offsets[-1][1]:
            raise ValueError(
                f"sentence {sentence!r}: what is marked lies beyond the {room} tokens that the model reads. Shorten it."
            )
        asked = {
            k
            for k, places in enumerate(words)
            if any(offsets[place][0] < end and offsets[place][1] > begin for place in places for begin, end in marked)
        }
        framed = tuple(tuple(len(before) + place for place in places) for places in words)
        return _Cut(text, (*before, *ids, *after), framed, frozenset(asked))


def _unmarked(sentence: str) -> tuple[str, list[tuple[int, int]]]:
    """A sentence without its marks, and the characters that were marked."""
    text, marked, at = "", list[tuple[int, int]](), 0
    for found in ASKED.finditer(sentence):
        text += sentence[at : found.start()]
        marked.append((len(text), len(text) + len(found[1])))
        text, at = text + found[1], found.end()
    return text + sentence[at:], marked


def _questions(cut: _Cut, subject: Subject) -> Iterator[tuple[str, Question]]:
    """What is asked of a sentence; words that the tokenizer does not know are not."""
    unknown, mask = subject.tokenizer.unk_token_id, subject.tokenizer.mask_token_id
    known = [(k, places) for k, places in enumerate(cut.words) if all(cut.ids[p] != unknown for p in places)]
    wanted = [(k, places) for k, places in known if not cut.asked or k in cut.asked]
    if subject.causal:
        for k, places in wanted:
            if places[0] > 0:
                yield NEXT, Question(cut.ids, tuple(place - 1 for place in places), k)
        return
    if mask is None:
        raise ValueError("the tokenizer has no mask token, so that no word can be hidden from the model.")
    if not cut.asked:
        yield from ((SEEN, Question(cut.ids, places, k)) for k, places in wanted)
    marked = {place for k in cut.asked for place in cut.words[k]}
    for k, places in wanted:
        gone = marked or {*places}
        hidden = tuple(mask if place in gone else piece for place, piece in enumerate(cut.ids))
        yield (FILLED if cut.asked else HIDDEN), Question(hidden, places, k)


def _row(number: int, mode: str, cut: _Cut, answers: dict[int, list[int]], subject: Subject) -> Row:
    def written(ids: Sequence[int]) -> str:
        return str(subject.tokenizer.decode(list(ids), skip_special_tokens=False)).strip()

    said, right = list[str](), list[bool]()
    for k, places in enumerate(cut.words):
        own = [cut.ids[place] for place in places]
        if k in answers:
            right.append(answers[k] == own)
        said.append(written(own) if answers.get(k, own) == own else f"*{written(answers[k])}*")
    return {
        "id": f"{number}/{mode}",
        "sentence": number,
        "mode": mode,
        "text": cut.text,
        "said": " ".join(said),
        "words": len(right),
        "right": float(np.mean(right)),
    }


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
