"""How long a run takes here, found by trying: real training steps and real evaluation batches, for some seconds.

A budget of wall-clock time is turned into steps by it, once, before the spec is made: a run is so many steps, whatever
machine it is then trained on.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn
from transformers import AutoModel

from plm import optim, teachers
from plm.build import Cache, build, seeded
from plm.data.collate import ExampleStream, Stream
from plm.duration import steps
from plm.frozen import read
from plm.inits import architecture
from plm.inits.load import Load
from plm.inits.scratch import Scratch
from plm.memory import hold
from plm.models import Model, config_of, shape
from plm.parallel import Scorer
from plm.spec import RunSpec, Source
from plm.step import train_step
from plm.store import Store
from plm.train import Execution, evaluate_every, open_stream, prepare

PROBE_SECONDS = 3.0
KNOWN = 8
"""Batches that a linear probe is timed on: it has read them before."""
TRIED_SEQUENCES, TRIED_TOKENS = 32, 32
"""Of a batch that is only read, as analyses read sentences."""


@dataclass(frozen=True)
class Timing:
    """Seconds that parts of a run take."""

    step: float
    evaluation: float
    """Of the whole evaluation split; a linear probe's reading of its training texts with it."""


def probe(spec: RunSpec, execution: Execution, *, store: Store, cache: Cache | None = None) -> Timing:
    """Time a run's steps and its evaluation; weights come from where its lineage begins, so no parent need exist."""
    origin = spec.init.architecture()
    there = dataclasses.replace(
        spec,
        init=Scratch(origin) if isinstance(origin, Model) else Load(origin),
        optim=dataclasses.replace(spec.optim, redrawn_lr=1.0),  # nothing is drawn afresh in there
    )
    hold()  # as a run does
    cache, device = cache or Cache(), torch.device(execution.device)
    stream, model = open_stream(spec, store, cache), build(there, store, cache).model
    spec.objective.check_built(model, spec.seq_len)
    if isinstance(stream, ExampleStream):
        prepare(model, spec, stream)
    teacher = teachers.of(spec, store, cache, device, untrained=True)
    scorer = Scorer(model, spec.objective, teacher).to(device).train()
    optimizer = optim.build(model, there.optim)
    batch, passes = stream.batch, 1.0
    if spec.trained == "probe":
        read(model, map(stream.batch, range(KNOWN)), spec.dtype)
        batch = lambda step: stream.batch(step % KNOWN)  # noqa: E731
        passes += spec.data.num_sequences / spec.data.task.counts[1]  # type: ignore[union-attr]
    for step in range(2):  # the first steps allocate
        train_step(scorer, optimizer, spec, batch(step), step, spec.optim.lr, execution)
    began, step = _clock(device), 2
    while time.monotonic() - began < PROBE_SECONDS and step < max(3, spec.total_steps):
        train_step(scorer, optimizer, spec, batch(step), step, spec.optim.lr, execution)
        step += 1
    return Timing((_clock(device) - began) / (step - 2), passes * _evaluation(scorer, spec, stream, device))


def flops_per_second(source: Source, execution: Execution) -> float:
    """Forward FLOPs a second of a model's body, tried on random tokens in short sequences; no weights need be there."""
    device, form = torch.device(execution.device), shape(source)
    with seeded(0):
        model = AutoModel.from_config(config_of(architecture(source))).to(device).eval()
        ids = torch.randint(form.vocab_size, (TRIED_SEQUENCES, min(TRIED_TOKENS, form.max_seq_len)), device=device)
    count = 0
    with torch.no_grad():
        model(input_ids=ids)  # the first allocates
        began = _clock(device)
        while time.monotonic() - began < PROBE_SECONDS / 3:
            model(input_ids=ids)
            count += 1
        seconds = _clock(device) - began
    return count * ids.numel() * form.flops_per_token(ids.shape[1]) / seconds


def _clock(device: torch.device) -> float:
    """Seconds, once the device has done what it was given: it works beside this process."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


def _evaluation(scorer: nn.Module, spec: RunSpec, stream: Stream, device: torch.device) -> float:
    """Seconds of a whole evaluation, from an evenly spaced sample of its batches (they go from long to short)."""
    batches = list(stream.evaluation())
    sample = list(islice(batches, 0, None, max(1, len(batches) // 4)))
    scorer.eval()
    began = _clock(device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=spec.dtype == "bfloat16"):
        for batch in sample:
            scorer({name: tensor.to(device) for name, tensor in batch.items()})
    return (_clock(device) - began) * len(batches) / len(sample)


def within(
    spec: RunSpec, minutes: float, *, execution: Execution | None = None, store: str | Store | None = None
) -> RunSpec:
    """The run with as many steps as fit into some minutes here, evaluations included; probes for a few seconds.

    Args:
        store: Where tokenised data is kept; None: nowhere.

    Raises:
        ValueError: not one step fits.
    """
    execution = execution or Execution()
    threads = torch.get_num_threads()
    torch.set_num_threads(execution.threads)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            timing = probe(spec, execution, store=Store.at(store or scratch))
    finally:
        torch.set_num_threads(threads)
    fitting, budget = int(60 * minutes / timing.step), 60 * minutes
    while fitting and fitting * timing.step + evaluations(spec, fitting) * timing.evaluation > budget:
        fitting -= 1
    if not fitting:
        raise ValueError(
            f"{minutes:g} minutes: a step takes {timing.step:.2f} s here and an evaluation {timing.evaluation:.0f} s, so "
            "nothing fits. Allow more time, or take a smaller model."
        )
    return dataclasses.replace(spec, duration=steps(fitting))


def evaluations(spec: RunSpec, last: int) -> int:
    """How often a run of so many steps is evaluated."""
    return -(-last // evaluate_every(spec, last))
