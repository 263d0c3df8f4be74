"""What bears on a run's numbers, as a value; and the identity computed from it.

A `RunSpec` says which numbers will come out. Where and how fast they are computed (device, workers, micro-batch, paths,
cadence) is not in it. Two specs that ask for the same numbers have the same `run_id`, on any machine, for ever: a field
at its declared neutral value stays out of the hash, so that a new option changes no old id, and what has no stable form
is refused instead of being hashed by accident.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from plm.duration import Duration

if TYPE_CHECKING:
    from plm.data.corpus import Corpus
    from plm.data.examples import Examples
    from plm.inits import Init
    from plm.objectives import Objective
    from plm.reading import Spec

TRAINER = 1
"""Version of the loop, of evaluation and of batch order. A change that moves a golden number raises it."""

SCHEDULES = ("linear", "cosine", "constant")
DTYPES = ("float32", "bfloat16")
TRAINED = ("all", "head", "probe")


def neutral(default: Any) -> Any:
    """A field that stays out of the identity while it has this default: the way to add an option to an old class."""
    return field(default=default, metadata={"neutral": True})


def location(default: Any = dataclasses.MISSING) -> Any:
    """A field that says where something is or what it is called, never what it is: always out of the identity."""
    return field(default=default, metadata={"location": True})


# ---------------------------------------------------------------------------------------------------------------------
# Values <-> JSON


def encode(value: Any, *, identity: bool) -> Any:
    """Turn a value into plain JSON: all of it, or only what its identity consists of.

    Raises:
        TypeError: the value has no stable form (a list, a set, a function, a foreign object).
        ValueError: a float is NaN or infinite.
    """
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} in a spec: numbers must be finite.")
        return value + 0.0  # -0.0 and 0.0 are one number
    if isinstance(value, tuple):
        return [encode(v, identity=identity) for v in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "kind"):
        return (
            {"kind": value.kind}
            | ({"version": value.version} if hasattr(value, "version") else {})
            | {
                f.name: encode(float(getattr(value, f.name)), identity=identity)
                if f.type == "float"
                else encode(getattr(value, f.name), identity=identity)
                for f in dataclasses.fields(value)
                if not (identity and _left_out(f, getattr(value, f.name)))
            }
        )
    raise TypeError(
        f"{value!r} ({type(value).__name__}) has no stable form: a spec is made of None, booleans, numbers, "
        "strings, tuples and frozen dataclasses that have a `kind`."
    )


def _left_out(f: dataclasses.Field[Any], value: Any) -> bool:
    return bool(f.metadata.get("location")) or (bool(f.metadata.get("neutral")) and value == f.default)


def decode(document: Any) -> Any:
    """The value that `encode(value, identity=False)` wrote.

    Raises:
        ValueError: an unknown kind, a version other than today's, or fields that do not fit.
    """
    if isinstance(document, list):
        return tuple(decode(v) for v in document)
    if not isinstance(document, dict):
        return document
    given = {name: decode(v) for name, v in document.items() if name not in ("kind", "version")}
    cls = _class_of(document.get("kind"))
    if document.get("version") != getattr(cls, "version", None):
        raise ValueError(
            f"{document['kind']} of version {document.get('version')} was asked for; "
            f"this installation has version {getattr(cls, 'version', None)}."
        )
    if given.get("trainer", TRAINER) != TRAINER:
        raise ValueError(f"trainer {given['trainer']} was asked for; this installation has trainer {TRAINER}.")
    try:
        return cls(**given)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{document['kind']} does not fit: {error}") from error


def _class_of(kind: Any) -> type:
    if not isinstance(kind, str) or not re.fullmatch(r"[a-z_]+(/[a-z0-9_]+)?(:[a-z]+)?", kind):
        raise ValueError(f"{kind!r} is not the kind of a value.")
    try:
        module = importlib.import_module("plm." + kind.partition(":")[0].replace("/", "."))
    except ModuleNotFoundError as error:
        raise ValueError(f"there is no value of kind {kind!r}.") from error
    for cls in vars(module).values():
        if isinstance(cls, type) and getattr(cls, "kind", None) == kind:
            return cls
    raise ValueError(f"there is no value of kind {kind!r}.")


def to_json(spec: Spec) -> str:
    """The whole spec, lineage and locations included, as JSON text."""
    return json.dumps({"run_id": spec.run_id, "spec": encode(spec, identity=False)}, indent=1, sort_keys=True)


def from_json(text: str) -> Spec:
    """Read what `to_json` wrote of a run or a reading.

    Raises:
        ValueError: not JSON, not a spec, or its `run_id` is not the one of its content.
    """
    try:
        document = json.loads(text)
        spec, named = decode(document["spec"]), document["run_id"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"not a run's spec.json ({type(error).__name__}: {error}).") from error
    if getattr(spec, "run_id", None) != named:
        raise ValueError(
            f"spec.json names run {named}, but its content is that of "
            f"{getattr(spec, 'run_id', type(spec).__name__)}: it was changed."
        )
    return spec


def digest(value: Any) -> str:
    """SHA-256 of a value's identity, in hex."""
    text = json.dumps(encode(value, identity=True), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# The nouns


@dataclass(frozen=True)
class Checkpoint:
    """One moment of one run of ours."""

    kind: ClassVar[str] = "spec:checkpoint"
    run: RunSpec
    step: int


@dataclass(frozen=True)
class External:
    """A model that was trained elsewhere: a local folder, or a hub id at one commit.

    Its identity is the hash of its files, because a folder can change and a hub revision moves. Make one with
    `plm.external(path_or_id)`.
    """

    kind: ClassVar[str] = "spec:external"
    files: tuple[tuple[str, str], ...]
    """(file name, SHA-256), sorted: configuration, weights and tokenizer."""
    path: str = location()
    """The local folder that holds them."""
    name: str = location()
    """What people call it."""


Source: TypeAlias = Checkpoint | External


@dataclass(frozen=True)
class AdamW:
    """The optimizer and its learning-rate schedule.

    Weight decay acts on matrices only, never on biases and norms (as in BERT's release).
    """

    kind: ClassVar[str] = "spec:adamw"
    lr: float
    """Peak learning rate."""
    weight_decay: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip: float = 1.0
    """Largest global gradient norm."""
    warmup_steps: int = 0
    schedule: str = "linear"
    """One of `SCHEDULES`: `linear` or `cosine`, to zero at the last step; `constant`."""
    redrawn_lr: float = neutral(1.0)
    """Times `lr`: the rate of all parameters in what the init drew afresh."""

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"a learning rate of {self.lr}: it must be positive.")
        if not (self.redrawn_lr > 0 and math.isfinite(self.redrawn_lr)):
            raise ValueError(f"redrawn_lr {self.redrawn_lr}: it multiplies the learning rate and must be positive.")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"a schedule {self.schedule!r}: there are {', '.join(SCHEDULES)}.")
        if self.warmup_steps < 0 or self.weight_decay < 0 or not self.clip > 0 or not self.eps > 0:
            raise ValueError(f"{self}: warm-up and weight decay must not be negative, clip and eps must be positive.")
        object.__setattr__(self, "betas", tuple(float(b) for b in self.betas))


