"""The loop. One readable function trains any run, alone or under an engine, and leaves its folder behind.

What bears on the numbers is in the `RunSpec`; what is only about this execution (threads, device, which steps are kept)
is in `Execution`, and changes no result beyond rounding.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import platform
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from plm import checkpoint, optim
from plm.build import Built, Cache, build, seeded
from plm.data import tokenizer as tokenizers
from plm.data.collate import CorpusStream, ExampleStream, Stream, tokenise
from plm.data.corpus import Corpus
from plm.evaluate import Evaluation, evaluate
from plm.models import shape
from plm.objectives import total
from plm.predictions import to_parquet
from plm.rng import seed_of
from plm.spec import RunSpec
from plm.store import Attempt, Busy, Lost, RunFolder, Store, step_name
from plm.vocabulary import restrict

LINES, EVALUATIONS = 50, 8
"""How many lines of training metrics a run leaves, and how often a pretraining run is evaluated, about."""


class Diverged(Exception):
    """The loss left the real numbers."""


class Stopped(Exception):
    """Training was asked to stop; it has left a checkpoint to go on from."""


@runtime_checkable
class Reporter(Protocol):
    """Who wants to hear of progress: the seam between this library and an engine."""

    def report(self, step: int, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Called when metrics are logged and when a checkpoint has been kept."""
        ...


