"""The loop. One readable function trains any run, alone, in a group, or under an engine, and leaves its folder behind.

What bears on the numbers is in the `RunSpec`; what is only about this execution (threads, device, which steps are kept)
is in `Execution`, and changes no result beyond rounding.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from transformers import PreTrainedModel

from plm import checkpoint, environment, optim, teachers
from plm.build import Built, Cache, build, seeded
from plm.claim import Attempt, Busy, Lost
from plm.data import tokenizer as tokenizers
from plm.data.collate import CorpusStream, ExampleStream, Stream, tokenise
from plm.data.corpus import Corpus
from plm.evaluate import EVALUATIONS, Evaluation, evaluate
from plm.frozen import read
from plm.journal import Journal, tidy
from plm.memory import Keeper, give_back, hold
from plm.models import OFFSET, Model, shape
from plm.parallel import Group, Scorer, group, spread
from plm.predictions import to_parquet
from plm.spec import RunSpec
from plm.speed import Ahead, Speed
from plm.step import train_step
from plm.store import RunFolder, Store
from plm.taught import recalled, taught
from plm.vocabulary import restrict

if TYPE_CHECKING:
    from plm.reading import Spec

TEACHERS = ("live", "stored")
LINES = 50
"""How many lines of training metrics a run leaves, about."""


class Diverged(Exception):
    """The loss left the real numbers."""


class Stopped(Exception):
    """Training was asked to stop; it has left a checkpoint to go on from."""


@runtime_checkable
class Reporter(Protocol):
    """Who wants to hear of progress: the seam between this library and an engine."""

    def report(self, step: int, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Called when metrics are logged and when a checkpoint that is kept has been written."""
        ...


@dataclass(frozen=True)
class Execution:
    """How a run is executed: nothing here changes its numbers beyond rounding."""

    device: str = "cpu"
    threads: int = 1
    micro_batch: int | None = None
    """Sequences of one forward pass; None: the whole batch. (With dropout, the numbers do depend on it.)"""
    shard: bool = False
    """In a group: spread weights and optimizer state over its processes (FSDP), for models that do not fit in one."""
    keep: tuple[int, ...] = ()
    """Steps whose weights are kept."""
    keep_state: tuple[int, ...] = ()
    """Steps whose optimizer state is kept too, so that another run can go on from there."""
    keep_weights: bool = False
    """Keep the final weights of a fine-tuning run too (those of pretraining are kept always)."""
    save_seconds: float = 60.0
    """How often the state is saved to resume from."""
    teacher: str = "live"
    """What it says is computed at each step (`live`), or once for all students of a store (`stored`; `plm.taught`)."""
    stored_top_k: int = 0
    """Of stored lessons that have to be made: logits of a position, where others will want more than this run does."""
    lessons: int | None = None
    """Of the stored lessons that the run began with: logits of a position, 0 for all; None: any that say enough."""

    def __post_init__(self) -> None:
        if self.teacher not in TEACHERS:
            raise ValueError(f"a teacher {self.teacher!r}: there are {', '.join(TEACHERS)}.")
        if not (isinstance(self.stored_top_k, int) and self.stored_top_k >= 0):
            raise ValueError(
                f"stored_top_k {self.stored_top_k!r}: how many logits are kept, 0 for as many as are needed."
            )


@dataclass(frozen=True)
class Result:
    """A finished run."""

    run_id: str
    path: Path
    metrics: dict[str, float]
    seconds: float
    """Wall-clock time of training and evaluation, over all attempts."""


def train(
    spec: RunSpec,
    *,
    store: str | Path | Store = "./runs",
    execution: Execution | None = None,
    reporter: Reporter | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    cache: Cache | None = None,
) -> Result:
    """Execute a run, or go on with it; a finished one is answered from the store.

    A finished run that lacks a step of `execution.keep` is trained again until it has it, and must come by the same
    weights as before. In a group of processes (`torch.distributed`) all of them call this.

    Raises:
        ValueError: what the spec names is not there or has changed; a repeated training left its former path.
        Busy: another process is training it.
        Diverged: the loss became infinite or NaN; the folder says at which step and holds the batch.
        Stopped: `should_stop()` was true; the same call goes on later.
        Lost: another process took the run over.
    """
    execution = execution or Execution()
    folder = Store.at(store).run(spec)
    among = group()
    if among.first:
        tidy(folder)
    while among.told(not folder.done or bool(folder.lacks(execution.keep, execution.keep_state))):
        attempt, busy = claim(spec, folder, among)
        if busy is None:
            with recorded(folder, attempt, execution):
                _loop(
                    spec, folder, attempt, environment.began(folder, execution), reporter, should_stop, cache or Cache()
                )
        elif among.told(not folder.done or bool(folder.lacks(execution.keep, execution.keep_state))):
            raise busy
        elif among.first:
            tidy(folder)  # who ended it may have been killed right then
    result = among.told(folder.result() if among.first else {})
    return Result(spec.run_id, folder.path, result["metrics"], result["seconds"])


