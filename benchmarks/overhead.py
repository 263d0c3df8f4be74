"""What a trial costs beside its own work: this engine's warm actors against Tune launching a TorchTrainer for each trial.

`python -m benchmarks.overhead [--trials 16]` runs the same short fine-tunings (two steps of a tiny BERT) both ways on one
local Ray, two at a time, and prints seconds per trial and their ratio. The other way is Ray's documented nesting with
transformers' `Trainer` inside (needs the `bench` extra).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.tiny import tiny_bert, toy_rows, write_task

STEPS, BATCH, LR = 2, 16, 5e-5


def ours(folder: Path, trials: int) -> tuple[float, float]:
    """Seconds per trial of the whole run, and once both actors are warm."""
    from rich.console import Console

    from plm import Store, finetune, steps
    from search_spaces.finetuning import learning_rates
    from search_spaces.seeds import seeds
    from sweeps.engine import tune
    from sweeps.engine.plan import plan
    from sweeps.engine.progress import Progress
    from sweeps.engine.schedule import Schedule
    from sweeps.engine.sweep import Curve, Sweep
    from sweeps.engine.worker import Outcome, Resources

    ends: list[float] = []

    class Timed(Progress):
        def ended(self, outcome: Outcome) -> None:
            assert outcome.status == "done", outcome
            ends.append(time.monotonic())
            super().ended(outcome)

    def run(*, lr: float, seed: int) -> Any:
        return finetune(
            str(folder / "task"),
            init=str(folder / "model"),
            seed=seed,
            duration=steps(STEPS),
            lr=lr,
            batch_size=BATCH,
            dtype="float32",
        )

    curve = Curve(axis="lr", position=float, label="learning rate", line="lr")
    sweep = Sweep(
        run,
        over={"lr": learning_rates(LR), "seed": seeds(trials)},
        baseline=lambda cell: cell,
        arms=("lr",),
        curve=curve,
    )
    store = Store.at(folder / "store")
    schedule = Schedule(plan(sweep, store), store=store)
    console = Console(quiet=True)
    began = time.monotonic()
    with Timed(schedule, store, dict.fromkeys(schedule.state, 1.0), 2, console) as progress:
        tune.run(schedule, store, Resources(), progress, lambda: None, max_concurrent=2)
    whole = time.monotonic() - began
    return whole / trials, (ends[-1] - ends[1]) / (trials - 2)


def nested(folder: Path, trials: int) -> float:
    """Seconds per trial of Ray's documented nesting."""
    import ray.train
    from ray import tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    def worker(config: dict[str, Any]) -> None:
        import ray.train as train
        from datasets import Dataset
        from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

        tokenizer = AutoTokenizer.from_pretrained(config["model"])
        data = Dataset.from_list(config["rows"]).map(lambda r: tokenizer(r["sentence"], truncation=True), batched=True)
        arguments = TrainingArguments(
            tempfile.mkdtemp(),
            max_steps=STEPS,
            per_device_train_batch_size=BATCH,
            seed=config["seed"],
            learning_rate=LR,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            save_strategy="no",
        )
        trainer = Trainer(
            AutoModelForSequenceClassification.from_pretrained(config["model"]),
            arguments,
            train_dataset=data,
            eval_dataset=data,
            processing_class=tokenizer,
        )
        trainer.train()
        train.report({"loss": trainer.evaluate()["eval_loss"]})

    def driver(config: dict[str, Any]) -> None:
        TorchTrainer(
            worker,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(num_workers=1),
            run_config=ray.train.RunConfig(
                name=f"trial-{tune.get_context().get_trial_id()}",
                storage_path=str(folder / "train"),
                callbacks=[TuneReportCallback()],
            ),
        ).fit()

    began = time.monotonic()
    results = tune.Tuner(
        tune.with_resources(driver, {"CPU": 0.01}),
        param_space={
            "seed": tune.grid_search(list(range(trials))),
            "model": str(folder / "model"),
            "rows": toy_rows(64),
        },
        tune_config=tune.TuneConfig(max_concurrent_trials=2),
        run_config=tune.RunConfig(name="nested", storage_path=str(folder / "tune"), verbose=0),
    ).fit()
    assert not results.errors, results.errors[0]
    return (time.monotonic() - began) / trials


def main() -> None:
    """Run both, one after the other, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=16)
    given = parser.parse_args()
    from sweeps.engine.tune import cluster

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_bert(folder / "model")
        write_task(folder / "task")
        with cluster(None):
            whole, warm = ours(folder, given.trials)
            print(
                f"this engine: {whole:.2f} s a trial ({warm:.2f} s once warm), {given.trials} trials, 2 at a time",
                flush=True,
            )
            other = nested(folder, given.trials)
    print(f"Tune launching a TorchTrainer: {other:.2f} s a trial")
    print(f"ratio: {other / whole:.1f} over all trials, {other / warm:.1f} once warm")


if __name__ == "__main__":
    main()
