"""What a run leaves while it trains: metrics, checkpoints, evidence, and a record of how it ended.

All processes of a group tell the journal the same things; the first one writes.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from transformers import PreTrainedModel

from plm import checkpoint
from plm.claim import Attempt
from plm.data import tokenizer as tokenizers
from plm.data.corpus import Corpus
from plm.environment import note
from plm.inits.resume import Resume
from plm.parallel import Group, group
from plm.spec import RunSpec
from plm.store import RunFolder, step_name

if TYPE_CHECKING:
    from plm.train import Execution, Reporter


class Journal:
    """What a run leaves while it trains. All processes of a group tell it; the first one writes."""

    def __init__(
        self,
        spec: RunSpec,
        folder: RunFolder,
        attempt: Attempt | None,
        execution: Execution,
        reporter: Reporter | None,
    ) -> None:
        self._spec, self._folder, self._attempt, self._execution = spec, folder, attempt, execution
        self._reporter, self._reported = reporter, 0
        self._writer = checkpoint.Writer()
        self._written: list[int] = []
        self._lines: list[dict[str, Any]] = []
        last = spec.total_steps
        self.again = group().told(folder.done)
        """Whether the run was finished before and only lacks checkpoints."""
        own = isinstance(spec.data, Corpus) or execution.keep_weights
        self._there = _kept(folder) if self.again else set()
        self._lacking = folder.lacks(execution.keep, execution.keep_state) if self.again else ()
        before = folder.attempts()
        whole = {step for step in self._there if folder.holds(step_name(step), checkpoint.OPTIMIZER)}
        self._keep_state = {*execution.keep_state, *_asked(before, "keep_state"), *whole}
        self._keep = {*execution.keep, *self._keep_state, *([last] if own else []), *_asked(before, "keep")}
        sound = {*self._there, last} - {*self._lacking}
        self.end = min((s for s in sound if s >= max(self._lacking, default=last)), default=last)
        """The step to stop at: where the weights can be compared with those of the first time."""
        self.due = set(self._lacking) if self.again else self._keep
        """The steps whose checkpoints are to be written."""

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with contextlib.suppress(Exception) if kind else contextlib.nullcontext():
            self._writer.wait()

    def start(self, model: PreTrainedModel, optimizer: torch.optim.Optimizer, among: Group) -> dict[str, Any]:
        """Go on from the newest whole checkpoint, if there is one; the counters.

        `tokens` says where in the data the run is, those of a trunk that it goes on from (`before`) among them; `flops` and
        `seconds` are the run's own.
        """
        name = among.told(checkpoint.newest_whole(self._folder, min(self._lacking, default=None)))
        progress = {"step": 0, "tokens": 0, "before": 0, "flops": 0.0, "seconds": 0.0}
        if name:
            progress |= checkpoint.restore(self._folder.checkpoint(name), model, optimizer)
        elif isinstance(self._spec.init, Resume):
            held = self._folder.store.checkpoint(self._spec.init.origin)
            checkpoint.restore_optimizer(held, optimizer)
            progress["before"] = json.loads((held / checkpoint.PROGRESS).read_text())["tokens"]
            progress["tokens"] = progress["before"]
        step = progress["step"]
        # The evaluation at the step that is gone on from is made again.
        self._lines = [
            line
            for line in self._folder.metrics()
            if line["step"] < step or (line["step"] == step and "val/loss" not in line)
        ]
        self._reported = len(self._lines)
        if self._attempt:
            if not self.again:
                note(self._folder, self._execution, among.size)
            kept = {"keep": sorted(self._keep), "keep_state": sorted(self._keep_state)}
            self._attempt.note(**{"total": self.end, "from": step}, **kept)
        return progress

    def line(self, step: int, tokens: int, metrics: dict[str, float]) -> None:
        """Add to `metrics.jsonl`, which is written with the next checkpoint."""
        self._lines.append({"step": step, "time": time.time(), "train/tokens": tokens, **metrics})

    def lost(self, step: int) -> bool:
        """Note where training is; whether another process has taken it over."""
        if self._attempt is None:
            return False
        self._attempt.record["step"] = step
        return self._attempt.lost

    def publish(self, step: int = 0, files: Callable[[], dict[str, bytes]] | None = None) -> None:
        """Write the metrics, and a checkpoint if there is one."""
        if self._attempt is None:
            return
        self._attempt.check()
        if not self.again:
            self._folder.put("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in self._lines).encode())
        if files:
            self._folder.put_checkpoint(step, files())
            self._prune(upto=step)
            self._written.append(step)

    def save(self, model: PreTrainedModel, optimizer: torch.optim.Optimizer, progress: dict[str, Any]) -> None:
        """Copy the state of training, and write it beside what follows."""
        tensors, state = checkpoint.weights(model), checkpoint.optimizer_state(optimizer)
        if self._attempt is None:
            return
        self._writer.wait()  # two copies at a time would be one too many
        if self.again:  # before anything that was there is written over
            self._check_same(progress["step"], checkpoint.sha256_of(tensors))
        tensors, state, progress = checkpoint.snapshot(tensors), checkpoint.snapshot(state), dict(progress)

        def files() -> dict[str, bytes]:
            named = checkpoint.model_files(model, tensors, tokenizers.of(self._spec, self._folder.store.root / "data"))
            return named | checkpoint.progress_files(state, progress)

        self._writer.submit(lambda: self.publish(progress["step"], files))

    def report(self, step: int) -> None:
        """Tell the reporter what is new."""
        if self._reporter is None or self._attempt is None:
            return
        kept = [s for s in self._written if s in self._keep]
        self._written = [s for s in self._written if s not in kept]
        for written in kept:
            self._reporter.report(written, {}, self._folder.checkpoint(step_name(written)))
        for line in self._lines[self._reported :]:
            if line["step"] == step:
                self._reporter.report(step, {k: v for k, v in line.items() if "/" in k}, None)
        self._reported = len(self._lines)

    def stop(self) -> None:
        """Leave a record of having been asked to stop."""
        self._writer.wait()
        if self._attempt:
            self._attempt.end("stopped")

    def evidence(self, model: PreTrainedModel, batch: dict[str, Tensor]) -> None:
        """Keep the weights that gave a loss which is not a number, and the batch; there is none in evaluation."""
        tensors = checkpoint.weights(model)
        self._writer.wait()
        if self._attempt:
            if batch:
                self._folder.put("evidence/batch.safetensors", save_tensors(batch))
            self._folder.put(f"evidence/{checkpoint.MODEL}", save_tensors(tensors, metadata={"format": "pt"}))
            self.publish()

    def finish(self, files: dict[str, bytes]) -> None:
        """Write the last files and close the run."""
        self._writer.wait()
        if self._attempt:
            self.publish()
            self._attempt.finish(files)
            self._prune()
            self.report(self.end)

    def compare(self, model: PreTrainedModel) -> None:
        """Close a repeated training.

        Raises:
            ValueError: it did not come by the weights of the first time; what it kept is removed.
        """
        self._writer.wait()
        found = checkpoint.weights_sha256(model)
        if self._attempt is None:
            return
        self._check_same(self.end, found)
        self._attempt.end("repeated")
        self._prune()

    def _check_same(self, step: int, found: str) -> None:
        """Compare a repetition's weights with those of the first time."""
        held = self._folder.get(f"checkpoints/{step_name(step)}/{checkpoint.MODEL}")
        if step in self._there and held is not None:
            before = checkpoint.sha256_of(load_tensors(held))
        elif step == self._spec.total_steps:
            before = self._folder.result()["weights_sha256"]
        else:
            return
        if found != before:
            for new in {*self._lacking} - self._there:
                self._folder.drop_checkpoint(step_name(new))
            raise ValueError(
                f"{self._spec.run_id} was trained again for its steps {list(self._lacking)}, and came by other weights "
                f"at step {step} than the first time: the environment differs from the one in environment.json. "
                "Repeat it where it was trained, or remove the folder to run it anew."
            )

    def _prune(self, *, upto: int | None = None) -> None:
        """Older checkpoints: gone, or reduced to their weights if they are kept.

        Args:
            upto: The step just written; the last two that training can go on from stay whole. Two, because the newest
                may turn out to be damaged. None: the run has ended.
        """
        if upto is None:  # with what a killed attempt left half-written
            names, spared = self._folder.store.list(f"{self._folder.key}/checkpoints"), set()
        else:
            names = [n for n in self._folder.checkpoints() if int(n.removeprefix("step_")) <= upto]
            spared = {n for n in names if self._folder.holds(n, checkpoint.OPTIMIZER)}
            spared = set(sorted(spared)[-2:])
        _reduce(self._folder, [n for n in names if n not in spared], self._keep, self._keep_state)


