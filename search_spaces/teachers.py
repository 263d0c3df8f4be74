"""Whom a student learns from, how strongly, and for how long: knowledge inheritance (Qin et al. 2022).

A teacher is named by its size and the steps it was pretrained for on the student's text, `bert-2x64@600`, and is then a
run of ours; by the name of a recipe, a folder or a hub id, if it is one that is there; or it is `none`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from search_spaces.architectures import architecture, models
from search_spaces.axis import Axis, choices, names, numbers
from search_spaces.space import Trial
from search_spaces.texts import reading

if TYPE_CHECKING:
    from plm.inheritance import Rate
    from plm.spec import RunSpec, Source

NONE = "none"
SCHEDULES = (NONE, "linear", "heaviside", "constant")
SIZES = models("bert-2x64")
"""Of teachers and students that are pretrained here."""
TEACHER_SEED = 1000
"""Of the teachers' own pretraining: one teacher for all replications, whose batches are not those of a student."""
SHALLOW, RATES = 2, (2e-3, 1e-3)
"""Peak learning rates of models with so many layers at most, and of deeper ones."""


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
    model: str, text: str, duration: str, *, seed: int, lr: float | None = None, batch_size: int = 16
) -> RunSpec:
    """A masked language model of a size (`bert-4x128`), pretrained on a text from scratch, and without a teacher."""
    from plm import pretrain
    from plm.duration import parse, steps
    from plm.objectives.mlm import MaskedLM

    (vocabulary, seq_len), length = reading(text), parse(duration)
    if length.unit == "epochs":
        raise ValueError(f"duration {duration}: a pretraining is given in steps or tokens, such as steps:800.")
    total = length.in_steps(num_examples=0, batch_size=batch_size, seq_len=seq_len)
    layers = int(re.findall(r"\d+", model)[0])
    return pretrain(
        architecture(model, text), text, vocabulary=vocabulary, objective=MaskedLM(0.3), duration=steps(total), seed=seed,
        lr=lr or RATES[layers > SHALLOW], warmup_steps=total // 10, batch_size=batch_size, seq_len=seq_len,
        dtype="float32",
    )  # fmt: skip


def teacher(name: str, text: str) -> Source | None:
    """The teacher that a name means.

    Raises:
        ValueError: there is none of that name.
    """
    from plm.recipes import model

    if name == NONE:
        return None
    size, at, steps = name.partition("@")
    if at and re.fullmatch(r"[a-z]+-\d+x\d+", size) and steps.isdecimal():
        SIZES.read(size)
        return pretrained(size, text, f"steps:{steps}", seed=TEACHER_SEED).final
    return model(name)


def rate(schedule: str, guided: float, total_steps: int) -> Rate:
    """A schedule by name, over a share of a student's steps."""
    from plm.duration import steps
    from plm.inheritance import Constant, Heaviside, Linear

    if schedule == "constant":
        return Constant()
    made = {"linear": Linear, "heaviside": Heaviside}[schedule]
    return made(steps(max(1, round(guided * total_steps))))


def taught(
    student: RunSpec, source: Source | None, *, schedule: str = "linear", guided: float = 0.3, temperature: float = 2.0,
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
