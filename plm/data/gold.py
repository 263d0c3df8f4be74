"""Tagged sentences: words with their parts of speech, as a value whose identity is their content.

A task's rows have labels that a model is trained for; gold data has labels that only an analysis reads. A sentence is its
text as it was written, and a word is a stretch of it: a model is to see spaces as it saw them in pretraining.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from plm.data.gold_tables import SPLITS, TRAIN, of_split
from plm.spec import location

WORLD = "world"
"""What the gold data of the generated language is called."""
ENDINGS = (".parquet", ".conllu")
REFERENCE_DOCUMENTS = 4_000
"""Of the generated language: 90,000 words."""
COLUMNS = ("tokens", "upos", "xpos")
VERB = "VERB"
"""The tag whose finer tags are classes too."""


class TaggedSentence(NamedTuple):
    """A sentence with a tag a word."""

    text: str
    spans: tuple[tuple[int, int], ...]
    """First character of each word, and the one after its last."""
    upos: tuple[str, ...]
    """Universal part of speech."""
    xpos: tuple[str, ...]
    """A finer tag (of the Penn Treebank, in English data); empty where there is none."""

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self.text[begin:end] for begin, end in self.spans)

    @property
    def forms(self) -> tuple[str, ...]:
        """The finer tags of verbs; of other words nothing."""
        return tuple(fine if tag == VERB else "" for tag, fine in zip(self.upos, self.xpos, strict=True))


class Reference(NamedTuple):
    """What other text of the same kind says of words: counts of (tag, form, word); only verbs have a form."""

    tagged: Counter[tuple[str, str, str]]

    def commonest(self, normal: Callable[[str], str]) -> dict[str, str]:
        """The commonest word of each tag and of each form; of equally common ones the first by letters.

        Args:
            normal: What a word is to a model: one that ignores case finds `The` and `the` alike.
        """
        counts: Counter[tuple[str, str]] = Counter()
        for (tag, form, word), count in self.tagged.items():
            said = normal(word)
            counts[tag, said] += count
            if form:
                counts[form, said] += count
        best: dict[str, tuple[int, str]] = {}
        for (name, word), count in counts.items():
            best[name] = min(best.get(name, (0, "")), (-count, word))
        return {name: word for name, (_, word) in best.items()}

    def counts(self) -> Counter[str]:
        """How often each word occurs, under any tag, case ignored."""
        total: Counter[str] = Counter()
        for (*_, word), count in self.tagged.items():
            total[word.casefold()] += count
        return total

    def types(self) -> Counter[str]:
        """How many different words each tag has, case ignored."""
        return Counter(tag for tag, _ in {(tag, word.casefold()) for tag, _, word in self.tagged})


@dataclass(frozen=True)
class Tagged:
    """Sentences with gold parts of speech. Make one with `tagged`."""

    kind: ClassVar[str] = "data/gold"
    version: ClassVar[int] = 1
    content: str
    """SHA-256 of the sentences, their tags, and the reference's counts."""
    counts: tuple[int, int] = location()
    """Sentences and words."""
    name: str = location()
    path: str = location()

    def sentences(self, size: int | None = None, seed: int = 0) -> list[tuple[int, TaggedSentence]]:
        """(number, sentence), in order; the 100 chosen of a seed are among its 1,000.

        Raises:
            ValueError: the files have changed, or there are not so many sentences.
        """
        from plm.rng import numpy_stream

        found = self._found()[0]
        if size is None:
            return list(enumerate(found))
        if not 0 < size <= len(found):
            raise ValueError(f"{size} sentences of {self.name}: there are {len(found)}.")
        chosen = numpy_stream(seed, "gold").permutation(len(found))[:size]
        return [(int(number), found[number]) for number in sorted(chosen)]

    def reference(self) -> Reference:
        """The words of the training split; of data without one, of the sentences themselves.

        Raises:
            ValueError: the files have changed.
        """
        return self._found()[1]

    def _found(self) -> tuple[tuple[TaggedSentence, ...], Reference]:
        sentences, reference, content = _read(self.path, _state(self.path))
        if content != self.content:
            raise ValueError(
                f"tagged sentences {self.name}: what is at {self.path} has changed since the plan was made "
                f"({self.content[:12]} was asked for, {content[:12]} is there). Restore it, or plan anew."
            )
        return sentences, reference


def tagged(path: str) -> Tagged:
    """Tagged sentences by path: a CoNLL-U file, a table with columns tokens, upos and xpos, a folder of such files
    called `train*`, `validation*` (or `dev*`) and `test*`; or `world`, the generated language.

    Of a folder the test split is scored, or else the validation split; the training split is the reference.

    Raises:
        ValueError: there is nothing like that.
    """
    given = path if path == WORLD else str(Path(path).expanduser().resolve())
    sentences, _, content = _read(given, _state(given))
    words = sum(len(sentence.spans) for sentence in sentences)
    return Tagged(content, counts=(len(sentences), words), name=Path(given).name, path=given)


def _state(path: str) -> tuple[tuple[str, int, int], ...]:
    """The files at a path, so that an edited one is read again."""
    here = Path(path)
    files = [f for f in (here, *sorted(here.rglob("*"))) if f.is_file()] if path != WORLD and here.exists() else []
    return tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files)


