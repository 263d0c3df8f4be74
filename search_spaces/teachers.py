"""Whom a student learns from, how strongly, and for how long: knowledge inheritance (Qin et al. 2022).

A teacher is named by its size and the steps it was pretrained for on the student's text, `bert-2x64@600`, and is then a
run of ours; by the name of a recipe, a folder or a hub id, if it is one that is there; or it is `none`.

Students and teachers of one question read with one tokenizer: that of the question's `text`, whatever else they read.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from search_spaces.architectures import architecture, models
from search_spaces.axis import Axis, Point, choices, names, numbers
from search_spaces.data_sizes import data_sizes
from search_spaces.space import Trial
from search_spaces.texts import generated, reading

if TYPE_CHECKING:
    from plm.data.files import Files
    from plm.data.world import World
    from plm.inheritance import Rate, Teaching
    from plm.spec import RunSpec, Source

NONE = "none"
SCHEDULES = (NONE, "linear", "heaviside", "constant")
SIZES = models("bert-2x64")
"""Of teachers and students that are pretrained here."""
TEACHER_SEED = 1000
"""Of the teachers' own pretraining: one teacher for all replications, whose batches are not those of a student."""
SHALLOW = 2
"""Layers of a model that learns at the higher of a recipe's rates, at most."""

ADAPTING_RATE = 5e-4
"""Peak learning rate of going on with other text: half of what a deep model was pretrained at."""


class Recipe(NamedTuple):
    """How a text is pretrained on where compute is short."""

    seq_len: int
    batch_size: int
    masked: float
    """Share of the tokens."""
    betas: tuple[float, float]
    rates: tuple[float, float]
    """Peak learning rates of models with `SHALLOW` layers at most, and of deeper ones."""


def recipe(text: str) -> Recipe:
    """Of the generated language, and of other text: there only short sequences in large batches leave the plateau soon."""
    if generated(text):
        return Recipe(reading(text).seq_len, 16, 0.3, (0.9, 0.999), (2e-3, 1e-3))
    return Recipe(24, 256, 0.2, (0.9, 0.98), (1e-3, 1e-3))


def teachers(*values: str) -> Axis:
    """An axis of teachers."""
    return names(*values, form="none, a size@steps such as bert-2x64@600, a recipe's name, a folder, or a hub id")


def schedules(*values: str) -> Axis:
    """An axis of how the teacher's share goes down."""
    return choices(*values, known=SCHEDULES)


def kept_logits(*values: str) -> Axis:
    """An axis of what is kept of the teacher's logits."""

    def parse(text: str) -> tuple[str, ...]:
        if not re.fullmatch(rf"{NONE}|0|[1-9]\d*(\+tail)?", text):
            raise ValueError(
                f"{text!r} says not what is kept: write 0 for all logits, 10, 10+tail, or none for no teacher."
            )
        return (text,)

    return Axis(values, parse, "0 for all logits, 10, 10+tail, none for no teacher")


def batch_sizes(*values: int) -> Axis:
    """An axis of sequences of an optimizer step."""

    def parse(text: str) -> tuple[int, ...]:
        if not text.isdecimal() or int(text) == 0:
            raise ValueError(f"{text!r} is not a batch size: write a positive whole number.")
        return (int(text),)

    return Axis(values, parse, "positive whole numbers")


def chains(*values: str) -> Axis:
    """An axis of generations: models by their size, the youngest last, each the student of the one before."""

    def parse(text: str) -> tuple[str, ...]:
        for size in text.split(">"):
            SIZES.read(size)
        return (text,)

    return Axis(values, parse, "models by size, the youngest last: bert-2x64>bert-4x128")


def arms(*values: str) -> Axis:
    """An axis of how a student is taught: by a schedule, and if need be by how many logits."""

    def parse(text: str) -> tuple[str, ...]:
        schedule, colon, kept = text.partition(":")
        if schedule not in SCHEDULES or (colon and (schedule == NONE or not kept)):
            raise ValueError(f"{text!r} is no way of teaching: write none, linear, linear:10 or constant:10+tail.")
        if kept == NONE:
            raise ValueError(f"{text!r} keeps nothing: leave the logits out for all of them, or write how many.")
        kept_logits().read(kept or "0")
        return (text,)

    return Axis(values, parse, "none, or a schedule and what is kept: linear, constant:10, heaviside:10+tail")


