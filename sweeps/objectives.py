"""What should a model learn to predict in pretraining?

Two comparisons. Beside masked language modelling (BERT): nothing, next sentence, sentence order; a model with a head for
pairs is also asked both questions as it is. In its place (ELECTRA's encoder): replaced tokens for masks (Replace MLM), a yes
or no at those (ELECTRA 15%), prediction at all tokens, a yes or no at all (ELECTRA), each for as many steps as cost what
the baseline's cost, the generator and the heads included.

Source: Lan et al. 2020, table 5; Clark et al. 2020, table 5.   Hypothesis: next sentence is too easy to teach order (the
paper's model answers 52% of the order questions right); ELECTRA gains most by learning from all tokens.
What differs: 4 layers of 128 and generated stories for the papers' base models and real text. Without a sentence objective
a sequence is packed text, not two segments, hence more tokens. Real text and tasks: `text=path task=sst2,cola size=all`.
A seed is one replication, pretraining and fine-tuning: error bars cover both. Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from dataclasses import replace

from plm import Load, RunSpec, finetune, pretrain, steps
from plm.duration import epochs, parse
from search_spaces import objectives as space
from search_spaces.architectures import architecture, models
from search_spaces.finetuning import durations, tasks
from search_spaces.seeds import seeds
from search_spaces.texts import reading, texts
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Pivot, Sweep

RATE = 0.15


def run(*, text: str, model: str, duration: str, objective: str, task: str, size: int, seed: int) -> RunSpec | None:
    """Fine-tune a model that was pretrained so, or put a question to it as it is."""
    if objective not in (space.BESIDE if model.startswith("bert") else space.INSTEAD):
        return None
    (vocabulary, seq_len), built = reading(text), architecture(model, text)
    chosen, baseline = (space.objective(name, RATE) for name in (objective, space.BASELINE))
    pretrained = pretrain(
        built, text, vocabulary=vocabulary, objective=baseline, duration=parse(duration), seed=seed, lr=1e-3,
        warmup_steps=200, batch_size=16, seq_len=seq_len, dtype="float32",
    )  # fmt: skip
    pretrained = space.at_equal_compute(chosen, pretrained)
    if task in space.INTRINSIC:
        return asked_as_it_is(pretrained, task) if chosen.pairs else None
    return finetune(task, init=pretrained.final, size=size, seed=seed, lr=5e-4, duration=epochs(5), dtype="float32")


def asked_as_it_is(pretrained: RunSpec, task: str) -> RunSpec:
    """The pretraining itself if that was its question; else one update on the question, at a rate that moves no weight."""
    question = space.objective(f"mlm+{task}", RATE)
    if question == pretrained.objective:
        return pretrained
    still = replace(pretrained.optim, lr=1e-30, weight_decay=0.0, warmup_steps=0)
    return replace(pretrained, objective=question, init=Load(pretrained.final), duration=steps(1), optim=still)


sweep = Sweep(
    run,
    over={
        "text": texts("world:stories"),
        "model": models("bert-4x128", "electra-4x128"),
        "duration": durations("steps:4000"),
        "objective": space.objectives(*dict.fromkeys((*space.BESIDE, *space.INSTEAD))),
        "task": tasks("sentiment", "acceptability", *space.INTRINSIC),
        "size": space.sizes(1000),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"objective": space.BASELINE},
    arms=("objective",),
    pivot=Pivot(
        rows=("objective",),
        facts={"steps": lambda pretrained: pretrained.total_steps, "FLOPs": space.training_flops},
        metrics={"MLM accuracy": "val/mlm_accuracy", "RTD recall": "val/rtd_recall"},
    ),
)

if __name__ == "__main__":
    launch(sweep)
