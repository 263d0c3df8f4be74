"""Attention by head: how broad it is, how far it looks, and how much of it goes to the places that heads are known for.

Entropy and distance are of attention to text, what special tokens draw taken off: they serve as a place to look at when
there is nothing to say. The shares are of all attention, so that what goes to special tokens is seen there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from plm.analyses import Analysis, Row, Subject, check_size
from plm.excerpts import Text, excerpts, flops, named
from plm.rows import groups, numbers

if TYPE_CHECKING:
    from torch import Tensor

    from plm.models import Shape

BROAD = 0.8
"""From this normalised entropy on, attention is called broad."""
DOMINANT = 0.5
"""From this share on, a head is called after a pattern."""
LEAST = 1e-6
"""Of a word's attention: less on text than this, and what remains is rounding."""
PATTERNS = ("previous", "next", "self", "first", "separator")
STATISTICS = ("entropy", "distance", *PATTERNS, "broad")


@dataclass(frozen=True)
class Attention(Analysis):
    """Statistics of every head over the words of running text; special tokens ask for nothing.

    `entropy`, divided by the logarithm of how many pieces may be attended to: 1 is uniform. `distance`, in pieces.
    `previous`, `next`, `self`: the share of a piece's attention that goes to the piece before, after, itself; `first`: to
    the first token of the sequence; `separator`: to the other special tokens. `broad`: the share of pieces whose entropy is
    0.8 or more.

    Source: Clark et al. 2019, section 3. `uniform_distance` and `uniform_share` are what uniform attention would score.
    """

    kind: ClassVar[str] = "analyses/attention"
    version: ClassVar[int] = 1
    head: ClassVar[str] = "body"
    usual: ClassVar[int] = 100
    curves: ClassVar[tuple[str, ...]] = STATISTICS
    data: Text
    size: int | None = None
    """Documents; None: all of the validation split."""
    seed: int = 0
    """Which ones; 0 where all are taken."""

    def __post_init__(self) -> None:
        check_size(self.size, "documents")
        if self.size is None:
            object.__setattr__(self, "seed", 0)

    @classmethod
    def of(cls, data: str, *, size: int | None = None, seed: int = 0) -> Attention:
        return cls(named(data), size, seed)

    def flops(self, shape: Shape) -> float:
        return flops(shape, self.size)

    def rows(self, subject: Subject) -> list[Row]:
        import torch

        from plm.inference import outputs, symbols_of

        texts, symbols = excerpts(subject, self.data, self.size, self.seed), symbols_of(subject)
        special = torch.from_numpy(symbols.special)
        sums: list[Any] = []
        with weights_shown(subject.model):
            for rows, mask, output in outputs(subject, texts, output_attentions=True):
                found = output.attentions
                if not found or any(layer is None for layer in found):
                    raise ValueError(
                        f"{type(subject.model).__name__} gives no attention weights: take a family that has them, such as "
                        "bert, roberta, albert, electra or gpt2."
                    )
                text = mask.bool().cpu()
                for i, row in enumerate(rows):
                    text[i, : len(texts[row])] &= ~special[list(texts[row])]
                place = Places(text.to(subject.device), mask.bool(), subject.causal)
                own = [place.sums(weights) for weights in found]
                sums = own if not sums else [before + now for before, now in zip(sums, own, strict=True)]
        return [
            _row(layer + 1, head, total.tolist())
            for layer, totals in enumerate(sums)
            for head, total in enumerate(totals)
        ]

    def summary(self, rows: list[Row]) -> dict[str, float]:
        found = dict[str, float]()
        for name in (*STATISTICS, "uniform_distance", "uniform_share"):
            values = numbers(rows, name)
            for layer, own in groups(rows, "layer").items():
                if not np.isnan(values[own]).all():
                    found[f"{name}/layer_{layer}"] = float(np.nanmean(values[own]))
        for name in STATISTICS:
            for row in rows:
                if row[name] is not None:
                    found[f"head_{name}/layer_{row['layer']}/head_{row['head']}"] = float(numbers([row], name)[0])
        named_so = [row["pattern"] for row in rows]
        return found | {f"heads/{name}": named_so.count(name) / len(rows) for name in (*PATTERNS, "broad", "other")}


@contextmanager
def weights_shown(model: Any) -> Iterator[None]:
    """Let a model compute attention so that its weights can be seen: fused kernels do not keep them."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


class Places:
    """Which pieces of a batch ask, and what they may attend to."""

    def __init__(self, text: Tensor, mask: Tensor, causal: bool) -> None:
        """Text (B, T): neither special nor padding; mask (B, T): not padding."""
        import torch

        at = torch.arange(text.shape[1], device=text.device)
        seen = (at[:, None] >= at[None]) if causal else torch.ones_like(at[:, None] == at[None])
        self.text = text
        self.special = mask & ~text
        self.allowed = text[:, :, None] & text[:, None, :] & seen  # (B, T, T): a piece, and what it may attend to
        self.count = self.allowed.sum(-1)
        self.distances = (at[:, None] - at[None]).abs().double()

    def sums(self, weights: Tensor) -> Tensor:
        """Of attention (B, N, T, T), by head: sums and counts (N, 18) in the order that `_row` reads."""
        import torch

        attention = weights.double()
        on_text = attention * self.allowed[:, None]
        total = on_text.sum(-1)
        asks = self.text[:, None] & (total > LEAST)  # (B, N, T)
        share = on_text / total.clamp(min=LEAST)[..., None]
        count = self.count[:, None].expand_as(asks)
        several = asks & (count > 1)
        entropy = -torch.xlogy(share, share).sum(-1) / count.clamp(min=2).log()
        distance = (share * self.distances).sum(-1)
        uniform = (self.allowed * self.distances).sum(-1) / self.count.clamp(min=1)
        first = attention[..., 0]
        separator = (attention[..., 1:] * self.special[:, None, None, 1:]).sum(-1)
        everyone = self.text[:, None].expand_as(asks)
        columns = [
            *_sum(entropy, several),
            *_sum(distance, asks),
            *(part for offset in (-1, 1, 0) for part in self._beside(attention, offset)),
            *_sum(first, everyone),
            *_sum(separator, everyone),
            *_sum((entropy >= BROAD).double(), several),
            *_sum(uniform[:, None].expand_as(distance), asks),
            *_sum(1 / count.clamp(min=1).double(), asks),
        ]
        return torch.stack(columns, dim=-1).cpu()

    def _beside(self, attention: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Attention to the piece so far away, of the pieces that have one there."""
        there = self.allowed.diagonal(offset, 1, 2)
        return _sum(attention.diagonal(offset, 2, 3), there[:, None].expand(-1, attention.shape[1], -1))


def _sum(values: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of (B, N, T) where chosen, by head; and of how many."""
    return (values * chosen).sum((0, 2)).double(), chosen.sum((0, 2)).double()


def _row(layer: int, head: int, sums: list[float]) -> Row:
    columns = (*STATISTICS, "uniform_distance", "uniform_share")
    means: dict[str, float | None] = {
        name: sums[2 * i] / sums[2 * i + 1] if sums[2 * i + 1] else None for i, name in enumerate(columns)
    }
    shares = {name: means[name] or 0.0 for name in PATTERNS}
    best = max(PATTERNS, key=lambda name: shares[name])
    broad = "broad" if (means["entropy"] or 0.0) >= BROAD else "other"
    return {
        "id": f"layer_{layer}/head_{head}",
        "layer": layer,
        "head": head,
        "pieces": int(sums[2 * STATISTICS.index("first") + 1]),
        "pattern": best if shares[best] >= DOMINANT else broad,
        **means,
    }
