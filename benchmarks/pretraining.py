"""Pretraining throughput at equal loss: `plm.train` against transformers' `Trainer`.

`python -m benchmarks.pretraining --text FOLDER [--steps 60] [--rounds 1]` pretrains the same BERT (4 layers, width 256, a
vocabulary of 8,192 trained on the text) on the same blocks of 128 tokens three ways in turn, and prints tokens per
second, the validation loss under the same masks, and the ratios: as transformers' masked-LM example runs it (fp32), the
same `Trainer` at its best (bf16, fused AdamW), and `plm.train`. Then what a batch costs beside a step, and for how long a
checkpoint keeps training waiting (needs the `bench` extra).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

BATCH, LENGTH, LR, VOCABULARY = 32, 128, 5e-4, 8192
SAVE_EVERY = 6


def spec_of(text: str, steps: int, seed: int) -> Any:
    """The run that all three are compared on."""
    import plm

    bert = plm.architecture("bert-mini", vocab_size=VOCABULARY, max_position_embeddings=LENGTH, dropout=0.1)
    return plm.pretrain(
        bert,
        text,
        vocabulary=f"wordpiece:{VOCABULARY}",
        duration=plm.steps(steps),
        lr=LR,
        batch_size=BATCH,
        seq_len=LENGTH,
        seed=seed,
    )


def ours(spec: Any, store: Path, threads: int) -> tuple[float, float]:
    """Tokens per second, and the validation loss."""
    from plm import Execution, train

    result = train(spec, store=store, execution=Execution(threads=threads, save_seconds=1e9))
    speed = json.loads((result.path / "result.json").read_text())["speed"]
    return speed["speed/tokens_per_second"], result.metrics["val/loss"]


def trainer(spec: Any, store: Path, best: bool) -> tuple[float, float]:
    """Tokens per second, and the validation loss, of transformers' Trainer on the same blocks."""
    from transformers import (
        AutoModelForMaskedLM,
        DataCollatorForLanguageModeling,
        PreTrainedTokenizerFast,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from plm.build import Cache, build, seeded
    from plm.data import tokenizer as tokenizers
    from plm.data.corpus import blocks
    from plm.evaluate import evaluate
    from plm.parallel import Scorer
    from plm.store import Store
    from plm.train import open_stream

    cache = Cache()
    stream = open_stream(spec, Store.at(store), cache)
    model = build(spec, Store.at(store), cache).model
    assert isinstance(model, type(AutoModelForMaskedLM.from_config(model.config)))
    rows = blocks(spec.data, "train", spec.seq_len, store / "data")
    names = {"mask_token": "[MASK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizers.of(spec, store / "data"), **names)
    chosen = np.random.default_rng(spec.seeds.order).permutation(len(rows))[: spec.total_steps * BATCH]
    taken = [row.tolist() for row in rows[chosen]]
    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(time.monotonic())

    settings: dict[str, Any] = {"bf16": True, "optim": "adamw_torch_fused"} if best else {"optim": "adamw_torch"}
    with tempfile.TemporaryDirectory() as folder, seeded(0):
        arguments = TrainingArguments(
            folder,
            max_steps=spec.total_steps,
            per_device_train_batch_size=BATCH,
            learning_rate=LR,
            weight_decay=spec.optim.weight_decay,
            seed=spec.seeds.order,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            **settings,
        )
        Trainer(
            model,
            arguments,
            train_dataset=[{"input_ids": row} for row in taken],  # type: ignore[arg-type]
            processing_class=tokenizer,
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
            callbacks=[Clock()],
        ).train()
    seconds = (marks[-1] - marks[0]) / (len(marks) - 1)
    return BATCH * LENGTH / seconds, evaluate(Scorer(model, spec.objective), spec, stream).metrics["val/loss"]


def pipeline(spec: Any, store: Path, step_seconds: float) -> float:
    """Seconds that making a batch takes, as a share of a step's."""
    from plm.build import Cache
    from plm.store import Store
    from plm.train import open_stream

    stream = open_stream(spec, Store.at(store), Cache())
    stream.batch(0)
    began = time.monotonic()
    for step in range(1, 51):
        stream.batch(step)
    return (time.monotonic() - began) / 50 / step_seconds


def stall(spec: Any, store: Path, threads: int) -> float:
    """How much longer a step takes that writes a checkpoint, in steps: the median over checkpoints."""
    from plm import Execution, train
    from plm.train import evaluate_every

    marks: list[float] = []

    def stamp() -> bool:  # called before every step
        marks.append(time.monotonic())
        return False

    keep = tuple(range(SAVE_EVERY, spec.total_steps, SAVE_EVERY))
    train(spec, store=store, execution=Execution(threads=threads, keep=keep, save_seconds=1e9), should_stop=stamp)
    took = [after - before for before, after in pairwise(marks)]
    # Between two stamps lie a save, a step, and the evaluation of what the step left.
    evaluated = {step - 1 for step in range(0, spec.total_steps, evaluate_every(spec, spec.total_steps))}
    plain = statistics.median(
        t for step, t in enumerate(took) if step not in {*keep, *evaluated} and step - 1 not in keep
    )
    # What is written beside the training slows the step after it too.
    extra = [took[s] + took[s + 1] - 2 * plain for s in keep if not {s, s + 1} & evaluated]
    return statistics.median(extra) / plain


def main() -> None:
    """Run the three in turn, round after round, and print medians of the paired ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    import torch

    from sweeps.engine.worker import quiet

    quiet()
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    text = str(Path(given.text).resolve())
    found: dict[str, list[tuple[float, float]]] = {"example": [], "best": [], "plm": []}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        for seed in range(given.rounds):
            spec = spec_of(text, given.steps, seed)
            found["plm"].append(ours(spec, store, threads))
            found["best"].append(trainer(spec, store, best=True))
            found["example"].append(trainer(spec, store, best=False))
            for name, answers in found.items():
                print(
                    f"round {seed}: {name:<8} {answers[-1][0]:8.0f} tokens/s   val/loss {answers[-1][1]:.3f}",
                    flush=True,
                )
        for other in ("example", "best"):
            ratios = [a[0] / b[0] for a, b in zip(found["plm"], found[other], strict=True)]
            print(f"ratio plm / Trainer ({other}): {statistics.median(ratios):.2f}")
        seconds = BATCH * LENGTH / found["plm"][-1][0]
        print(f"a batch takes {pipeline(spec, store, seconds):.2%} of a step")
        print(f"a checkpoint keeps training waiting for {stall(spec, store / 'stall', threads):.2f} steps (median)")


if __name__ == "__main__":
    main()
