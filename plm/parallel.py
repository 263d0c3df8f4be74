"""Several processes, one run: who takes which sequences, and what must be agreed on.

Looks at `torch.distributed` and nothing else, so that it is the same under torchrun and inside a Ray Train worker. Every
process makes the whole batch (a pure function of the step) and trains its share of it; the loss is normalised by the
count of the whole batch, so one process and several compute the same sum.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from plm.models import layers
from plm.objectives import Objective, Scored

T = TypeVar("T")
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Group:
    """The processes that train a run together."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def told(self, value: T) -> T:
        """What the first process says."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def summed(self, *numbers: float) -> list[float]:
        """Numbers added up over the processes."""
        if self.size == 1:
            return list(numbers)
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        numbers_there = torch.tensor(numbers, dtype=torch.float64, device=device)
        distributed.all_reduce(numbers_there)
        return numbers_there.tolist()

    def gathered(self, items: list[T]) -> list[T]:
        """The items of all processes, in order of rank."""
        if self.size == 1:
            return items
        boxes: list[list[T]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(boxes, items)
        return [item for box in boxes for item in box]

    def parts(self, batch: Batch, micro_batch: int | None) -> list[tuple[Batch, bool]]:
        """This process's share of a batch in pieces of at most `micro_batch` sequences, as many in every process.

        A process that has no sequence left for a piece is given one that does not count (False): a collective
        operation needs everybody.
        """
        size = len(batch["input_ids"])
        share = -(-size // self.size)
        pieces = -(-share // (micro_batch or share))
        mine = torch.arange(size).tensor_split(self.size)[self.rank]
        return [
            ({name: tensor[rows if len(rows) else [0]] for name, tensor in batch.items()}, bool(len(rows)))
            for rows in mine.tensor_split(pieces)
        ]


def group() -> Group:
    """The group of this process: alone unless `torch.distributed` says otherwise."""
    if distributed.is_available() and distributed.is_initialized():
        return Group(distributed.get_rank(), distributed.get_world_size())
    return Group()


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """Be one of the processes that torchrun started; alone where it did not."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Group()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield group()
    finally:
        distributed.destroy_process_group()
        # The caches of sharded tensors keep gloo's threads alive. One that has yet to let go of its last tensor needs
        # the interpreter for it, and aborts the process if that is ending (pytorch/pytorch#190489): it gets its turn.
        time.sleep(0.2)


class Scorer(nn.Module):
    """A model with its objective: called with a batch, it gives the loss of every prediction, by component.

    Its teacher, if it has one, is no part of it: it is neither trained nor spread over the group.
    """

    def __init__(
        self, model: PreTrainedModel, objective: Objective, teacher: Callable[[Batch], Batch] | None = None
    ) -> None:
        super().__init__()
        self.model, self.objective, self.teacher = model, objective, teacher

    def forward(self, batch: Batch, objective: Objective | None = None) -> dict[str, Scored]:
        objective = objective or self.objective
        if objective.taught:
            assert self.teacher is not None
            batch = batch | self.teacher(batch)
        return objective.losses(self.model, batch)


def spread(scorer: Scorer, among: Group, *, shard: bool) -> nn.Module:
    """The scorer for training in a group: alone as it is, with gradients averaged, or with its weights sharded too.

    Parameters are sharded in place, so the optimizer is made afterwards.
    """
    if among.size == 1:
        return scorer
    if not shard:
        return DistributedDataParallel(scorer, gradient_as_bucket_view=True)
    with suppress(ValueError):  # a model whose layers share their weights is one unit
        for layer in layers(scorer.model):
            fully_shard(layer)
    fully_shard(scorer)
    return scorer


@contextmanager
def exchanging(scorer: nn.Module, last: bool) -> Iterator[None]:
    """Forward and backward in here only add to the local gradients; the last one exchanges the sum."""
    if isinstance(scorer, FSDPModule):
        scorer.set_requires_gradient_sync(last)
    with scorer.no_sync() if isinstance(scorer, DistributedDataParallel) and not last else nullcontext():
        yield


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its shards; every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, template: Tensor) -> Tensor:
    """A whole tensor, sharded as the template is; every process has it, so nothing is sent."""
    if not isinstance(template, DTensor):
        return tensor
    return distribute_tensor(tensor, template.device_mesh, template.placements, src_data_rank=None)


def rounds(items: Sequence[T], among: Group) -> list[tuple[T, bool]]:
    """This process's share of a sequence, as many in every process; False where the item is another's already."""
    turns = range(among.rank, -(-len(items) // among.size) * among.size, among.size)
    return [(items[min(turn, len(items) - 1)], turn < len(items)) for turn in turns]
