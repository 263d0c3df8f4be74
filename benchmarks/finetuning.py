"""Fine-tuning throughput at equal score: `plm.train` against transformers' `Trainer`.

`python -m benchmarks.finetuning --model DIR --task DIR [--size 1000] [--rounds 1]` fine-tunes the same model on the same
examples three ways in turn, and prints training examples per second, the score on the evaluation split and the ratios:
as transformers' GLUE example runs it (padded to 128 tokens, fp32); the same `Trainer` at its best (dynamic padding,
similar lengths together, bf16, fused AdamW); and `plm.train` (needs the `bench` extra).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

EPOCHS, BATCH, LR, MAX_LENGTH = 3, 32, 5e-5, 128


def ours(model: str, task: str, size: int, seed: int, threads: int) -> tuple[float, float]:
    """Training examples per second, and the score."""
    from plm import Execution, epochs, finetune, train

    spec = finetune(
        task, init=model, size=size, seed=seed, lr=LR, batch_size=BATCH, duration=epochs(EPOCHS), seq_len=MAX_LENGTH
    )
    marks: dict[int, float] = {}

    def stamp() -> bool:  # called before every step, and after the last one before the final evaluation is counted
        marks[len(marks)] = time.monotonic()
        return False

    with tempfile.TemporaryDirectory() as store:
        result = train(spec, store=store, execution=Execution(threads=threads), should_stop=stamp)
    seconds = (marks[spec.total_steps - 1] - marks[0]) * spec.total_steps / (spec.total_steps - 1)
    return EPOCHS * size / seconds, result.metrics["val/score"]


def trainer(model: str, task: str, size: int, seed: int, best: bool) -> tuple[float, float]:
    """Training examples per second, and the accuracy, of transformers' Trainer."""
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        default_data_collator,
    )

    from plm.data.examples import Examples
    from plm.tasks import load, resolve

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows, held_out = load(resolve(task))
    chosen = Examples(resolve(task), size, seed).select(rows.labels)  # the very examples that plm.train sees

    def dataset(split: Any, indices: Any) -> Dataset:
        texts = [split.texts[i] for i in indices]
        encoded = tokenizer(
            *map(list, zip(*texts, strict=True)),
            truncation=True,
            max_length=MAX_LENGTH,
            padding=False if best else "max_length",
        )
        return Dataset.from_dict({**encoded, "label": [int(split.labels[i]) for i in indices]})

    settings: dict[str, Any] = (
        {"bf16": True, "train_sampling_strategy": "group_by_length", "optim": "adamw_torch_fused"} if best else {}
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            learning_rate=LR,
            seed=seed,
            per_device_eval_batch_size=64,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            **settings,
        )
        run = Trainer(
            AutoModelForSequenceClassification.from_pretrained(model, num_labels=resolve(task).num_labels),
            arguments,
            train_dataset=dataset(rows, chosen),
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer) if best else default_data_collator,
        )
        began = time.monotonic()
        run.train()
        seconds = time.monotonic() - began
        answer = run.predict(
            dataset(held_out, range(len(held_out.labels)))
        )  # grouped by length, so in an order of its own
    return EPOCHS * size / seconds, float(np.mean(answer.predictions.argmax(1) == answer.label_ids))


def main() -> None:
    """Run the three in turn, round after round, and print medians of the paired ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    import torch

    from sweeps.engine.worker import quiet

    quiet()
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    model, task = str(Path(given.model).resolve()), str(Path(given.task).resolve())
    found: dict[str, list[tuple[float, float]]] = {"example": [], "best": [], "plm": []}
    for seed in range(given.rounds):
        found["plm"].append(ours(model, task, given.size, seed, threads))
        found["best"].append(trainer(model, task, given.size, seed, best=True))
        found["example"].append(trainer(model, task, given.size, seed, best=False))
        for name, answers in found.items():
            print(f"round {seed}: {name:<8} {answers[-1][0]:8.1f} examples/s   score {answers[-1][1]:.3f}", flush=True)
    for other in ("example", "best"):
        ratios = [a[0] / b[0] for a, b in zip(found["plm"], found[other], strict=True)]
        print(f"ratio plm / Trainer ({other}): {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
