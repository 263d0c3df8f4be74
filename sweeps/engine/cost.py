"""What a plan costs before it is launched: FLOPs and bytes by arithmetic, seconds by a short probe on this machine.

The probe times real training steps and real evaluation batches of each kind of run, in as many processes at a time as
trials will run, because neighbours slow each other down.
"""

from __future__ import annotations

import dataclasses
import heapq
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import mean, stdev
from typing import Any

import numpy as np

from plm.data import tokenizer as tokenizers
from plm.data.examples import Examples
from plm.models import shape
from plm.spec import RunSpec
from plm.store import Store
from plm.tasks import load
from sweeps.engine.plan import Plan
from sweeps.engine.stats import smallest_detectable
from sweeps.engine.worker import Resources

RAY_SECONDS, ACTOR_SECONDS, TRIAL_SECONDS = 5.0, 8.0, 0.3
"""Starting Ray, the first trial of each actor (imports), and what each trial costs beside its training."""
ASSUMED_SPREAD = 0.02
"""Standard deviation of a paired difference between seeds while none has been seen."""
SAMPLED_TEXTS = 1000


@dataclass(frozen=True)
class Cost:
    """An estimate for the runs that are missing."""

    runs: int
    flops: float
    bytes: int
    seconds: dict[str, float]
    """Of each run, on the resources of a trial."""
    wall_seconds: float
    gpu_hours: float