@functools.lru_cache(maxsize=4)
def _read(path: str, state: tuple[tuple[str, int, int], ...]) -> tuple[tuple[TaggedSentence, ...], Reference, str]:
    if path == WORLD:
        sentences, reference = _of_world()
    else:
        scored, other = _files([Path(file) for file, *_ in state], path)
        sentences = tuple(_sentences(scored))
        reference = _reference(_sentences(other) if other else sentences)
    if not sentences:
        raise ValueError(f"{path} holds no tagged sentence.")
    document = [sentences, sorted([*kind, count] for kind, count in reference.tagged.items())]
    return sentences, reference, hashlib.sha256(json.dumps(document, ensure_ascii=False).encode()).hexdigest()


def _files(there: list[Path], path: str) -> tuple[Path, Path | None]:
    """The file that is scored and, if there is one, the reference."""
    tables = [f for f in there if f.name.endswith(ENDINGS)]
    if not tables:
        raise ValueError(
            f"{path}: there are no tagged sentences. Give {WORLD}, a file that ends in {' or '.join(ENDINGS)}, or a "
            "folder of such files."
        )
    scored = next((found for split in SPLITS if (found := of_split(split, tables))), tables)
    other = [file for file in of_split(TRAIN, tables) if file not in scored]
    if len(scored) > 1:
        raise ValueError(f"{path} has several files to score: {', '.join(f.name for f in scored)}. Name one of them.")
    return scored[0], other[0] if other else None


def _sentences(file: Path) -> Iterator[TaggedSentence]:
    return _of_table(file) if file.suffix == ".parquet" else _of_conllu(file)


def _reference(sentences: Iterable[TaggedSentence]) -> Reference:
    return Reference(Counter(kind for s in sentences for kind in zip(s.upos, s.forms, s.words, strict=True)))


def aligned(words: Sequence[str], upos: Sequence[str], xpos: Sequence[str], text: str | None) -> TaggedSentence:
    """A sentence from its words, with the text that they stand in; where they do not stand there, joined by spaces."""
    spans, at = [], 0
    for word in words:
        begin = -1 if text is None else text.find(word, at)
        if text is None or begin < 0 or text[at:begin].strip():  # nothing but space may be skipped
            return aligned(words, upos, xpos, " ".join(words))
        at = begin + len(word)
        spans.append((begin, at))
    return TaggedSentence(text or "", tuple(spans), tuple(upos), tuple(xpos))


def _of_table(file: Path) -> Iterator[TaggedSentence]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        table = pa.parquet.ParquetFile(file)
        there = table.schema_arrow.names
        if missing := [column for column in COLUMNS[:2] if column not in there]:
            raise ValueError(f"{file} has no column {missing[0]!r}; there are {there}.")
        rows: list[dict[str, Any]] = table.read([c for c in (*COLUMNS, "text") if c in there]).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    for number, row in enumerate(rows):
        yield _checked(row["tokens"], row["upos"], row.get("xpos"), row.get("text"), f"{file}, row {number}")


def _of_conllu(file: Path) -> Iterator[TaggedSentence]:
    """Sentences of a CoNLL-U file; lines of multiword tokens (`1-2`) and of what is not written (`1.1`) are left out."""
    text, lines = None, list[list[str]]()
    try:
        content = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 ({error.reason} at byte {error.start}).") from error
    for number, line in enumerate([*content.split("\n"), ""], 1):
        if line.startswith("# text ="):
            text = line.partition("=")[2].strip()
        elif line.strip() and not line.startswith("#"):
            fields = line.rstrip("\r").split("\t")
            if len(fields) != 10:
                raise ValueError(f"{file}, line {number}: CoNLL-U has 10 fields a word, and here are {len(fields)}.")
            if fields[0].isdecimal():
                lines.append(fields)
        elif not line.strip() and lines:
            words, upos, xpos = ([fields[i] for fields in lines] for i in (1, 3, 4))
            yield _checked(words, upos, xpos, text, f"{file}, line {number}")
            text, lines = None, []


def _checked(words: Any, upos: Any, xpos: Any, text: Any, where: str) -> TaggedSentence:
    xpos = xpos or [""] * len(words or ())
    named = words and upos and all(isinstance(name, str) and name.strip() for name in (*words, *upos))
    if not named or not len(words) == len(upos) == len(xpos):
        raise ValueError(f"{where}: each word has a tag by its name, and none is empty; here are {words} with {upos}.")
    return aligned(words, upos, ["" if tag in (None, "_") else tag for tag in xpos], text)


def _of_world() -> tuple[tuple[TaggedSentence, ...], Reference]:
    """The validation documents of the generated language, sentence by sentence; the beginning of its training text is the
    reference."""
    from plm.data.world import World

    world = World()
    tokens = Counter(
        (tag, _form(word, tag), word)
        for document in replace(world, num_documents=REFERENCE_DOCUMENTS).documents("train")
        for sentence in document.sentences
        for word, tag in zip(sentence.tokens, sentence.tags, strict=True)
    )
    sentences = tuple(
        aligned(
            sentence.tokens,
            sentence.tags,
            [_form(*token) for token in zip(sentence.tokens, sentence.tags, strict=True)],
            str(sentence),
        )
        for document in world.documents("validation")
        for sentence in document.sentences
    )
    return sentences, Reference(tokens)


def _form(word: str, tag: str) -> str:
    """The verb forms of the generated language: its grammar ends the singular, and nothing else, in s."""
    return ("VBZ" if word.endswith("s") else "VB") if tag == VERB else ""
