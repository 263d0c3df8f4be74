"""Knowledge inheritance (Qin et al. 2022): how far a student is from its teacher, how strongly it is taught, what that saves.

A rate is the teacher's share of the loss at one step; a schedule of rates is a value, so that it enters a run's identity.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from jaxtyping import Float, Int

from plm.duration import Duration
from plm.objectives import IGNORED
from plm.spec import digest

if TYPE_CHECKING:
    from torch import Tensor

    from plm.data.corpus import Corpus
    from plm.spec import RunSpec, Source

HARDEST = 1e-3
"""Temperatures below are refused: float32 logits divided by less overflow long before they say more."""


def inheritance_loss(
    student_logits: Float[Tensor, "*N V"],
    teacher_logits: Float[Tensor, "*N V"],
    labels: Int[Tensor, " *N"],
    *,
    temperature: float,
    rate: float,
) -> Float[Tensor, ""]:
    """(1 - rate) x cross-entropy + rate x temperature^2 x KL(teacher || student), the mean over scored positions, in nats.

    Args:
        labels: `IGNORED` (-100) where nothing is scored; for a causal model, the tokens after those of the logits.
        rate: Of the teacher, in [0, 1].

    Raises:
        ValueError: a rate or a temperature out of range.

    Source: Qin et al. 2022, section 3.1, and its release. Cross-entropy is at temperature 1.
    """
    from torch.nn import functional as F

    check_rate(rate)
    check_temperature(temperature)
    scored = labels != IGNORED
    student, count = student_logits[scored], max(1, int(scored.sum()))
    taught = divergence(student, teacher_logits[scored], temperature).sum() / count
    return (1 - rate) * F.cross_entropy(student, labels[scored], reduction="sum") / count + rate * taught


def divergence(
    student: Float[Tensor, "K V"],
    teacher: Float[Tensor, "K C"],
    temperature: float,
    tokens: Int[Tensor, "K C"] | None = None,
    rest: Float[Tensor, " K"] | None = None,
) -> Float[Tensor, " K"]:
    """temperature^2 x KL(teacher || student) of each prediction, both softened by the temperature, in nats.

    Args:
        student: Logits of the whole vocabulary.
        teacher: Logits of `tokens`, renormalised over them: what the paper does with the teacher's largest ones.
        tokens: Which of the vocabulary the teacher's logits are of; None: all, in order.
        rest: The log-sum-exp, at the temperature, of the teacher's other logits: all other tokens count as one more
            outcome, to the student as to the teacher, and nothing is renormalised.
    """
    import torch
    from torch.nn import functional as F

    student, teacher = student / temperature, teacher / temperature
    log_student = student.log_softmax(-1)
    if tokens is not None:
        log_student = log_student.gather(-1, tokens)
    if rest is not None:
        assert tokens is not None, "all logits are there: nothing is left"
        others = student.scatter(-1, tokens, float("-inf")).logsumexp(-1) - student.logsumexp(-1)
        log_student = torch.cat([log_student, others[:, None]], -1)
        teacher = torch.cat([teacher, rest[:, None]], -1)
    log_teacher = teacher.log_softmax(-1)
    return temperature**2 * F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1)


def check_rate(rate: float) -> None:
    """Refuse a rate that is no share.

    Raises:
        ValueError: not in [0, 1].
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"an inheritance rate of {rate}: it is the teacher's share of the loss, from 0 to 1.")


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that softens nothing.

    Raises:
        ValueError: too small, infinite or NaN.
    """
    if not HARDEST <= temperature < float("inf"):
        raise ValueError(f"a temperature of {temperature}: logits are divided by it; give a number from {HARDEST} on.")


# Schedules


class Rate(ABC):
    """The teacher's share of the loss by step. Derive a frozen dataclass with a `kind` of its own to add a schedule."""

    kind: ClassVar[str]

    @abstractmethod
    def at(self, step: int, *, batch_size: int, seq_len: int) -> float:
        """The rate of the update that comes after `step` others, in [0, 1]; the sizes turn a duration into steps."""


@dataclass(frozen=True)
class Linear(Rate):
    """From 1 down to 0: the paper's, whose slope is all steps over the guided ones."""

    kind: ClassVar[str] = "inheritance:linear"
    guided: Duration

    def __post_init__(self) -> None:
        _check_guided(self.guided)

    def at(self, step: int, *, batch_size: int, seq_len: int) -> float:
        return max(0.0, 1 - step / _steps(self.guided, batch_size, seq_len))


@dataclass(frozen=True)
class Heaviside(Rate):
    """The teacher alone, then the text alone."""

    kind: ClassVar[str] = "inheritance:heaviside"
    guided: Duration

    def __post_init__(self) -> None:
        _check_guided(self.guided)

    def at(self, step: int, *, batch_size: int, seq_len: int) -> float:
        return float(step < _steps(self.guided, batch_size, seq_len))


@dataclass(frozen=True)
class Constant(Rate):
    """The same to the end (0.5 in the paper): there is always a teacher, also once the student knows more."""

    kind: ClassVar[str] = "inheritance:constant"
    rate: float = 0.5

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def at(self, step: int, *, batch_size: int, seq_len: int) -> float:
        return float(self.rate)


