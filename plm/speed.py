"""How fast a run goes: the next batch made beside the training, and tokens and FLOPs by the second."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from plm.data.collate import Stream
from plm.environment import peak_flops
from plm.memory import peak_memory
from plm.models import shape
from plm.spec import RunSpec


class Ahead:
    """Makes the next batch while this one is trained on."""

    def __init__(self, stream: Stream, step: int) -> None:
        self._stream, self._pool = stream, ThreadPoolExecutor(1, thread_name_prefix="batch")
        self._next: tuple[int, Future[dict[str, Tensor]]] = (step, self._pool.submit(stream.batch, step))

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of a step; the one after it is begun."""
        there, made = self._next
        batch = made.result() if there == step else self._stream.batch(step)
        self._next = step + 1, self._pool.submit(self._stream.batch, step + 1)
        return batch

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


class Speed:
    """Counts tokens, FLOPs and seconds of training steps; evaluation and waiting aside."""

    def __init__(self, spec: RunSpec, device: torch.device, workers: int, *, live: bool) -> None:
        """Begin to count.

        Args:
            live: A teacher, if there is one, reads every batch that it guides; else its lessons were stored.
        """
        self._live = live
        self._spec, self._shape, self._device = spec, shape(spec.init.architecture()), device
        peak = peak_flops(device)
        self._peak = peak and peak * workers
        self._all, self._lap = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]

    def count(self, step: int, tokens: int, seconds: float) -> float:
        """Note the update after `step` others; the FLOPs of its forward and backward passes, a live teacher's included."""
        spec, length = self._spec, tokens / self._spec.batch_size
        objective = spec.objective.at(step, batch_size=spec.batch_size, seq_len=spec.seq_len)
        trained = spec.passes * objective.flops_per_token(self._shape, length)
        live = self._live and objective.taught
        taught = objective.teaching_flops_per_token(spec.data, length) if live else 0.0  # type: ignore[arg-type]
        flops = tokens * (trained + taught)
        for sums in (self._all, self._lap):
            for i, number in enumerate((tokens, flops, seconds)):
                sums[i] += number
        return flops

    def measured(self) -> dict[str, float]:
        """Speed since the last call."""
        found = self._rates(self._lap)
        self._lap = [0.0, 0.0, 0.0]
        return found

    def overall(self) -> dict[str, float]:
        """Speed of this execution, and the most memory it used (bytes)."""
        return self._rates(self._all) | {"speed/peak_memory": float(peak_memory(self._device))}

    def _rates(self, sums: list[float]) -> dict[str, float]:
        tokens, flops, seconds = sums
        if not seconds:
            return {}
        mfu = {"speed/mfu": flops / seconds / self._peak} if self._peak else {}
        return {"speed/tokens_per_second": tokens / seconds, **mfu}
