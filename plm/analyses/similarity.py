"""Similarity of vectors by layer: of any two pieces, of a piece's occurrences, and of the pieces of a text.

Vectors may all point one way (anisotropy). So likeness between occurrences of a piece, or within a text, says something
only above the likeness of pieces drawn at random; both are given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plm.analyses import Analysis, Row, Subject, check_size
from plm.excerpts import Text, excerpts, flops, named
from plm.rng import numpy_stream
from plm.rows import groups, numbers

if TYPE_CHECKING:
    from torch import Tensor

    from plm.models import Shape

CONTEXTS = 5
"""A piece's occurrences are compared if there are at least so many."""
SAMPLE = 1000
"""Occurrences drawn for anisotropy; all their pairs are compared."""
MEASURES = ("anisotropy", "self_similarity", "intra_similarity")
Occurrence = tuple[int, int]
"""Text and place."""


@dataclass(frozen=True)
class Similarity(Analysis):
    """Mean cosines at every layer, the embeddings first; special tokens are left out.

    `anisotropy`: of two occurrences drawn at random. `self_similarity`: of two occurrences of one piece, a mean over
    pieces. `intra_similarity`: of a piece and the mean vector of its text, a mean over texts. `adjusted_...`: less
    anisotropy.

    Source: Ethayarajh 2019, section 3, with pieces for words.
    """

    kind: ClassVar[str] = "analyses/similarity"
    version: ClassVar[int] = 1
    head: ClassVar[str] = "body"
    usual: ClassVar[int] = 200
    curves: ClassVar[tuple[str, ...]] = (
        *("adjusted_self_similarity", "adjusted_intra_similarity", "self_similarity", "intra_similarity", "anisotropy"),
    )
    data: Text
    size: int | None = None
    """Documents; None: all of the validation split."""
    seed: int = 0
    """Which ones, and which occurrences are drawn."""

    def __post_init__(self) -> None:
        check_size(self.size, "documents")

    @classmethod
    def of(cls, data: str, *, size: int | None = None, seed: int = 0) -> Similarity:
        return cls(named(data), size, seed)

    def flops(self, shape: Shape) -> float:
        return flops(shape, self.size)

    def rows(self, subject: Subject) -> list[Row]:
        from plm.inference import outputs, symbols_of

        texts, special = excerpts(subject, self.data, self.size, self.seed), symbols_of(subject).special
        words = [[place for place, piece in enumerate(ids) if not special[piece]] for ids in texts]
        counts = Counter(texts[t][place] for t, places in enumerate(words) for place in places)
        types = {piece: k for k, piece in enumerate(sorted(p for p, n in counts.items() if n >= CONTEXTS))}
        drawn = _drawn([(t, place) for t, places in enumerate(words) for place in places], self.seed)
        sums: list[_Layer] = []
        for rows, _, output in outputs(subject, texts, output_hidden_states=True):
            if not sums:
                width = output.hidden_states[0].shape[-1]
                sums = [_Layer(len(types), width, subject) for _ in output.hidden_states]
            for layer, states in zip(sums, output.hidden_states, strict=True):
                for i, row in enumerate(rows):
                    layer.add(states[i], texts[row], words[row], types, row, drawn)
        names = {piece: str(subject.tokenizer.convert_ids_to_tokens(piece)) for piece in types}
        return [
            row for number, layer in enumerate(sums) for row in layer.rows(number, {names[p]: counts[p] for p in types})
        ]

    def summary(self, rows: list[Row]) -> dict[str, float]:
        values, found = numbers(rows, "value"), dict[str, float]()
        for name, own in groups(rows, "measure", "layer").items():
            measure, _, layer = name.partition("/")
            found[f"{measure}/layer_{layer}"] = float(values[own].mean())
        for measure in MEASURES[1:]:
            for name in [name for name in found if name.startswith(f"{measure}/")]:
                layer = name.partition("/")[2]
                if f"anisotropy/{layer}" in found:
                    found[f"adjusted_{name}"] = found[name] - found[f"anisotropy/{layer}"]
        return found


def _drawn(there: Sequence[Occurrence], seed: int) -> set[Occurrence]:
    """Occurrences at random, each at most once."""
    order = numpy_stream(seed, "occurrences").permutation(len(there))[:SAMPLE]
    return {there[i] for i in order.tolist()}


class _Layer:
    """Sums of unit vectors, from which mean cosines follow."""

    def __init__(self, types: int, width: int, subject: Subject) -> None:
        import torch

        self.of_types = torch.zeros(types, width, dtype=torch.float64, device=subject.device)
        self.of_drawn = torch.zeros(width, dtype=torch.float64, device=subject.device)
        self.drawn = 0
        self.within: dict[int, float] = {}

    def add(
        self,
        states: Tensor,
        ids: Sequence[int],
        words: Sequence[int],
        types: dict[int, int],
        text: int,
        drawn: set[Occurrence],
    ) -> None:
        """Take in a text: vectors (T, D), its pieces, and which of them are words."""
        import torch

        if not words:
            return
        own = states[list(words)].double()
        unit = torch.nn.functional.normalize(own, dim=-1)
        self.within[text] = float((unit @ torch.nn.functional.normalize(own.mean(0), dim=-1)).mean())
        known = [(k, types[ids[place]]) for k, place in enumerate(words) if ids[place] in types]
        if known:
            k, type_ = torch.tensor(known, device=unit.device).T
            self.of_types.index_add_(0, type_, unit[k])
        chosen = [k for k, place in enumerate(words) if (text, place) in drawn]
        self.of_drawn += unit[chosen].sum(0)
        self.drawn += len(chosen)

    def rows(self, layer: int, types: dict[str, int]) -> list[Row]:
        """One row for anisotropy, each piece, and each text."""
        found: list[Row] = []
        if self.drawn > 1:
            value = _mean_cosine(float(self.of_drawn.square().sum()), self.drawn)
            found.append(_row(layer, MEASURES[0], "drawn", self.drawn, value))
        squares = self.of_types.square().sum(-1).tolist()
        for (name, count), square in zip(types.items(), squares, strict=True):
            found.append(_row(layer, MEASURES[1], name, count, _mean_cosine(square, count)))
        return found + [_row(layer, MEASURES[2], str(text), 1, value) for text, value in sorted(self.within.items())]


def _mean_cosine(square: float, count: int) -> float:
    """Mean cosine of all pairs of unit vectors, from the squared length of their sum."""
    return (square - count) / (count * (count - 1))


def _row(layer: int, measure: str, name: str, count: int, value: float) -> Row:
    return {
        "id": f"{measure}/{layer}/{name}",
        "layer": layer,
        "measure": measure,
        "name": name,
        "count": count,
        "value": value,
    }