def flops(spec: RunSpec, store: Store) -> float:
    """Training and evaluation, from the layers' products alone."""
    model = shape(spec.init.architecture())
    if not isinstance(spec.data, Examples):
        return (
            3 * spec.total_steps * spec.batch_size * spec.seq_len * spec.objective.flops_per_token(model, spec.seq_len)
        )
    length = _mean_length(spec, store)
    trained = spec.duration.in_steps(
        num_examples=spec.data.num_sequences, batch_size=spec.batch_size, seq_len=spec.seq_len
    )
    examples = min(
        trained * spec.batch_size,
        trained / max(1, -(-spec.data.num_sequences // spec.batch_size)) * spec.data.num_sequences,
    )
    return (3 * examples + spec.data.task.counts[1]) * length * spec.objective.flops_per_token(model, length)


_lengths: dict[Any, float] = {}


def _mean_length(spec: RunSpec, store: Store) -> float:
    assert isinstance(spec.data, Examples)
    key = (spec.data.task, spec.init.architecture(), spec.seq_len)
    if key not in _lengths:
        texts, tokenizer = load(spec.data.task)[0].texts[:SAMPLED_TEXTS], tokenizers.of(spec, store.root / "data")
        _lengths[key] = float(np.mean([len(ids) for ids, _ in tokenizers.encode(tokenizer, texts, spec.seq_len)]))
    return _lengths[key]


def estimate(plan: Plan, store: Store, resources: Resources, concurrency: int, local: bool) -> Cost:
    """Estimate what is missing of a plan; takes a few seconds for each kind of run."""
    missing = [plan.runs[r] for r in plan.missing]
    kinds = {_kind(spec): spec for spec in missing}
    timed = timings(list(kinds.values()), resources, concurrency)
    per_kind = dict(zip(kinds, timed, strict=True))
    seconds = {s.run_id: s.total_steps * per_kind[_kind(s)][0] + per_kind[_kind(s)][1] + TRIAL_SECONDS for s in missing}
    wall = makespan(plan, seconds, concurrency) + (ACTOR_SECONDS + (0 if local else RAY_SECONDS) if missing else 0)
    return Cost(
        len(missing),
        sum(flops(spec, store) for spec in missing),
        sum(_bytes(s, plan.keep.get(s.run_id, ())) for s in missing),
        seconds,
        wall,
        sum(seconds.values()) * resources.gpus / 3600,
    )


def bound(shown: Plan, runs: int, store: Store, resources: Resources, concurrency: int, local: bool) -> Cost:
    """What a search costs at most: its parents, and `runs` runs that are each as costly as the costliest that is shown.

    Args:
        shown: A plan of some configurations that the search may ask for, and of their parents.
    """
    parents = [run_id for run_id in shown.missing if run_id in shown.keep]
    own = [run_id for run_id in shown.runs if run_id not in shown.keep]
    anew = dataclasses.replace(shown, status=shown.status | dict.fromkeys(own, "missing"))
    one = estimate(anew, store, resources, concurrency, local)
    seconds = {r: one.seconds[r] for r in parents} | {f"run {i}": max(one.seconds[r] for r in own) for i in range(runs)}
    work = sum(flops(shown.runs[r], store) for r in parents) + runs * max(flops(shown.runs[r], store) for r in own)
    size = sum(_bytes(shown.runs[r], shown.keep[r]) for r in parents) + runs * max(
        _bytes(shown.runs[r], ()) for r in own
    )
    wall = sum(seconds[r] for r in parents) + sum(v for r, v in seconds.items() if r not in parents) / concurrency
    start = ACTOR_SECONDS + (0 if local else RAY_SECONDS) if seconds else 0
    return Cost(len(seconds), work, size, seconds, wall + start, sum(seconds.values()) * resources.gpus / 3600)


def _kind(spec: RunSpec) -> Any:
    """Runs of one kind take the same time a step."""
    return (
        spec.objective,
        spec.init.architecture(),
        getattr(spec.data, "task", None),
        spec.batch_size,
        spec.seq_len,
        spec.dtype,
    )


def timings(specs: list[RunSpec], resources: Resources, concurrency: int) -> list[tuple[float, float]]:
    """Seconds a step and seconds of the final evaluation of each spec, measured while `concurrency` processes do the same."""
    documents = [spec.to_json() for spec in specs]
    if not documents:
        return []
    with ProcessPoolExecutor(concurrency, mp_context=get_context("spawn")) as pool:
        answers = list(pool.map(_time, [documents] * concurrency, [resources] * concurrency))
    return [(mean(a[i][0] for a in answers), mean(a[i][1] for a in answers)) for i in range(len(documents))]


def _time(documents: list[str], resources: Resources) -> list[tuple[float, float]]:
    import tempfile

    import torch

    from plm.build import Cache
    from plm.probe import probe
    from plm.train import Execution
    from sweeps.engine.worker import quiet

    quiet()
    torch.set_num_threads(resources.cpus)
    execution = Execution(device="cuda" if resources.gpus else "cpu", threads=resources.cpus)
    with tempfile.TemporaryDirectory() as scratch:
        store, cache = Store.at(scratch), Cache()
        found = [probe(spec, execution, store=store, cache=cache) for spec in map(RunSpec.from_json, documents)]
    return [(timing.step, timing.evaluation) for timing in found]


def makespan(plan: Plan, seconds: dict[str, float], concurrency: int) -> float:
    """When the last run ends if `concurrency` at a time are started as soon as their parents are done."""
    ends: dict[str, float] = {}
    free = [0.0] * concurrency
    for run_id in plan.missing:  # parents come first, so their ends are known
        ready = max((ends.get(c.run.run_id, 0.0) for c in plan.runs[run_id].parents()), default=0.0)
        ends[run_id] = max(heapq.heappop(free), ready) + seconds[run_id]
        heapq.heappush(free, ends[run_id])
    return max(ends.values(), default=0.0)


def _bytes(spec: RunSpec, keep: tuple[int, ...]) -> int:
    """Disk for what a run keeps: predictions, records, and weights of the steps that are kept."""
    rows = spec.data.task.counts[1] if isinstance(spec.data, Examples) else 512
    own = 0 if isinstance(spec.data, Examples) else 1
    return (
        30_000 + rows * (16 + 4 * getattr(spec.objective, "num_labels", 1)) + 4 * parameters(spec) * max(own, len(keep))
    )


def parameters(spec: RunSpec) -> int:
    """Weights of the model with its head."""
    from plm.build import num_parameters

    return num_parameters(spec.objective, spec.init.architecture())


def check_space(cost: Cost, store: Store) -> None:
    """Refuse what does not fit on the store's disk.

    Raises:
        ValueError: with what is needed and what is free.
    """
    there = next(p for p in (store.root, *store.root.parents) if p.exists())
    free = shutil.disk_usage(there).free
    if cost.bytes > free:
        raise ValueError(
            f"the runs would keep {cost.bytes / 1e9:.1f} GB; {there} has {free / 1e9:.1f} GB free. "
            "Choose another --store, or ask for less."
        )


def detectable(plan: Plan, spreads: list[float]) -> str:
    """The smallest difference from the baseline that the plan can detect, in words."""
    seeds = len({c.point.get("seed") for c in plan.cells})
    if seeds < 2:
        return "one seed: no difference can be told from noise; ask for seed=0:5"
    families: dict[tuple[Any, ...], set[Any]] = {}
    for c in plan.cells:
        if plan.sweep.baseline(c.labels) != c.labels:
            families.setdefault(plan.family(c), set()).add(tuple(c.point[a] for a in plan.sweep.arms))
    comparisons = max([1, *map(len, families.values())])
    spread = mean(spreads) if spreads else ASSUMED_SPREAD
    said = f"seen in {len(spreads)} finished comparisons" if spreads else "assumed: none has been seen yet"
    alone, corrected = (
        smallest_detectable(seeds, spread),
        smallest_detectable(seeds, spread, level=1 - 0.05 / comparisons),
    )
    return (
        f"smallest detectable difference with {seeds} paired seeds and 80% power: {alone:.3f}, or {corrected:.3f} as the first of "
        f"{comparisons} comparisons (spread of a difference between seeds {spread:.3f}, {said})"
    )


def spreads_of(differences: list[tuple[float, ...]]) -> list[float]:
    """Standard deviations over seeds of the differences that have at least two."""
    return [stdev(values) for values in differences if len(values) > 1 and stdev(values) > 0]