@dataclass(frozen=True)
class Execution:
    """How a run is executed: nothing here changes its numbers beyond rounding."""

    device: str = "cpu"
    threads: int = 1
    micro_batch: int | None = None
    """Sequences of one forward pass; None: the whole batch. (With dropout, the numbers do depend on it.)"""
    keep: tuple[int, ...] = ()
    """Steps whose weights are kept."""
    keep_weights: bool = False
    """Keep the final weights of a fine-tuning run too (those of pretraining are kept always)."""
    save_seconds: float = 60.0
    """How often the state is saved to resume from."""


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

    Raises:
        ValueError: what the spec names is not there or has changed.
        Busy: another process is training it.
        Diverged: the loss became infinite or NaN; the folder says at which step.
        Stopped: `should_stop()` was true; the same call goes on later.
        Lost: another process took the run over.
    """
    execution = execution or Execution()
    folder = Store.at(store).run(spec)
    if not folder.done:
        try:
            attempt = folder.claim(spec)
        except Busy:
            if not folder.done:
                raise
        else:
            _execute(spec, folder, attempt, execution, reporter, should_stop, cache or Cache())
    result = folder.result()
    return Result(spec.run_id, folder.path, result["metrics"], result["seconds"])


def _execute(
    spec: RunSpec,
    folder: RunFolder,
    attempt: Attempt,
    execution: Execution,
    reporter: Reporter | None,
    should_stop: Callable[[], bool],
    cache: Cache,
) -> None:
    """Run the loop under a claim, and leave a record of how it ended."""
    with attempt, _global_state(execution):
        try:
            _loop(spec, folder, attempt, execution, reporter, should_stop, cache)
        except (Stopped, Lost):
            raise
        except (KeyboardInterrupt, SystemExit):  # this process may live on (a notebook): let the claim go
            attempt.end("stopped")
            raise
        except Exception as error:
            outcome = "diverged" if isinstance(error, Diverged) else "failed"
            folder.put("error.txt", traceback.format_exc().encode())
            attempt.end(outcome, error=f"{type(error).__name__}: {error}")
            raise


def _loop(
    spec: RunSpec,
    folder: RunFolder,
    attempt: Attempt,
    execution: Execution,
    reporter: Reporter | None,
    should_stop: Callable[[], bool],
    cache: Cache,
) -> None:
    began = saved = time.monotonic()
    stream = open_stream(spec, folder.store, cache)
    built = build(spec, folder.store, cache)
    model = built.model
    if isinstance(stream, ExampleStream):
        prepare(model, spec, stream)
    model.to(torch.device(execution.device)).train()  # type: ignore[arg-type]  # its decorator hides the signature
    optimizer = optim.build(model, spec.optim)
    progress = checkpoint.resume(folder, model, optimizer) or {"step": 0, "tokens": 0, "flops": 0.0, "seconds": 0.0}
    earlier, step = progress["seconds"], progress["step"]
    last = spec.total_steps
    pretraining = isinstance(spec.data, Corpus)
    keep = {*execution.keep, *([last] if pretraining or execution.keep_weights else [])}
    log_every, evaluate_every = max(1, last // LINES), max(1, last // EVALUATIONS) if pretraining else last
    # The evaluation at the step that is gone on from is made again.
    lines = [
        line for line in folder.metrics() if line["step"] < step or (line["step"] == step and "val/loss" not in line)
    ]
    architecture = shape(spec.init.architecture())
    _note_environment(folder, execution)
    attempt.record["total"], attempt.record["from"] = last, step

    def publish(files: dict[str, bytes] | None = None) -> None:
        attempt.check()
        folder.put("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
        if files:
            folder.put_checkpoint(step, files)

    while True:  # last + 1 passes, so that the last evaluation and the last save take the same path as all others
        attempt.record["step"] = step
        if attempt.lost:
            attempt.check()
        evaluation = None
        if (step % evaluate_every == 0 and step > 0) or step == last:
            evaluation = evaluate(model, spec, stream)
            if not math.isfinite(evaluation.metrics["val/loss"]):
                publish()
                raise Diverged(
                    f"{spec.run_id}: evaluation loss {evaluation.metrics['val/loss']} at step {step} of {last}."
                )
            lines.append(_line(step, progress["tokens"], evaluation.metrics))
        progress["step"], progress["seconds"] = step, earlier + time.monotonic() - began
        stopping = step < last and should_stop()
        due = time.monotonic() - saved > execution.save_seconds and step < last
        if step in keep or stopping or due:
            publish(checkpoint.model_files(model, tokenizers.of(spec)) | checkpoint.progress_files(optimizer, progress))
            _prune(folder, keep)
            saved = time.monotonic()
        if reporter and lines and lines[-1]["step"] == step:
            kept = folder.path / "checkpoints" / step_name(step) if step in keep else None
            reporter.report(step, {k: v for k, v in lines[-1].items() if "/" in k}, kept)
        if stopping:
            attempt.end("stopped")
            raise Stopped(f"{spec.run_id} stopped at step {step} of {last}; the same call goes on from there.")
        if step == last:
            break

        lr = optim.learning_rate(spec.optim, step, last)
        loss, grad_norm, tokens = train_step(model, optimizer, spec, stream.batch(step), step, lr, execution)
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            publish()
            raise Diverged(f"{spec.run_id}: loss {loss}, gradient norm {grad_norm} at step {step} of {last}.")
        step += 1
        progress["tokens"] += tokens
        progress["flops"] += (
            3 * tokens * architecture.flops_per_token(tokens / spec.batch_size)
        )  # backward is twice forward
        if step % log_every == 0 or step == last:
            lines.append(
                _line(step, progress["tokens"], {"train/loss": loss, "train/grad_norm": grad_norm, "train/lr": lr})
            )

    assert evaluation is not None
    publish()
    attempt.finish(_last_files(spec, built, stream, evaluation, progress))
    _prune(folder, keep)


def prepare(model: PreTrainedModel, spec: RunSpec, stream: ExampleStream) -> None:
    """Leave out of training, in place, the embedding rows that the data never names (weight decay would move them)."""
    if spec.optim.weight_decay == 0:
        restrict(model, stream.vocabulary())


def train_step(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    spec: RunSpec,
    batch: dict[str, Tensor],
    step: int,
    lr: float,
    execution: Execution,
) -> tuple[float, float, int]:
    """One update; the loss (mean over scored predictions), the gradient norm before clipping, and the input tokens."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    tokens = int(batch["attention_mask"].sum())
    batch = {name: tensor.to(execution.device) for name, tensor in batch.items()}
    counts = spec.objective.counts(batch)
    size = len(batch["input_ids"])
    loss = 0.0
    with seeded(seed_of(spec.seeds.noise, "dropout", step)):  # stateless, so that a resumed run needs no generator
        for start in range(0, size, execution.micro_batch or size):
            part = {name: tensor[start : start + (execution.micro_batch or size)] for name, tensor in batch.items()}
            with torch.autocast(torch.device(execution.device).type, torch.bfloat16, enabled=spec.dtype == "bfloat16"):
                mean = total(spec.objective, spec.objective.losses(model, part), counts)
            mean.backward()
            loss += float(mean.detach())
    grad_norm = float(nn.utils.clip_grad_norm_(model.parameters(), spec.optim.clip))
    if math.isfinite(grad_norm):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, grad_norm, tokens


