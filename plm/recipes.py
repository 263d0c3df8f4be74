"""Spell a run out: functions that turn what an experimenter decides into a `RunSpec`.

`pretrain` and `finetune` return values; `plm.train` executes one. Models that have a name here are pretraining
runs of our own: naming one names its final checkpoint, whether or not it has been trained yet.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from plm import registry
from plm.data.examples import Examples
from plm.duration import Duration, epochs, steps
from plm.external import external
from plm.inits import Init
from plm.inits.load import Load
from plm.inits.scratch import Scratch
from plm.models import OFFSET, Model, Shape, shape
from plm.objectives import Objective
from plm.objectives.classify import Classify
from plm.objectives.mlm import MaskedLM
from plm.outline import check_one_list
from plm.spec import AdamW, Checkpoint, External, RunSpec, Seeds, Source
from plm.tasks import Task, resolve

if TYPE_CHECKING:
    from plm.data.corpus import Corpus
    from plm.data.sources import Text
    from plm.data.trained import Trained


def finetune(
    task: str | Task,
    *,
    init: Init | Source | str,
    size: int | None = None,
    seed: int = 0,
    lr: float = 5e-5,
    batch_size: int = 16,
    duration: Duration | None = None,
    seq_len: int = 128,
    dtype: str | None = None,
    stratified: bool = False,
    trained: str = "all",
    redrawn_lr: float = 1.0,
) -> RunSpec:
    """Fine-tune a model on a task: AdamW without weight decay, rate falling linearly to zero (Tamkin et al. 2020).

    Args:
        task: A registered name, a hub id, a local path, or a `Task`.
        init: Starting weights; a checkpoint, or a model by name or path, stands for its weights as they are.
        size: Training examples; None: all. The first 500 of a seed are among its first 5,000.
        seed: Of the examples, the head, the data order and dropout together.
        seq_len: Longest sequence; never longer than the model can read.
        dtype: Of the computation. None: bfloat16; of a frozen body float32, because what tells two texts apart at a layer
            may be less than bfloat16 rounds away, and nothing learns to make it larger.
        trained: `all`; or, of a body that is frozen and reads without dropout, `probe`: a linear classifier of the
            standardised vector of the first token (a decoder's last; see `plm.frozen`); or `head`, as in the paper: their
            probes are `init=plm.drop(...)` of the upper layers, 40 epochs at `lr=2e-5`; the pretrained pooler stays on
            top, frozen, and their code leaves dropout on. A pooler that the checkpoint lacks is part of the head.
        redrawn_lr: Times `lr`: the rate of what `plm.reinit` drew afresh, all parameters of its layers (5 in their
            ablation; in their script it came out as 2, and the last layer was not trained at all). Where no weight is
            both redrawn and trained it is 1, so that baselines are shared.

    Raises:
        ValueError: an unknown task or model, or more examples than there are; a model whose layers are not one list; a
            `redrawn_lr` for an init that redraws nothing and is no plain model.
    """
    task = resolve(task)
    start = init if isinstance(init, Init) else Load(model(init))
    if isinstance(start, Load) or trained != "all":
        redrawn_lr = 1.0
    built = shape(start.architecture())
    check_one_list(built.unlisted)
    seq_len = min(seq_len, built.max_seq_len)
    return RunSpec(
        objective=Classify(task.num_labels),
        init=start,
        data=Examples(task, size, seed, stratified),
        optim=AdamW(lr=lr, weight_decay=0.0, redrawn_lr=redrawn_lr),
        duration=duration or epochs(3),
        batch_size=batch_size,
        seq_len=seq_len,
        dtype=dtype or ("bfloat16" if trained == "all" else "float32"),
        seeds=Seeds(fresh=seed, order=seed, noise=seed),
        trained=trained,
    )


def pretrain(
    start: Model | Source | str,
    text: str | Text,
    *,
    objective: Objective | None = None,
    duration: Duration,
    vocabulary: str | External | Trained | None = None,
    seed: int = 0,
    lr: float = 1e-4,
    warmup_steps: int = 0,
    schedule: str = "linear",
    weight_decay: float = 0.01,
    batch_size: int = 32,
    seq_len: int = 128,
    dtype: str = "bfloat16",
    store: str | None = None,
) -> RunSpec:
    """Pretrain a model, from scratch or from where another pretraining ended.

    Args:
        start: An architecture, whose weights are drawn; or weights: a checkpoint, or a model by name, path or hub id.
        objective: What is minimised; None: masked language modelling.
        text: `world` (the generated language; also `world:stories`, `world:field`), a file, a folder with train and
            validation files, a hub id, several of them joined by `+`, or a value such as a mixture.
        vocabulary: A tokenizer to train on the text (`wordpiece:8192`; see `plm.data.sources.tokenizer`), or the model (by
            path or hub id) whose tokenizer reads it; None for `world`, and for weights, which bring their own.
        schedule: `linear`, `cosine`, or `constant`, which can be cooled down from any step (`RunSpec.annealed`).
        store: Where the text is tokenised now, to count the steps of an epoch; needed for a duration in epochs only.

    Raises:
        ValueError: no such folder or model; the model's vocabulary is smaller than the tokenizer's, or it reads shorter
            sequences; weights with another vocabulary than theirs; a duration in epochs without a store.
    """
    from plm.data.sources import corpus

    init: Init = Scratch(start) if isinstance(start, Model) else Load(model(start))
    if isinstance(init, Load):
        vocabulary = _vocabulary(init.origin, vocabulary)
    data, built = corpus(text, vocabulary), shape(init.architecture())
    objective = (objective or MaskedLM()).for_family(built.model_type)
    _check_reads(built, data, seq_len)
    objective.check(built.model_type)
    objective.check_text(built, data, seq_len)
    if duration.unit == "epochs":
        duration = _in_steps(duration, data, objective, batch_size, seq_len, store)
    return RunSpec(
        objective=objective,
        init=init,
        data=data,
        optim=AdamW(lr=lr, weight_decay=weight_decay, warmup_steps=warmup_steps, schedule=schedule),
        duration=duration,
        batch_size=batch_size,
        seq_len=seq_len,
        dtype=dtype,
        seeds=Seeds(fresh=seed, order=seed, noise=seed),
    )


def _vocabulary(weights: Source, given: object) -> External | Trained | None:
    """What weights are used to read with: a token's row means nothing under another number."""
    from plm.data import tokenizer

    if given is not None:
        raise ValueError(
            "vocabulary: weights read with the one that they were trained with. Leave it away, or start from an architecture."
        )
    theirs = tokenizer.source(weights.run) if isinstance(weights, Checkpoint) else weights
    return theirs if isinstance(theirs, External) else theirs.vocabulary


def _check_reads(model: Shape, data: Corpus, seq_len: int) -> None:
    """Refuse a model that cannot read a corpus."""
    from plm.data.tokenizer import check_positions
    from plm.data.trained import Trained

    if data.vocab_size > model.vocab_size:
        raise ValueError(
            f"the tokenizer has {data.vocab_size:,} tokens and the model a vocabulary of "
            f"{model.vocab_size:,}: raise vocab_size."
        )
    if seq_len > model.max_seq_len:
        raise ValueError(
            f"seq_len {seq_len}: the model reads {model.max_seq_len} tokens at most. Shorten it, or raise "
            "max_position_embeddings."
        )
    if model.model_type in OFFSET and not isinstance(data.vocabulary, Trained):  # of ours, padding comes first
        check_positions(model, data.tokenizer(Path()), seq_len)


def _in_steps(
    duration: Duration, data: Corpus, objective: Objective, batch_size: int, seq_len: int, store: str | None
) -> Duration:
    """Epochs of a corpus as steps: an epoch has as many sequences as tokenising finds."""
    from plm.data.corpus import blocks
    from plm.data.pairs import runs
    from plm.store import Store

    if store is None or len(data.parts) > 1:
        raise ValueError(
            f"a duration of {duration}: how long an epoch is, is known once the text is tokenised. "
            + ("Say where to keep the tokens (store=...)" if store is None else "Of a mixture it is not defined")
            + ", or give steps or tokens."
        )
    read = runs if objective.pairs else blocks
    count = len(read(data, "train", seq_len, Store.at(store).root / "data"))
    return steps(duration.in_steps(num_examples=count, batch_size=batch_size, seq_len=seq_len))


def masked(mask: str, num_layers: int) -> tuple[int, ...]:
    """The layers that a bit string marks.

    Raises:
        ValueError: not a string of 0 and 1, or not one character a layer.
    """
    if set(mask) - {"0", "1"} or len(mask) != num_layers:
        raise ValueError(
            f"mask {mask!r}: write {num_layers} characters 0 or 1, one a layer from the input side "
            f"(1 = treated), such as {'0' * (num_layers // 2) + '1' * (num_layers - num_layers // 2)}."
        )
    return tuple(layer for layer, bit in enumerate(mask) if bit == "1")


def model(name: Source | str) -> Source:
    """A model by the name of a recipe of ours, by local folder or by hub id.

    Raises:
        ValueError: there is none.
    """
    if isinstance(name, Checkpoint | External):
        return name
    if name in NAMED:
        return NAMED[name]().final
    if "/" not in name and not name.startswith((".", "~")):
        try:
            return external(name)
        except ValueError as error:
            raise ValueError(
                f"{registry.unknown('model', name, NAMED)} A local folder or a hub id will do too; here, {error}"
            ) from error
    return external(name)


@functools.cache
def world_bert() -> RunSpec:
    """The embedded default's parent: a small BERT pretrained on the generated language, some minutes on one core.

    Small batches of short blocks, wide initial weights and many masks leave the unigram plateau soonest; at twice the
    learning rate it is never left.
    """
    from plm.data.world import World
    from plm.models.bert import Bert

    bert = Bert(
        vocab_size=len(World().vocabulary()) + 5,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=64,
        dropout=0.0,
        initializer_range=0.05,
    )
    return pretrain(
        bert,
        "world",
        duration=steps(4000),
        lr=1e-3,
        warmup_steps=200,
        objective=MaskedLM(0.3),
        batch_size=16,
        seq_len=32,
        dtype="float32",
    )


NAMED = {"world-bert": world_bert}
"""Models that are pretraining runs of ours."""
