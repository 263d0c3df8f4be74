"""What Tamkin et al. 2020 ran, experiment by experiment, and how much of it at each scale.

A `change` says what becomes of the layers: a mask of those that are redrawn, a permutation by its seed (`order:3/12`, of
twelve layers), or how many are kept for a probe (`first:4/12`).
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from search_spaces.axis import Axis, By, Point, Suited, choices
from search_spaces.masks import spelled

if TYPE_CHECKING:
    from plm.inits import Init

SCALES = ("tiny", "small", "paper")
"""Minutes on a laptop, hours on one GPU, and the paper's own."""
EXPERIMENTS = {
    "progressive": ("progressive",),
    "blocks": ("none", "all", "blocks", "preserved_blocks"),
    "singles": ("none", "all", "singles"),
    "permutation": ("none", "all"),
    "probing": (),
    "keep_layer_norm": ("progressive",),
    "faster": ("progressive",),
}
"""The masks of each. `faster`: redrawn layers at five times the rate."""
PERMUTATIONS, FASTER = range(1, 11), 5.0
FEW, MANY = (
    {"tiny": 100, "small": 500, "paper": 500},
    {"tiny": 400, "small": 2000, "paper": 5000},
)
"""Examples where seeds are drawn one by one, and where every experiment but probing is done."""
BATCH_SIZES = {"tiny": 16, "small": 16, "paper": 8}


def by_scale(**values: Any) -> By:
    """A value for each scale, each a tuple or one value."""
    return By("scale", {scale: v if isinstance(v, tuple) else (v,) for scale, v in values.items()})


def by_experiment(otherwise: Any, **values: Any) -> By:
    """A value for each experiment."""
    every = dict.fromkeys(EXPERIMENTS, otherwise) | values
    return By("experiment", {name: v if isinstance(v, tuple) else (v,) for name, v in every.items()})


def scales(*values: str) -> Axis:
    """An axis of how much is run."""
    return choices(*values, known=SCALES)


def experiments(*values: str) -> Axis:
    """An axis of experiments."""
    return choices(*values, known=tuple(EXPERIMENTS))


MODELS = by_scale(tiny="world-bert", small="bert-base-uncased", paper="bert-base-uncased")
TASKS = Suited(("sentiment", "acceptability"), ("glue/sst2", "glue/qnli", "glue/cola"))
SIZES = by_scale(
    tiny=by_experiment(MANY["tiny"], progressive=(FEW["tiny"], MANY["tiny"])),
    small=by_experiment(MANY["small"], progressive=(FEW["small"], MANY["small"])),
    paper=by_experiment(MANY["paper"], progressive=(FEW["paper"], MANY["paper"], 50_000, "all"), probing="all"),
)
DURATIONS = Suited(("steps:200",), (by_experiment("epochs:3", probing="epochs:40"),))
RATES = Suited(
    (by_experiment(5e-4, probing=1e-3),),
    (by_scale(tiny=by_experiment(5e-5, probing=1e-3), small=by_experiment(5e-5, probing=1e-3), paper=2e-5),),
)
SCHEMES = by_scale(tiny=("bert", "matched"), small=("bert", "matched"), paper="bert")
"""The paper has no control of matched noise."""


def schemes() -> Axis:
    """An axis of how redrawn weights are drawn; the first alone where none are: of others the runs would be the same."""
    from search_spaces.finetuning import schemes as plain

    return replace(plain(SCHEMES), choose=lambda values, point: values[:1] if ":" in point["change"] else values)


def seeds() -> Axis:
    """The seeds of each experiment.

    The paper's are 1 to 50 at 500 examples, 1 to 10 for blocks and probes, 1 for permutations, else 1 to 3.
    """
    from search_spaces.seeds import seeds as plain

    def expand(value: int | str, point: Point) -> tuple[int, ...]:
        return tuple(range(1, _count(point) + 1)) if isinstance(value, str) else (value,)

    return Axis(("the paper's",), plain(1).parse, "whole numbers, or a half-open range such as 1:4", expand)


def _count(point: Point) -> int:
    scale, experiment = point["scale"], point["experiment"]
    if experiment == "progressive" and point["size"] == FEW[scale]:
        return {"tiny": 3, "small": 10, "paper": 50}[scale]
    return {"permutation": 1, "blocks": 10, "probing": 10}.get(experiment, 3) if scale == "paper" else 3


def changes() -> Axis:
    """All changes of an experiment, or some of them."""

    def parse(text: str) -> tuple[str, ...]:
        if text != "each" and not re.fullmatch(r"[01]+|(order|first):\d+/\d+", text):
            raise ValueError(f"{text!r} is not a change: write a mask such as 000111, order:3/6, first:4/6, or each.")
        return (text,)

    def expand(value: str, point: Point) -> tuple[str, ...]:
        from plm.models import shape
        from plm.recipes import model

        layers = shape(model(point["model"])).num_hidden_layers
        there = _changes(point["experiment"], layers)
        if value != "each" and not any(value in _changes(experiment, layers) for experiment in EXPERIMENTS):
            raise ValueError(
                f"axis change: {value} is in no experiment on {point['model']}, which has {layers} layers: write a mask that "
                f"they have, such as {'1'.rjust(layers, '0')}; order:1/{layers} to order:{PERMUTATIONS[-1]}/{layers}; "
                f"first:1/{layers} to first:{layers}/{layers}; or each."
            )
        return there if value == "each" else (value,) if value in there else ()

    return Axis(("each",), parse, "masks such as 000111, order:3/6, first:4/6, or each", expand)


@functools.cache
def _changes(experiment: str, layers: int) -> tuple[str, ...]:
    found = [mask for word in EXPERIMENTS[experiment] for mask in spelled(word, layers)]
    if experiment == "permutation":
        found += [f"order:{seed}/{layers}" for seed in PERMUTATIONS]
    if experiment == "probing":
        found += [f"first:{kept}/{layers}" for kept in range(1, layers + 1)]
    return tuple(dict.fromkeys(found))


def changed(model: str, change: str, *, scheme: str, seed: int, layer_norm: str) -> Init | None:
    """A model with a change; None: a permutation that is none."""
    import plm

    what, _, numbers = change.partition(":")
    if not numbers:
        return plm.reinit(model, change, scheme=scheme, seed=seed, layer_norm=layer_norm)
    number, layers = map(int, numbers.split("/"))
    if what == "first":
        return plm.drop(model, range(number, layers))
    order = plm.permutation(number, layers)
    return None if order == tuple(range(layers)) else plm.permute(model, order)


def unchanged(change: str) -> str:
    """What a change is compared with: nothing redrawn, or a probe of all layers."""
    what, _, layers = change.rpartition("/")
    if not layers or not what:
        return "0" * len(change)
    return f"first:{layers}/{layers}" if what.startswith("first") else "0" * int(layers)
