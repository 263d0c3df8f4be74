"""What does it cost to share weights between layers, and to make embeddings narrow?

Pretrain an ALBERT for each kind of sharing and each width of the embeddings, with masked language modelling and sentence
order, and fine-tune it on every task. The widest embeddings are as wide as the layers, so that nothing is factorised.

Source: Lan et al. 2020, tables 3 and 4.   Hypothesis: sharing the feed-forward costs most, sharing the attention little;
narrow embeddings cost little where layers are shared.
What differs: the paper's base model (12 layers of 768, widths 64 to 768) reads 16 GB of text for 125,000 steps; here 4
layers of 128 read generated stories. Masks are of single tokens, not of n-grams, the optimizer is AdamW, not LAMB, and the
tasks are two of the generated language; real text and tasks: `text=path/to/text task=sst2,cola size=all`.
A seed is one replication, pretraining and fine-tuning: error bars cover both. Cost and result: see --dry-run and --table.
"""

from __future__ import annotations

from plm import RunSpec, finetune, pretrain
from plm.duration import epochs, parse
from plm.objectives.combined import Sum
from plm.objectives.mlm import MaskedLM
from plm.objectives.sop import SentenceOrder
from search_spaces.architectures import architecture, embedding_sizes, models, sharings
from search_spaces.data_sizes import data_sizes
from search_spaces.finetuning import durations, tasks
from search_spaces.seeds import seeds
from search_spaces.texts import reading, texts
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Pivot, Sweep


def run(
    *, text: str, model: str, duration: str, embedding_size: int, sharing: str, task: str, size: int, seed: int
) -> RunSpec:
    """Fine-tune an ALBERT that was pretrained for it."""
    vocabulary, seq_len = reading(text)
    pretrained = pretrain(
        architecture(model, text, embedding_size=embedding_size, sharing=sharing),
        text,
        vocabulary=vocabulary,
        objective=Sum((MaskedLM(0.3), SentenceOrder())),
        duration=parse(duration),
        seed=seed, lr=1e-3, warmup_steps=200, batch_size=16, seq_len=seq_len, dtype="float32",
    )  # fmt: skip
    return finetune(task, init=pretrained.final, size=size, seed=seed, lr=5e-4, duration=epochs(5), dtype="float32")


def parameters(pretrained: RunSpec) -> int:
    """Weights of the body, heads aside."""
    from plm.build import num_parameters

    return num_parameters(None, pretrained.init.architecture())


sweep = Sweep(
    run,
    over={
        "text": texts("world:stories"),
        "model": models("albert-4x128"),
        "duration": durations("steps:4000"),
        "embedding_size": embedding_sizes(128, 32),
        "sharing": sharings("all", "attention", "feed_forward", "none"),
        "task": tasks("sentiment", "acceptability"),
        "size": data_sizes(1000),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"sharing": "none"},
    arms=("sharing",),
    pivot=Pivot(
        rows=("embedding_size", "sharing"),
        facts={"parameters": parameters},
        metrics={"MLM nats": "val/mlm", "SOP accuracy": "val/sop_accuracy"},
        against="parameters",
    ),
)

if __name__ == "__main__":
    launch(sweep)