@dataclass(frozen=True)
class Seeds:
    """The random streams of training that belong to no other value (examples and redrawn weights have their own)."""

    kind: ClassVar[str] = "spec:seeds"
    fresh: int
    """Weights that the init does not give: the head, or the whole model from scratch."""
    order: int
    """Order of the training data."""
    noise: int
    """Dropout and masking."""


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """All that bears on a run's numbers. Make one with `plm.pretrain` or `plm.finetune`."""

    kind: ClassVar[str] = "spec:run"
    objective: Objective
    init: Init
    data: Corpus | Examples
    optim: AdamW
    duration: Duration
    batch_size: int
    """Sequences of one optimizer step, over all workers."""
    seq_len: int
    """Longest sequence, in tokens."""
    dtype: str
    """Of the computation; parameters and optimizer state are float32 always."""
    seeds: Seeds
    trainer: int = TRAINER
    trained: str = neutral("all")
    """One of `TRAINED`: `all` weights; or, on a frozen body that reads without dropout, the `head` alone, or a `probe`."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "seq_len"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) > 0):
                raise ValueError(f"{name} {getattr(self, name)!r}: it must be a positive whole number.")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype!r}: there are {', '.join(DTYPES)}.")
        if self.trained not in TRAINED:
            raise ValueError(f"trained {self.trained!r}: there are {', '.join(TRAINED)}.")
        if self.trained != "all" and self.init.kind == "inits/resume":
            raise ValueError(
                f"trained={self.trained!r} begins a training of its own: load the checkpoint instead of resuming it."
            )
        if self.trained == "probe" and self.objective.kind != "objectives/classify":
            raise ValueError(f"trained='probe' is a classifier of texts; {self.objective.kind} needs its own head.")
        if self.optim.redrawn_lr != 1 and not (self.init.redraws and self.trained == "all"):
            raise ValueError(
                f"redrawn_lr {self.optim.redrawn_lr:g}: no weight of this run is both drawn afresh and trained "
                f"({self.init.kind}, trained {self.trained!r}). Leave it at 1."
            )

    @cached_property
    def run_id(self) -> str:
        """`<objective>-<12 hex digits>`."""
        return f"{self.objective.kind.partition('/')[2]}-{digest(self)[:12]}"

    @cached_property
    def total_steps(self) -> int:
        """Optimizer steps from beginning to end."""
        # A corpus does not know its length before it is tokenised, and only epochs need it.
        examples = self.data.num_sequences if self.duration.unit == "epochs" else 1
        return self.duration.in_steps(num_examples=examples, batch_size=self.batch_size, seq_len=self.seq_len)

    @property
    def passes(self) -> int:
        """What a training step costs, in forward passes: the backward one is worth two, and stops at a frozen body.

        A linear probe costs none: it has read its texts once, before.
        """
        return {"all": 3, "head": 1, "probe": 0}[self.trained]

    def at(self, step: int) -> Checkpoint:
        """The run's weights after `step` optimizer steps; step 0 is its initialisation.

        Raises:
            ValueError: the run does not come by that step.
        """
        if not 0 <= step <= self.total_steps:
            raise ValueError(f"{self.run_id} has no step {step}: it runs from 0 to {self.total_steps}.")
        return Checkpoint(self, step)

    @property
    def final(self) -> Checkpoint:
        """The run's last weights."""
        return self.at(self.total_steps)

    def annealed(self, step: int, *, over: int | None = None) -> RunSpec:
        """The run cooled down from `step`: its rate falls linearly to zero in `over` more steps.

        A checkpoint in the middle of a schedule is handicapped by its learning rate. The trunk keeps a constant rate, and
        each of its steps that is to be judged is cooled down by a run of its own (Hägele et al. 2024, section 3).

        Args:
            over: Steps of the cool-down; None: a fifth of the steps before it.

        Raises:
            ValueError: the run has no such step, or its rate falls already.
        """
        if self.optim.schedule != "constant":
            raise ValueError(
                f"{self.run_id} has a {self.optim.schedule} schedule: only a run at a constant rate can be cooled down "
                "from any step. Pretrain it with schedule='constant'."
            )
        from plm.inits.resume import Resume

        if over is None:
            over = max(1, step // 5)
        return dataclasses.replace(
            self,
            init=Resume(self.at(step)),
            duration=Duration(over, "steps"),
            optim=dataclasses.replace(self.optim, schedule="linear", warmup_steps=0),
        )

    def parents(self) -> tuple[Checkpoint, ...]:
        """The checkpoints of other runs that this one starts from or learns from."""
        return tuple(dict.fromkeys(checkpoints([getattr(self, f.name) for f in dataclasses.fields(self)])))

    def to_json(self) -> str:
        """The whole spec, lineage and locations included, as JSON text."""
        return to_json(self)

    @staticmethod
    def from_json(text: str) -> RunSpec:
        """Read what `to_json` wrote.

        Raises:
            ValueError: as `from_json`; or it is the spec of a reading.
        """
        spec = from_json(text)
        if not isinstance(spec, RunSpec):
            raise ValueError(f"{spec.run_id} is no training, but a reading of one.")
        return spec


def checkpoints(values: Any) -> Iterator[Checkpoint]:
    """Those that stand somewhere in some values, not in one another's lineage."""
    for value in values:
        if isinstance(value, Checkpoint):
            yield value
        elif isinstance(value, tuple):
            yield from checkpoints(value)
        elif dataclasses.is_dataclass(value):
            yield from checkpoints([getattr(value, f.name) for f in dataclasses.fields(value)])
