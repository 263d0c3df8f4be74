"""Donors of layers: other moments of a model's own training, and noise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from search_spaces.axis import Axis, Point, Suited, suited
from search_spaces.masks import masks, spelled

if TYPE_CHECKING:
    from plm.inits import Init
    from plm.spec import Source

NOISE, EACH = "noise:", "each"
FORM = "steps of the model's training, each (all there are before the last), or noise:SCHEME"


def donors(*values: str | Suited) -> Axis:
    """An axis of where layers come from."""
    return Axis(values, _parse, FORM, _expand)


def grafts(*values: str) -> Axis:
    """An axis of masks of the layers that are grafted, as `masks` takes them."""

    def expand(value: str, point: Point) -> tuple[str, ...]:
        from plm.models import shape

        return spelled(value, shape(moment(point["model"])).num_hidden_layers)

    return replace(masks(*values), expand=expand)


def moment(model: str, step: int | None = None) -> Source:
    """A model at a step of its training; without one, at its last.

    Args:
        model: A recipe of ours, or a trajectory as `plm.trajectory` takes it.

    Raises:
        ValueError: there is no such training, or no such step.
    """
    from plm.recipes import NAMED
    from plm.trajectory import trajectory

    if model in NAMED:
        run = NAMED[model]()
        return run.final if step is None else run.at(step)
    moments = trajectory(model)
    if not moments.steps:
        raise ValueError(f"{model} has no checkpoint so far: wait for its first, or let it be trained to its end.")
    return moments.source(moments.steps[-1] if step is None else step)


def grafted(model: str, layers: str, donor: str, seed: int) -> Init:
    """The model at its last step with some layers of a donor; `seed` is that of the noise."""
    import plm

    final = moment(model)
    if donor.startswith(NOISE):
        return plm.reinit(final, layers, scheme=donor.removeprefix(NOISE), seed=seed)
    return plm.graft(final, layers, moment(model, int(donor)))


def _parse(text: str) -> tuple[str, ...]:
    from plm.inits.reinit import SCHEMES
    from plm.registry import unknown

    if text.startswith(NOISE):
        if text.removeprefix(NOISE) not in SCHEMES:
            raise unknown("scheme", text.removeprefix(NOISE), SCHEMES)
    elif text != EACH and not text.isdecimal():
        raise ValueError(f"{text!r} is not a donor: write {FORM}.")
    return (str(int(text)) if text.isdecimal() else text,)  # a step has one spelling: 0500 is 500


def _expand(value: str | Suited, point: Point) -> tuple[str, ...]:
    from plm.recipes import NAMED
    from plm.trajectory import trajectory

    found: list[str] = []
    for donor in suited(value, point):
        if donor == EACH and point["model"] in NAMED:
            raise ValueError(
                f"{point['model']} is a recipe, which comes by every step: say which, such as donor=0,1000."
            )
        found += map(str, trajectory(point["model"]).steps[:-1]) if donor == EACH else [donor]
    return tuple(found)