def open_stream(spec: RunSpec, store: Store, cache: Cache) -> Stream:
    """The batches of a run; what was tokenised stays in the cache."""
    if isinstance(spec.data, Corpus):
        return CorpusStream(spec, store.root / "data")
    key = (spec.data.task, tokenizers.source(spec), spec.init.architecture(), spec.seq_len)
    rows = cache.remember(cache.data, key, lambda: tokenise(spec, tokenizers.of(spec), spec.seq_len))
    return ExampleStream(spec, rows, segments=shape(spec.init.architecture()).segments)


def _prune(folder: RunFolder, keep: set[int]) -> None:
    """Older checkpoints: gone, or reduced to their weights if they are kept; the last two stay whole until the end.

    Two, because the newest may turn out to be damaged.
    """
    names = folder.checkpoints()
    if folder.done:  # with what a killed attempt left half-written
        names = folder.store.list(f"{folder.key}/checkpoints")
    for name in names if folder.done else names[:-2]:
        if int(name.removeprefix("step_")) not in keep:
            folder.drop_checkpoint(name)
            continue
        for file in (checkpoint.OPTIMIZER, checkpoint.PROGRESS):
            folder.drop_checkpoint(name, file)


def _line(step: int, tokens: int, metrics: dict[str, float]) -> dict[str, Any]:
    return {"step": step, "time": time.time(), "train/tokens": tokens, **metrics}


def _last_files(
    spec: RunSpec, built: Built, stream: Stream, evaluation: Evaluation, progress: dict[str, Any]
) -> dict[str, bytes]:
    result = {
        "run_id": spec.run_id,
        "metrics": evaluation.metrics,
        "notes": list(evaluation.notes),
        "steps": spec.total_steps,
        "tokens": progress["tokens"],
        "flops": progress["flops"],
        "seconds": progress["seconds"],
        "fresh": built.fresh,
        "redrawn": built.redrawn,
        "weights_sha256": checkpoint.weights_sha256(built.model),
        **stream.notes(),
    }
    return {
        "predictions.parquet": to_parquet(evaluation.predictions),
        "result.json": json.dumps(result, indent=1, allow_nan=False).encode(),
    }


def environment(execution: Execution) -> dict[str, Any]:
    """What an id cannot hold and bits depend on: device, threads, library versions."""
    device = torch.device(execution.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_model()
    versions = {
        p: metadata.version(p) for p in ("torch", "transformers", "tokenizers", "numpy", "plm-sweeps") if _installed(p)
    }
    return {
        "device": f"{device.type}: {name}",
        "threads": execution.threads,
        "micro_batch": execution.micro_batch,
        "python": platform.python_version(),
        "versions": versions,
        "commit": _commit(),
    }


@functools.lru_cache(maxsize=1)
def _commit() -> str | None:
    """The project's commit, where it runs from a checkout."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        git = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude", "*"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    return None


def _note_environment(folder: RunFolder, execution: Execution) -> None:
    """Write `environment.json`; a change of environment between the attempts of a run is added, never overwritten."""
    now = environment(execution)
    before = json.loads(folder.get("environment.json") or b"[]")
    if now not in before:
        folder.put("environment.json", json.dumps([*before, now], indent=1).encode())


def _installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@contextlib.contextmanager
def _global_state(execution: Execution) -> Iterator[None]:
    """Set the process-wide state a run depends on; put it back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(execution.threads)
    try:
        with seeded(0):
            yield
    finally:
        torch.set_num_threads(threads)
