"""What a plan costs before it is launched: FLOPs and bytes by arithmetic, seconds by a short probe on this machine.

The probe times real training steps and real evaluation batches of each kind of run, in as many processes at a time as
trials will run, because neighbours slow each other down. Of models and tasks that are known by their numbers alone nothing
can be timed: there, FLOPs over a rate are GPU-hours.
"""

from __future__ import annotations

import dataclasses
import heapq
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from plm.bucket import CACHE
from plm.data import tokenizer as tokenizers
from plm.data.examples import Examples
from plm.models import shape
from plm.reading import Reading, Spec
from plm.spec import RunSpec, from_json
from plm.stand_ins import is_stand_in, mean_tokens
from plm.store import Store, step_name
from plm.tasks import Task, load
from sweeps.engine import teaching
from sweeps.engine.plan import Plan
from sweeps.engine.results import Arm, without_seed
from sweeps.engine.stats import smallest_detectable
from sweeps.engine.worker import Resources

RAY_SECONDS, ACTOR_SECONDS, TRIAL_SECONDS = 5.0, 8.0, 0.3
"""Starting Ray, the first trial of each actor (imports), and what each trial costs beside its training."""
ASSUMED_SPREAD = 0.02
"""Standard deviation of a paired difference between seeds while none has been seen."""
SAMPLED_TEXTS = 1000
READING_BYTES = 200_000
"""Of some thousand rows, compressed, and the records."""
RATE = 2e13
"""FLOPs a second that are assumed of a GPU: about a tenth of what a recent one can do at most, as batches are short."""
PIECES_PER_WORD, SPECIAL_TOKENS = 1.2, 2
"""Of a tokenizer that is not here."""


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
    copied: int
    """Bytes that a machine would have of its own if the store were a bucket: lessons, and copies of what is started from."""