def tidy(folder: RunFolder) -> None:
    """Finish what a process that was killed between `DONE` and its last deletions left undone."""
    last = folder.last_attempt()
    if last is not None and last["outcome"] in ("done", "repeated") and "keep_state" in last:
        _reduce(folder, folder.store.list(f"{folder.key}/checkpoints"), set(last["keep"]), set(last["keep_state"]))


def _reduce(folder: RunFolder, names: list[str], keep: set[int], whole: set[int]) -> None:
    """Of some checkpoints drop those that nobody keeps, and of the others what training would go on from."""
    for name in names:
        step = int(name.removeprefix("step_"))
        with contextlib.suppress(FileNotFoundError):  # another process is at it too
            if step not in keep:
                folder.drop_checkpoint(name)
            elif step not in whole:
                for file in (checkpoint.OPTIMIZER, checkpoint.PROGRESS):
                    folder.drop_checkpoint(name, file)


def _asked(attempts: list[dict[str, Any]], what: str) -> set[int]:
    """The steps that earlier executions were asked to keep."""
    return {step for attempt in attempts for step in attempt.get(what, ())}


def _kept(folder: RunFolder) -> set[int]:
    """The steps that a finished run keeps; a repetition that was stopped has left others."""
    return set(next(a["keep"] for a in reversed(folder.attempts()) if a["outcome"] in ("done", "repeated")))