def _check_guided(guided: Duration) -> None:
    if guided.unit == "epochs":
        raise ValueError(f"guided for {guided}: an epoch of a corpus is not known beforehand. Give steps or tokens.")


def _steps(guided: Duration, batch_size: int, seq_len: int) -> int:
    return guided.in_steps(num_examples=0, batch_size=batch_size, seq_len=seq_len)


# A run with a teacher

DEALINGS = ("text", "mean")


@dataclass(frozen=True)
class Several:
    """Several teachers of one student and one vocabulary: each has a text of its own, or all speak as one.

    Source: Qin et al. 2022: two domains at once, each teacher on the examples of its own. The mean is ours.
    """

    kind: ClassVar[str] = "inheritance:several"
    members: tuple[Source, ...]
    """By `text`, in the order of the mixture's texts."""
    by: str = "text"
    """`text`: each teaches the sequences of its own text of the mixture that the student reads. `mean`: together they say
    the mean of their distributions at temperature 1, which is then softened as one teacher's is."""

    def __post_init__(self) -> None:
        if self.by not in DEALINGS:
            raise ValueError(f"several teachers by {self.by!r}: there are {', '.join(DEALINGS)}.")
        different = len(set(self.members))
        if different < 2 or (self.by == "mean" and different < len(self.members)):
            raise ValueError(
                f"{len(self.members)} teachers, {different} of them different: a single one is given as it is, and in a "
                "mean each stands once."
            )
        if self.by == "mean":  # one mean, one spelling
            object.__setattr__(self, "members", tuple(sorted(self.members, key=digest)))

    def check(self, data: Corpus) -> None:
        """Refuse a text that is not dealt out as the teachers are.

        Raises:
            ValueError: they go by text, and it is no mixture of as many.
        """
        if self.by == "text" and len(data.texts) != len(self.members):
            raise ValueError(
                f"{len(self.members)} teachers, each for a text of its own, and {len(data.texts)} texts: read a mixture "
                "of as many (plm.mixture({...})), in the order of the teachers."
            )


@dataclass(frozen=True)
class Uniform:
    """A teacher that knows nothing: all tokens are alike to it.

    At a constant rate a, and a temperature of 1, it is label smoothing: 1 - a of the target's mass on the token and a over
    the whole vocabulary (Szegedy et al. 2016, section 7). Source: the control of Qin et al. 2022, whose a lies on
    the V - 1 other tokens: a rate of a V / (V - 1) here. (As it is printed there, the token keeps a share of it too.)
    """

    kind: ClassVar[str] = "inheritance:uniform"


Teaching: TypeAlias = "Source | Several | Uniform"
"""Who teaches."""


def members(teacher: Teaching) -> tuple[Source, ...]:
    """The models that teach: one, several, or none."""
    if isinstance(teacher, Uniform):
        return ()
    return teacher.members if isinstance(teacher, Several) else (teacher,)


def reading(teacher: Teaching, data: Corpus) -> tuple[tuple[Source, float], ...]:
    """Each model that teaches, and the share of a text that it reads."""
    by_text = isinstance(teacher, Several) and teacher.by == "text"
    each = members(teacher)
    return tuple(zip(each, data.weights if by_text else [1.0] * len(each), strict=True))


def smoothed(run: RunSpec, amount: float) -> RunSpec:
    """The run with smoothed labels; as it is where nothing is smoothed.

    Args:
        amount: Of the target's mass, over the whole vocabulary.
    """
    return inherit(run, Uniform(), Constant(amount), temperature=1.0) if amount else run


def inherit(
    student: RunSpec,
    teacher: Teaching,
    rate: Rate,
    *,
    temperature: float = 2.0,
    top_k: int = 0,
    tail: bool = False,
) -> RunSpec:
    """The run with a teacher beside its text; all else, its initial weights and its batches too, stays as it is.

    Args:
        student: A pretraining by masked or causal language modelling.
        teacher: `run.final`, `run.at(step)`, `plm.external(...)`, `Several` of them, or `Uniform()`.
        rate: `Linear(steps(...))`, `Heaviside(steps(...))`, or `Constant(...)`.
        top_k: How many of the teacher's largest logits are kept; 0: all.
        tail: Whether the others count as one more outcome, instead of being left out.

    Raises:
        ValueError: the teacher does not agree with the student on the vocabulary, or predicts no tokens.
    """
    from plm.models import shape
    from plm.objectives.inherit import Inherit
    from plm.teachers import check

    check(teacher, shape(student.init.architecture()), student.data, student.seq_len)
    return replace(student, objective=Inherit(student.objective, teacher, rate, temperature, top_k, tail))


# What it saves


def savings(taught: float, alone: float) -> float:
    """The share of the cost that teaching saves, of reaching the same score; negative where it costs more.

    Args:
        taught: Steps, FLOPs or hours with a teacher, its own among them or not.
        alone: The same without one.

    Raises:
        ValueError: a cost that is not positive.
    """
    if not (taught > 0 and alone > 0):
        raise ValueError(f"savings of {taught} against {alone}: what is compared must be positive.")
    return (alone - taught) / alone