def flops(spec: Spec, store: Store) -> float:
    """Training, a live teacher's forward passes among it, and evaluation, from the layers' products alone; of a reading what its analysis says."""
    if isinstance(spec, Reading):
        return spec.analysis.flops(shape(spec.source))
    model = shape(spec.init.architecture())
    if not isinstance(spec.data, Examples):
        return (
            spec.passes
            * spec.total_steps
            * spec.batch_size
            * spec.seq_len
            * spec.objective.flops_per_token(model, spec.seq_len)
        ) + teaching.flops(spec)
    length = _mean_length(spec, store)
    trained = spec.duration.in_steps(
        num_examples=spec.data.num_sequences, batch_size=spec.batch_size, seq_len=spec.seq_len
    )
    examples = min(
        trained * spec.batch_size,
        trained / max(1, -(-spec.data.num_sequences // spec.batch_size)) * spec.data.num_sequences,
    )
    read = spec.passes * examples + (spec.data.num_sequences if spec.trained == "probe" else 0)
    return (read + spec.data.task.counts[1]) * length * spec.objective.flops_per_token(model, length)


_lengths: dict[Any, float] = {}


def _mean_length(spec: RunSpec, store: Store) -> float:
    assert isinstance(spec.data, Examples)
    key = (spec.data.task, spec.init.architecture(), spec.seq_len)
    if key not in _lengths:
        _lengths[key] = _estimated_length(spec, spec.data.task, store)
    return _lengths[key]


def _estimated_length(spec: RunSpec, task: Task, store: Store) -> float:
    if is_stand_in(task):
        return min(mean_tokens(task), spec.seq_len)
    texts = load(task)[0].texts[:SAMPLED_TEXTS]
    if is_stand_in(spec.init.origin):
        words = [len(re.findall(r"\w+|[^\w\s]", " ".join(row))) for row in texts]
        return float(np.mean([min(PIECES_PER_WORD * count + SPECIAL_TOKENS, spec.seq_len) for count in words]))
    tokenizer = tokenizers.of(spec, store.root / "data")
    return float(np.mean([len(ids) for ids, _ in tokenizers.encode(tokenizer, texts, spec.seq_len)]))


def rate_of(plan: Plan, given: float | None) -> float | None:
    """FLOPs a second by which a plan is priced; None: it is probed."""
    return given or (RATE if plan.unresolved else None)


def _work(plan: Plan, store: Store, *, live: bool) -> dict[str, float]:
    """FLOPs of each missing run, with its share of the lessons that are stored."""
    spared = teaching.spared(plan, store, live=live)
    return {run_id: flops(plan.runs[run_id], store) - spared.get(run_id, 0.0) for run_id in plan.missing}


def counted(plan: Plan, store: Store, rate: float, *, live: bool = False) -> Cost:
    """What is missing of a plan by arithmetic alone; the seconds are those of one GPU at so many FLOPs a second.

    Args:
        live: Teachers are asked at each step.
    """
    missing = [plan.runs[r] for r in plan.missing]
    work = _work(plan, store, live=live)
    size = sum(_bytes(s, plan.keep.get(s.run_id, ())) for s in missing) + teaching.kept_bytes(plan, store, live=live)
    seconds = {run_id: each / rate for run_id, each in work.items()}
    total = sum(seconds.values())
    copied = _copied(plan, store, live=live)
    return Cost(len(missing), sum(work.values()), size, seconds, total, total / 3600, copied)


def estimate(plan: Plan, store: Store, resources: Resources, concurrency: int, local: bool) -> Cost:
    """Estimate what is missing of a plan; takes a few seconds for each kind of run."""
    missing = [plan.runs[r] for r in plan.missing]
    pieces = teaching.pieces(plan, store, live=resources.live)
    kinds = {_kind(piece): piece for each in pieces.values() for piece in each}
    timed = timings(list(kinds.values()), resources, concurrency, store)
    per_kind = dict(zip(kinds, timed, strict=True))
    seconds = {
        run_id: sum(_seconds(piece, per_kind[_kind(piece)][0], store) for piece in each)
        + per_kind[_kind(each[-1])][1]
        + TRIAL_SECONDS
        for run_id, each in pieces.items()
    }
    wall = makespan(plan, seconds, concurrency) + (ACTOR_SECONDS + (0 if local else RAY_SECONDS) if missing else 0)
    return Cost(
        len(missing),
        sum(_work(plan, store, live=resources.live).values()),
        sum(_bytes(s, plan.keep.get(s.run_id, ())) for s in missing)
        + teaching.kept_bytes(plan, store, live=resources.live),
        seconds,
        wall,
        sum(seconds.values()) * resources.gpus / 3600,
        _copied(plan, store, live=resources.live),
    )


def bound(
    shown: Plan,
    runs: int,
    store: Store,
    resources: Resources,
    concurrency: int,
    local: bool,
    rate: float | None = None,
) -> Cost:
    """What a search costs at most: its parents, and `runs` runs that are each as costly as the costliest that is shown.

    Args:
        shown: A plan of some configurations that the search may ask for, and of their parents.
        rate: As `counted`; None: a probe.
    """
    parents = [run_id for run_id in shown.missing if run_id in shown.keep]
    own = [run_id for run_id in shown.runs if run_id not in shown.keep]
    anew = dataclasses.replace(shown, status=shown.status | dict.fromkeys(own, "missing"))
    if rate:
        one = counted(anew, store, rate, live=resources.live)
    else:
        one = estimate(anew, store, resources, concurrency, local)
    seconds = {r: one.seconds[r] for r in parents} | {f"run {i}": max(one.seconds[r] for r in own) for i in range(runs)}
    work = sum(flops(shown.runs[r], store) for r in parents) + runs * max(flops(shown.runs[r], store) for r in own)
    kept = [_bytes(shown.runs[r], ()) for r in own]
    if shown.sweep.search.rungs:
        kept += [_given_up(shown.runs[r]) for r in own]
    size = sum(_bytes(shown.runs[r], shown.keep[r]) for r in parents) + runs * max(kept)
    wall = sum(seconds[r] for r in parents) + sum(v for r, v in seconds.items() if r not in parents) / concurrency
    start = ACTOR_SECONDS + (0 if local else RAY_SECONDS) if seconds else 0
    gpus, copied = 1 if rate else resources.gpus, _copied(anew, store, live=resources.live)
    return Cost(len(seconds), work, size, seconds, wall + start, sum(seconds.values()) * gpus / 3600, copied)


def _seconds(spec: Spec, each: float, store: Store) -> float:
    """What the steps of a run take, or the FLOPs of a reading."""
    return (flops(spec, store) if isinstance(spec, Reading) else spec.total_steps) * each


def _kind(spec: Spec) -> Any:
    """Runs of one kind take the same time a step, readings of one kind a FLOP."""
    if isinstance(spec, Reading):
        return shape(spec.source)
    return (
        teaching.kind(spec.objective),
        spec.init.architecture(),
        getattr(spec.data, "task", None),
        spec.batch_size,
        spec.seq_len,
        spec.dtype,
        spec.trained,
        spec.data.num_sequences if spec.trained == "probe" else None,  # all of which it reads before
    )


def timings(specs: list[Spec], resources: Resources, concurrency: int, store: Store) -> list[tuple[float, float]]:
    """Seconds a step (a FLOP) and seconds of the final evaluation of each spec, measured while `concurrency` processes do the same.

    Args:
        store: Whose tokenised texts are read; nothing is written into it.
    """
    documents = [spec.to_json() for spec in specs]
    if not documents:
        return []
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(concurrency, mp_context=get_context("spawn")) as pool,
    ):
        data = Path(scratch, "data")
        data.mkdir()
        for file in (store.root / "data").glob("[!.]*"):
            (data / file.name).symlink_to(file.resolve())
        answers = list(pool.map(_time, [documents] * concurrency, [resources] * concurrency, [scratch] * concurrency))
    return [(mean(a[i][0] for a in answers), mean(a[i][1] for a in answers)) for i in range(len(documents))]


def _time(documents: list[str], resources: Resources, scratch: str) -> list[tuple[float, float]]:
    import torch

    from plm.build import Cache
    from plm.probe import flops_per_second, probe
    from plm.train import Execution
    from sweeps.engine.worker import quiet

    quiet()
    torch.set_num_threads(resources.cpus)
    execution = Execution(device="cuda" if resources.gpus else "cpu", threads=resources.cpus)
    found, store, cache = [], Store.at(scratch), Cache()
    for spec in map(from_json, documents):
        if isinstance(spec, Reading):
            found.append((1 / flops_per_second(spec.source, execution), 0.0))
        else:
            timing = probe(spec, execution, store=store, cache=cache)
            found.append((timing.step, timing.evaluation))
    return found


def makespan(plan: Plan, seconds: dict[str, float], concurrency: int) -> float:
    """When the last run ends if `concurrency` at a time are started as soon as their parents are done."""
    ends: dict[str, float] = {}
    free = [0.0] * concurrency
    for run_id in plan.missing:  # parents come first, so their ends are known
        ready = max((ends.get(c.run.run_id, 0.0) for c in plan.runs[run_id].parents()), default=0.0)
        ends[run_id] = max(heapq.heappop(free), ready) + seconds[run_id]
        heapq.heappush(free, ends[run_id])
    return max(ends.values(), default=0.0)


def _bytes(spec: Spec, keep: tuple[int, ...]) -> int:
    """Disk for what a run keeps: predictions, records, and weights of the steps that are kept."""
    if isinstance(spec, Reading):
        return READING_BYTES
    rows = spec.data.task.counts[1] if isinstance(spec.data, Examples) else 512
    copies = max(0 if isinstance(spec.data, Examples) else 1, len(keep))
    weights = 4 * parameters(spec) * copies if copies else 0
    return 30_000 + rows * (16 + 4 * getattr(spec.objective, "num_labels", 1)) + weights


def _copied(plan: Plan, store: Store, *, live: bool) -> int:
    """Disk of a machine for what it keeps of a bucket: lessons, and checkpoints of which it has no copy yet."""
    read = {(c.run.run_id, c.step): c.run for run_id in plan.missing for c in plan.runs[run_id].parents()}
    size = 0
    for (run_id, step), spec in read.items():
        if not (store.root / "runs" / run_id / "checkpoints" / step_name(step)).exists():
            states = 3 if step in plan.keep_state.get(run_id, ()) else 1  # with AdamW's two moments
            size += states * 4 * parameters(spec)
    return size + teaching.kept_bytes(plan, store, live=live)


def _given_up(spec: Spec) -> int:
    """Disk for what a run keeps that was given up as it trained: two states of weights and of AdamW's two moments."""
    return 0 if isinstance(spec, Reading) else 2 * 3 * 4 * parameters(spec)


def parameters(spec: RunSpec) -> int:
    """Weights of the model with its head."""
    from plm.build import num_parameters

    return num_parameters(spec.objective, spec.init.architecture())


def check_space(cost: Cost, store: Store) -> None:
    """Refuse what does not fit on the store's disk; a bucket grows, but not the disk for copies of what is in it.

    Raises:
        ValueError: with what is needed and what is free.
    """
    there = next(p for p in (store.root, *store.root.parents) if p.exists())
    needed, free = cost.copied if store.bucket else cost.bytes, shutil.disk_usage(there).free
    if needed > free:
        what = f"copies of {store.bucket}, and lessons, would take" if store.bucket else "the runs would keep"
        raise ValueError(
            f"{what} {needed / 1e9:.1f} GB; {there} has {free / 1e9:.1f} GB free. "
            f"{f'Name another folder by {CACHE}' if store.bucket else 'Choose another --store'}, or ask for less."
        )


def detectable(plan: Plan, spreads: list[float]) -> str:
    """The smallest difference from the baseline that the plan can detect, in words."""
    arms: dict[Any, set[Any]] = {}
    for c in plan.cells:
        arms.setdefault(without_seed(c.labels), set()).add(c.point.get("seed"))
    counts = [len(seeds) for seeds in arms.values()]
    several = [count for count in counts if count > 1]
    if not several:
        return "one seed: no difference can be told from noise; ask for seed=0:5"
    seeds = min(several)
    others = f" (the fewest of an arm; {len(counts) - len(several)} have one)" * (len(several) < len(counts))
    others = others or f" (the fewest of an arm; the most are {max(counts)})" * (max(counts) > seeds)
    comparisons = max([1, *Counter(family for family, _ in _compared(plan)).values()])
    spread = mean(spreads) if spreads else ASSUMED_SPREAD
    said = f"seen in {len(spreads)} finished comparisons" if spreads else "assumed: none has been seen yet"
    alone, corrected = (
        smallest_detectable(seeds, spread),
        smallest_detectable(seeds, spread, level=1 - 0.05 / comparisons),
    )
    return (
        f"smallest detectable difference with {seeds} paired seeds{others} and 80% power: {alone:.3f}, or {corrected:.3f} as the first of "
        f"{comparisons} comparisons (spread of a difference between seeds {spread:.3f}, {said})"
    )


def _compared(plan: Plan) -> set[tuple[Any, tuple[str, ...]]]:
    """The family and the runs of each arm that is compared: arms of the same runs are one, the baseline's own none."""
    arms: dict[Any, list[str]] = {}
    for cell in plan.cells:
        arms.setdefault(without_seed(cell.labels), []).append(cell.spec.run_id)
    return {
        (plan.family(cell), tuple(runs))
        for cell in plan.cells
        if (runs := arms[without_seed(cell.labels)]) != arms.get(without_seed(plan.sweep.baseline(cell.labels)))
    }


def spreads_of(arms: Sequence[Arm]) -> list[float]:
    """Standard deviations over seeds of the differences that have at least two; arms of the same runs have one."""
    differences = dict.fromkeys((arm.runs, arm.difference.values) for arm in arms if arm.difference)
    return [stdev(values) for _, values in differences if len(values) > 1 and stdev(values) > 0]