def claim(spec: Spec, folder: RunFolder, among: Group) -> tuple[Attempt | None, Busy | None]:
    """The first process claims the run for all of its group."""
    attempt, busy = None, None
    if among.first:
        try:
            attempt = folder.claim(spec, again=folder.done)
        except Busy as error:
            busy = error
    return attempt, among.told(busy)


@contextlib.contextmanager
def recorded(folder: RunFolder, attempt: Attempt | None, execution: Execution) -> Iterator[None]:
    """Work under a claim, with the process-wide state set, and leave a record of how it ended if it did not end well."""
    with attempt or contextlib.nullcontext(), _global_state(execution):
        try:
            yield
        except (Stopped, Lost):
            raise
        except (KeyboardInterrupt, SystemExit):  # this process may live on (a notebook): let the claim go
            if attempt:
                attempt.end("stopped")
            raise
        except Exception as error:
            outcome = "diverged" if isinstance(error, Diverged) else "failed"
            if attempt:
                folder.put("error.txt", traceback.format_exc().encode())
                attempt.end(outcome, error=f"{type(error).__name__}: {error}")
            raise


def _loop(
    spec: RunSpec,
    folder: RunFolder,
    attempt: Attempt | None,
    execution: Execution,
    reporter: Reporter | None,
    should_stop: Callable[[], bool],
    cache: Cache,
) -> None:
    began = saved = time.monotonic()
    among, device, last = group(), torch.device(execution.device), spec.total_steps
    teacher = teachers.of(spec, folder.store, cache, device)
    stream = open_stream(spec, folder.store, cache)
    recall = None
    if teacher and execution.teacher == "stored":
        stream, recall = taught(spec, stream, teacher, folder.store, execution), recalled
        execution = replace(execution, lessons=stream.lessons.top_k)
    built = build(spec, folder.store, cache)
    model = built.model
    spec.objective.check_built(model, spec.seq_len)
    if isinstance(stream, ExampleStream) and not (
        execution.shard and among.size > 1
    ):  # a shard has no rows to leave out
        prepare(model, spec, stream)
    model.to(device).train()  # type: ignore[arg-type]  # its decorator hides the signature
    reading = _read(spec, model, stream)
    scorer = spread(Scorer(model, spec.objective, recall or teacher), among, shard=execution.shard)
    optimizer = optim.build(model, spec.optim, built.afresh)
    journal = Journal(spec, folder, attempt, execution, reporter)
    progress = journal.start(model, optimizer, among)
    progress["flops"] = progress["flops"] or reading
    step, earlier = progress["step"], progress["seconds"]
    position = spec.init.position
    log_every, evaluated_every = max(1, last // LINES), evaluate_every(spec, last)
    speed, memory = Speed(spec, device, among.size, live=recall is None), Keeper()

    with journal, Ahead(stream, position + step) as ahead:
        while True:  # last + 1 passes, so that the last evaluation and the last save take the same path as all others
            evaluation = None
            if ((step % evaluated_every == 0 and step > 0) or step == last) and not journal.again:
                evaluation = evaluate(scorer, spec, stream)
                if not math.isfinite(evaluation.metrics["val/loss"]):
                    journal.evidence(model, {})
                    raise Diverged(
                        f"{spec.run_id}: evaluation loss {evaluation.metrics['val/loss']} at step {step} of {last}."
                    )
                journal.line(step, progress["tokens"], evaluation.metrics)
            progress["step"], progress["seconds"] = step, earlier + time.monotonic() - began
            due = time.monotonic() - saved > execution.save_seconds and step < last
            asked = among.summed(should_stop(), journal.lost(step), due)
            stopping = bool(asked[0]) and step < journal.end
            if asked[1]:
                raise Lost(f"{spec.run_id} was taken over by a later attempt.")
            if step in journal.due or stopping or asked[2]:
                journal.save(model, optimizer, progress)
                saved = time.monotonic()
            journal.report(step)
            if stopping:
                journal.stop()
                raise Stopped(f"{spec.run_id} stopped at step {step} of {last}; the same call goes on from there.")
            if step == journal.end:
                break

            lr, started = optim.learning_rate(spec.optim, step, last), time.monotonic()
            batch = ahead.batch(position + step)
            update = train_step(scorer, optimizer, spec, batch, position + step, lr, execution)
            if not update.finite:
                journal.evidence(model, batch)
                raise Diverged(
                    f"{spec.run_id}: loss {update.loss}, gradient norm {update.grad_norm} at step {step} of {last}."
                )
            progress["tokens"] += update.tokens
            progress["flops"] += speed.count(position + step, update.tokens, time.monotonic() - started)
            step += 1
            memory.give_back()
            if step % log_every == 0 or step == last:
                parts = (
                    {f"train/{name}": value for name, value in update.parts.items()} if len(update.parts) > 1 else {}
                )
                journal.line(
                    step,
                    progress["tokens"],
                    {"train/loss": update.loss, **parts, "train/grad_norm": update.grad_norm, "train/lr": lr}
                    | speed.measured(),
                )
    if journal.again:
        journal.compare(model)
    else:
        assert evaluation is not None
        worth = teachers.measured(teacher, spec, stream) if teacher and teacher.models else None
        journal.finish(_last_files(spec, built, stream, evaluation, progress, speed, worth))


def evaluate_every(spec: RunSpec, last: int) -> int:
    """Steps from one evaluation to the next in a run of `last` steps, which is evaluated at its end in any case."""
    return max(1, last // EVALUATIONS) if isinstance(spec.data, Corpus) else last


def prepare(model: PreTrainedModel, spec: RunSpec, stream: ExampleStream) -> None:
    """Leave out of training, in place, the embedding rows that the data never names (weight decay would move them)."""
    if spec.optim.weight_decay == 0 and spec.trained == "all":
        restrict(model, stream.vocabulary())


def _read(spec: RunSpec, model: PreTrainedModel, stream: Stream) -> float:
    """What a linear probe reads before it is trained; in FLOPs."""
    if spec.trained != "probe":
        return 0.0
    assert isinstance(stream, ExampleStream)
    tokens = read(model, stream.examples(), spec.dtype)
    return tokens * spec.objective.flops_per_token(shape(spec.init.architecture()), tokens / spec.data.num_sequences)


def open_stream(spec: RunSpec, store: Store, cache: Cache) -> Stream:
    """The batches of a run; what was tokenised stays in the cache."""
    architecture, folder = spec.init.architecture(), store.root / "data"
    model = shape(architecture)
    if isinstance(architecture, Model) and model.model_type in OFFSET:  # another's configuration says where it begins
        tokenizers.check_positions(model, tokenizers.of(spec, folder), spec.seq_len)
    if isinstance(spec.data, Corpus):
        return CorpusStream(spec, folder)
    key = (spec.data.task, tokenizers.source(spec), architecture, spec.seq_len)
    rows = cache.remember(cache.data, key, lambda: tokenise(spec, tokenizers.of(spec, folder), spec.seq_len))
    return ExampleStream(spec, rows, segments=model.segments)


def _last_files(
    spec: RunSpec,
    built: Built,
    stream: Stream,
    evaluation: Evaluation,
    progress: dict[str, Any],
    speed: Speed,
    worth: dict[str, float] | None,
) -> dict[str, bytes]:
    result = {
        "run_id": spec.run_id,
        "metrics": evaluation.metrics,
        "notes": list(evaluation.notes),
        "steps": spec.total_steps,
        "tokens": progress["tokens"] - progress["before"],
        "tokens_seen": progress["tokens"],
        "flops": progress["flops"],
        "seconds": progress["seconds"],
        "speed": speed.overall(),
        "fresh": built.fresh,
        "redrawn": built.redrawn,
        "weights_sha256": checkpoint.weights_sha256(built.model),
        **stream.notes(),
        **({"teacher": worth} if worth else {}),
    }
    return {
        "predictions.parquet": to_parquet(evaluation.predictions),
        "result.json": json.dumps(result, indent=1, allow_nan=False).encode(),
    }


@contextlib.contextmanager
def _global_state(execution: Execution) -> Iterator[None]:
    """Set the process-wide state a run depends on; put it back afterwards, but for what `hold` has said once for all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(execution.threads)
    hold()
    try:
        with seeded(0):
            yield
    finally:
        torch.set_num_threads(threads)
        give_back()
