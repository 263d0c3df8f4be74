"""Choices of what is minimised in pretraining, and how long each may train for the same compute.

Two families of choices: what stands beside masked language modelling, and what stands in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from search_spaces.axis import Axis, Point, choices
from search_spaces.data_sizes import data_sizes

if TYPE_CHECKING:
    from plm.objectives import Objective
    from plm.spec import RunSpec

BASELINE = "mlm"
BESIDE = (BASELINE, "mlm+nsp", "mlm+sop")
"""Sentence objectives beside masked language modelling (Lan et al. 2020, table 5)."""
INSTEAD = (BASELINE, "replace-mlm", "electra-15%", "all-tokens-mlm", "electra")
"""The steps from masked language modelling to ELECTRA (Clark et al. 2020, table 5)."""
INTRINSIC = ("nsp", "sop")
"""What a model with a head for pairs can be asked without fine-tuning."""


def objectives(*values: str) -> Axis:
    """An axis of pretraining objectives."""
    return choices(*values, known=tuple(dict.fromkeys((*BESIDE, *INSTEAD))))


def objective(name: str, rate: float) -> Objective:
    """The objective that a name means; `rate` of the tokens are chosen to be predicted or replaced."""
    from plm.objectives.combined import Sum
    from plm.objectives.mlm import MaskedLM
    from plm.objectives.nsp import NextSentence
    from plm.objectives.replaced import ReplacedLM
    from plm.objectives.rtd import ReplacedTokens
    from plm.objectives.sop import SentenceOrder

    made: dict[str, Callable[[], Objective]] = {
        "mlm": lambda: MaskedLM(rate),
        "mlm+nsp": lambda: Sum((MaskedLM(rate), NextSentence())),
        "mlm+sop": lambda: Sum((MaskedLM(rate), SentenceOrder())),
        "replace-mlm": lambda: ReplacedLM(rate),
        "electra-15%": lambda: ReplacedTokens(rate, scored="chosen"),
        "all-tokens-mlm": lambda: ReplacedLM(rate, scored="all"),
        "electra": lambda: ReplacedTokens(rate),
    }
    return made[name]()


def at_equal_compute(chosen: Objective, baseline: RunSpec) -> RunSpec:
    """The baseline with another objective, for as many steps, of the same batch, as cost what it costs.

    Raises:
        ValueError: the baseline's architecture cannot be trained so.
    """
    from plm.duration import steps
    from plm.models import shape

    built = shape(baseline.init.architecture())
    chosen.check(built.model_type)
    ours, theirs = (one.flops_per_token(built, baseline.seq_len) for one in (chosen, baseline.objective))
    return replace(baseline, objective=chosen, duration=steps(max(1, round(baseline.total_steps * theirs / ours))))


def training_flops(spec: RunSpec) -> float:
    """What a pretraining costs: forward, and twice that backward, for full sequences."""
    from plm.models import shape

    each = spec.objective.flops_per_token(shape(spec.init.architecture()), spec.seq_len)
    return 3 * spec.total_steps * spec.batch_size * spec.seq_len * each


def sizes(*values: int | str) -> Axis:
    """An axis of fine-tuning data sizes; `all` says nothing of an intrinsic question, which has no training data."""
    axis = data_sizes(*values)

    def expand(value: int | str, point: Point) -> tuple[int | str, ...]:
        return (value,) if point["task"] in INTRINSIC else axis.expand(value, point)

    return replace(axis, expand=expand)