def smoothings(*values: str) -> Axis:
    """An axis of controls without a model: `none`, a share of the labels that is smoothed away, or a `teacher` after all."""

    def parse(text: str) -> tuple[str, ...]:
        if not re.fullmatch(r"none|teacher|0\.\d*[1-9]", text):
            raise ValueError(f"{text!r} is no control: write none, teacher, or the share of a label such as 0.1.")
        return (text,)

    return Axis(values, parse, "none, teacher, or the share of a label such as 0.1")


def parts(*values: str) -> Axis:
    """An axis of parts of a text's documents: `all`, `1/16` (each in the larger ones), a half A or B; `none`: nobody reads."""

    def parse(text: str) -> tuple[str, ...]:
        if text != NONE:
            part(text)
        return (text,)

    return Axis(values, parse, "all, 1/16 or the like, A or B (the two halves), none")


def part(name: str) -> tuple[int, int]:
    """The part that a name means, as `plm.data.corpus.Corpus` takes it.

    Raises:
        ValueError: it means none.
    """
    halves = {"all": (0, 1), "A": (0, 2), "B": (1, 2)}
    found = re.fullmatch(r"1/([1-9]\d{0,5})", name)
    if name not in halves and found is None:
        raise ValueError(
            f"{name!r} is no part of a text: write all, 1/16 or the like, or A or B for one of the halves."
        )
    return halves[name] if found is None else (0, int(found[1]))


def moments(*values: float) -> Axis:
    """An axis of moments of a pretraining, as shares of its steps."""

    def parse(text: str) -> tuple[float, ...]:
        (share,) = numbers(form="a share of the steps, 1 at most").parse(text)
        if share > 1:
            raise ValueError(f"{text!r} is not a share of the steps, 1 at most.")
        return (share,)

    return Axis(values, parse, "shares of the steps, 1 at most")


def sizes(*values: int | str) -> Axis:
    """An axis of fine-tuning data sizes; `none` alone where nothing is fine-tuned (task `none`), so that it is one cell."""
    axis = data_sizes(*values)

    def expand(value: int | str, point: Point) -> tuple[int | str, ...]:
        return (NONE,) if point["task"] == NONE else axis.expand(value, point)

    return replace(axis, expand=expand)


def guided_shares(*values: float) -> Axis:
    """An axis of how long a teacher guides, as a share of the student's steps."""
    return numbers(*values, form="a positive share of the steps")


def inheriting(trial: Trial, point: Mapping[str, Any]) -> dict[str, Any]:
    """A learning rate, a teacher or none, and only with one how it teaches: schedule, guided steps, temperature, what is kept of its logits.

    All are choices, so that the controls, without a teacher at every learning rate, can be listed and tried first.
    """
    chosen = {
        "lr": trial.suggest_categorical("lr", (5e-4, 1e-3, 2e-3)),
        "teacher": trial.suggest_categorical("teacher", (NONE, "bert-2x64@400", "bert-2x64@800", "bert-2x96@800")),
    }
    if chosen["teacher"] == NONE:
        return chosen
    chosen |= {
        "schedule": trial.suggest_categorical("schedule", SCHEDULES[1:]),
        "temperature": trial.suggest_categorical("temperature", (1.0, 2.0, 4.0)),
        "top_k": trial.suggest_categorical("top_k", (10, 100)),
        "tail": trial.suggest_categorical("tail", (True, False)),
    }
    if chosen["schedule"] != "constant":
        chosen["guided"] = trial.suggest_categorical("guided", (0.15, 0.3, 0.5))
    return chosen


@functools.cache  # a search asks for the same few students and teachers in all its configurations
def pretrained(
    model: str, text: str, duration: str, *, seed: int, lr: float | None = None, batch_size: int | None = None,
    general: str = "", of: str = "all",
) -> RunSpec:  # fmt: skip
    """A masked language model of a size (`bert-4x128`), pretrained on a text from scratch, and without a teacher.

    Args:
        batch_size: None: the recipe's.
        general: The text whose tokenizer reads it; itself if there is no other.
        of: The part of the text that is read.
    """
    from plm import pretrain
    from plm.duration import parse, steps
    from plm.objectives.mlm import MaskedLM

    how, length = recipe(text), parse(duration)
    batch_size = batch_size or how.batch_size
    if length.unit == "epochs":
        raise ValueError(f"duration {duration}: a pretraining is given in steps or tokens, such as steps:800.")
    total = length.in_steps(num_examples=0, batch_size=batch_size, seq_len=how.seq_len)
    layers = int(re.findall(r"\d+", model)[0])
    made = pretrain(
        architecture(model, general or text), text, vocabulary=vocabulary(general or text),
        objective=MaskedLM(how.masked), duration=steps(total), seed=seed, lr=lr or how.rates[layers > SHALLOW],
        warmup_steps=total // 10, batch_size=batch_size, seq_len=how.seq_len, dtype="float32",
    )  # fmt: skip
    return _read(made, of, how.betas)


def _read(run: RunSpec, of: str, betas: tuple[float, float], beside: tuple[World | Files, ...] = ()) -> RunSpec:
    """A pretraining on a part of its text, evaluated beside others, by a recipe's moments."""
    from plm.data.corpus import Corpus

    assert isinstance(run.data, Corpus)
    return replace(run, data=replace(run.data, part=part(of), beside=beside), optim=replace(run.optim, betas=betas))


def vocabulary(text: str) -> str | None:
    """The tokenizer of a text, as `plm.pretrain` takes it, for whatever text it is to read."""
    spelled = reading(text).vocabulary
    return f"{spelled}@{text}" if spelled else None


@functools.cache
def adapted(general: RunSpec, domains: tuple[str, ...], duration: str, *, of: str = "all") -> RunSpec:
    """A pretraining, gone on with on a domain, or on several in equal shares; what it read before is evaluated beside.

    Args:
        of: The part of each domain's documents that is read.
    """
    from plm import mixture, pretrain
    from plm.data.corpus import Corpus
    from plm.data.sources import text as named
    from plm.duration import parse

    assert isinstance(general.data, Corpus)
    length = parse(duration).in_steps(num_examples=0, batch_size=general.batch_size, seq_len=general.seq_len)
    read = named(domains[0]) if len(domains) == 1 else mixture(dict.fromkeys(domains, 1.0))
    begun = pretrain(
        general.final, read, objective=general.objective, duration=parse(f"steps:{length}"),
        seed=general.seeds.order, lr=ADAPTING_RATE, warmup_steps=length // 10, batch_size=general.batch_size,
        seq_len=general.seq_len, dtype=general.dtype,
    )  # fmt: skip
    return _read(begun, of, general.optim.betas, beside=general.data.texts)


def teacher(name: str, text: str, *, general: str = "", of: str = "all") -> Source | None:
    """The teacher that a name means.

    Args:
        text: What a teacher that is pretrained here reads.
        general: The text whose tokenizer reads it; itself if there is no other.
        of: The part of the text that it reads.

    Raises:
        ValueError: there is none of that name.
    """
    from plm.recipes import model

    if name == NONE:
        return None
    size, at, steps = name.partition("@")
    if at and re.fullmatch(r"[a-z]+-\d+x\d+", size) and steps.isdecimal():
        SIZES.read(size)
        return pretrained(size, text, f"steps:{steps}", seed=TEACHER_SEED, general=general, of=of).final
    return model(name)


def teacher_of_each(name: str, domains: Sequence[str], general: str) -> Teaching | None:
    """A teacher of that name for each domain, pretrained on it."""
    from plm.inheritance import Several

    found = [teacher(name, domain, general=general) for domain in domains]
    each = tuple(source for source in found if source is not None)
    return Several(each) if len(set(each)) > 1 else each[0] if each else None


def rate(schedule: str, guided: float, total_steps: int) -> Rate:
    """A schedule by name, over a share of a student's steps."""
    from plm.duration import steps
    from plm.inheritance import Constant, Heaviside, Linear

    if schedule == "constant":
        return Constant()
    made = {"linear": Linear, "heaviside": Heaviside}[schedule]
    return made(steps(max(1, round(guided * total_steps))))


def taught(
    student: RunSpec, source: Teaching | None, *, schedule: str = "linear", guided: float = 0.3, temperature: float = 2.0,
    top_k: int = 100, tail: bool = True,
) -> RunSpec:  # fmt: skip
    """A student with a teacher; as it is where it has none, or where the schedule is `none`.

    The tail is kept, because of a teacher that is not sure few logits cover little: renormalised, ten logits of one whose
    perplexity is 200 tell the student that all other tokens are impossible.
    """
    from plm.inheritance import inherit

    if source is None or schedule == NONE:
        return student
    share = rate(schedule, guided, student.total_steps)
    return inherit(student, source, share, temperature=temperature, top_k=top_k, tail=tail)
