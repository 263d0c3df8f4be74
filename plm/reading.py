"""A reading: one analysis of one model, as a value with an identity and a folder of its own beside the runs.

A `RunSpec` says how weights come about; a `Reading` says what is read off weights that are there. Both are asked for,
claimed, written and found again in the same way. `plm.read` executes one.
"""

from __future__ import annotations

import io
import json
import math
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from plm.spec import Checkpoint, RunSpec, Source, checkpoints, digest, to_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from plm.analyses import Analysis, Row, Subject
    from plm.build import Cache
    from plm.store import RunFolder, Store
    from plm.train import Execution, Result
    from plm.word_statistics import Read

PREDICTS = ("MaskedLM", "CausalLM", "LMHead", "PreTraining")
"""Parts of the names of transformers' classes that have a head which predicts tokens."""
LONGEST = 512
"""Tokens that a model trained elsewhere is given at most: gold data are sentences."""


@dataclass(frozen=True)
class Reading:
    """All that bears on the numbers of an analysis."""

    kind: ClassVar[str] = "reading"
    version: ClassVar[int] = 1
    """Of how a model is loaded and how long its sequences are; a change that moves numbers raises it."""
    analysis: Analysis
    source: Source

    @cached_property
    def run_id(self) -> str:
        """`<analysis>-<12 hex digits>`."""
        return f"{self.analysis.kind.partition('/')[2]}-{digest(self)[:12]}"

    def parents(self) -> tuple[Checkpoint, ...]:
        """The checkpoint of a run of ours that is read, if it is one."""
        return tuple(dict.fromkeys(checkpoints([self.source, self.analysis])))

    def to_json(self) -> str:
        """The whole value, lineage and locations included, as JSON text."""
        return to_json(self)

    def check(self) -> None:
        """Refuse a model that cannot be looked at so, by its configuration and its history.

        Raises:
            ValueError: it has no head that the analysis needs, or as `Analysis.check`.
        """
        from plm.models import shape

        if self.analysis.head == "tokens":
            _check_predicts(self.analysis.kind, self.source)
        self.analysis.check(shape(self.source))


Spec: TypeAlias = RunSpec | Reading
"""What an engine executes."""


def read(
    reading: Reading,
    *,
    store: str | Path | Store = "./runs",
    execution: Execution | None = None,
    cache: Cache | None = None,
) -> Result:
    """Execute a reading; a finished one is answered from the store.

    In a group of processes the first one reads, and all answer alike.

    Raises:
        ValueError: the model cannot be looked at so, its checkpoint is not there, or an analysis gave no usable rows.
        Busy: another process is at it.
        Lost: another process took it over.
    """
    from plm.build import Cache
    from plm.environment import note
    from plm.parallel import group
    from plm.store import Store
    from plm.train import Execution, Result, claim, recorded

    execution, among, folder = execution or Execution(), group(), Store.at(store).run(reading)
    while among.told(not folder.done):
        attempt, busy = claim(reading, folder, among)
        if busy is None:
            with recorded(folder, attempt, execution):
                if attempt:
                    note(folder, execution, among.size)
                    attempt.finish(_files(reading, folder.store, execution, cache or Cache()))
        elif among.told(not folder.done):
            raise busy
    result = among.told(folder.result() if among.first else {})
    return Result(reading.run_id, folder.path, result["metrics"], result["seconds"])


def rows_of(folder: RunFolder) -> list[Row]:
    """The rows of a finished reading."""
    import pyarrow.parquet

    return pyarrow.parquet.read_table(io.BytesIO(folder.get("rows.parquet") or b"")).to_pylist()


def _files(reading: Reading, store: Store, execution: Execution, cache: Cache) -> dict[str, bytes]:
    import torch

    from plm.models import shape

    began, analysis = time.monotonic(), reading.analysis
    reading.check()
    subject = subject_of(reading.source, analysis.head, store, cache, torch.device(execution.device))
    with torch.no_grad():
        rows = analysis.rows(subject)
    summary = analysis.summary(rows)
    wrong = {name: value for name, value in summary.items() if not math.isfinite(value)}
    if wrong or not (rows and summary):
        raise ValueError(f"{reading.run_id}: {f'not finite: {wrong}' if wrong else 'there was nothing to score'}.")
    result = {
        "run_id": reading.run_id,
        "metrics": summary,
        "notes": ["tokens are predicted by the generator"] * (analysis.head == "tokens" and _generator(reading.source)),
        "rows": len(rows),
        "steps": 0,
        "tokens": 0,
        "flops": analysis.flops(shape(reading.source)),
        "seconds": time.monotonic() - began,
    }
    return {
        "rows.parquet": to_parquet(rows),
        "result.json": json.dumps(result, indent=1, allow_nan=False).encode(),
    }


def to_parquet(rows: list[Row]) -> bytes:
    """Rows as a table: `rows.parquet`.

    Raises:
        ValueError: rows of different columns, without an `id`, or two of one `id`.
    """
    import pyarrow as pa
    import pyarrow.parquet

    if any(row.keys() != rows[0].keys() for row in rows) or "id" not in rows[0]:
        raise ValueError(f"rows have the same columns, and an id: there is one of {sorted(rows[0])}.")
    if len({row["id"] for row in rows}) < len(rows):
        raise ValueError("two rows have the same id.")
    sink = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(rows), sink, compression="zstd")
    return sink.getvalue()


# ---------------------------------------------------------------------------------------------------------------------
# What is looked at


def subject_of(source: Source, head: str, store: Store, cache: Cache, device: torch.device) -> Subject:
    """A model as an analysis looks at it.

    Raises:
        ValueError: its checkpoint is not there or has changed, or it lacks the head.
    """
    from plm import build
    from plm.analyses import Subject
    from plm.direction import is_causal
    from plm.models import shape

    form = shape(source)
    causal = is_causal(form.model_type)
    model = _predicting(source, causal, store, cache, device) if head == "tokens" else None
    model = model or build.body(source, store, cache, device)
    return Subject(model, _tokenizer(source, store), _longest(source), causal, device, _training_text(source))


def _training_text(source: Source) -> Read | None:
    """What a model of ours was pretrained on: no document that it did not see. Of several trainings the last one's."""
    from plm.data.corpus import Corpus

    data = source.run.data if isinstance(source, Checkpoint) else None
    if not isinstance(data, Corpus):
        return None
    return data if data.slice or data.part != (0, 1) else data.text  # whole texts are kept whatever the tokenizer


def _predicting(source: Source, causal: bool, store: Store, cache: Cache, device: torch.device) -> PreTrainedModel:
    """A model with the head that predicts tokens; of an ELECTRA that was trained here its generator."""
    from plm.build import beside
    from plm.objectives.clm import CausalLM
    from plm.objectives.mlm import MaskedLM
    from plm.objectives.rtd import ReplacedTokens

    if _generator(source):
        both: Any = beside(ReplacedTokens(), source, store, cache, device)
        return both.generator
    return beside(CausalLM() if causal else MaskedLM(), source, store, cache, device)


def _longest(source: Source) -> int:
    """No longer than the model was trained on: positions beyond are untrained, though there is room for them."""
    from plm.data.examples import Examples
    from plm.models import shape

    room = shape(source).max_seq_len
    if isinstance(source, Checkpoint) and not isinstance(source.run.data, Examples):
        return min(room, source.run.seq_len)
    return min(room, LONGEST)


def _tokenizer(source: Source, store: Store) -> PreTrainedTokenizerFast:
    """The tokenizer that lies beside the weights; a copy, because truncation and padding are set in place."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from plm.build import folder
    from plm.data import tokenizer as tokenizers

    found = (
        Tokenizer.from_file(str(folder(source, store) / "tokenizer.json"))
        if isinstance(source, Checkpoint)
        else tokenizers.load(source)
    )
    own = Tokenizer.from_str(found.to_str())
    return PreTrainedTokenizerFast(tokenizer_object=own, **tokenizers.roles(own))


def _generator(source: Source) -> bool:
    """Whether a model is an ELECTRA with its generator beside it."""
    if isinstance(source, Checkpoint):
        return "generator" in source.run.objective.components
    return "ElectraForMaskedLM" not in _named(source) and _config(source).get("generator_fraction") is not None


def _check_predicts(kind: str, source: Source) -> None:
    """Refuse a model without token predictions, as far as its history or configuration tell."""
    if isinstance(source, Checkpoint):
        what = f"{source.run.run_id}, trained by {source.run.objective.kind},"
        there = source.run.objective.language is not None
    else:
        what, named = f"{source.name}, a {', '.join(_named(source)) or 'model'},", _named(source)
        there = not named or any(part in name for name in named for part in PREDICTS)
        if named == ("ElectraForPreTraining",):
            what, there = f"{source.name}, a discriminator,", _generator(source)
    if not there:
        raise ValueError(
            f"{kind} asks which token a model predicts; {what} has no head for that. Read a model that was pretrained to "
            "predict tokens (masked or causal), of an ELECTRA its generator."
        )


def _named(source: Source) -> tuple[str, ...]:
    """The classes that an external model's config.json names."""
    return tuple(_config(source).get("architectures") or ())


def _config(source: Source) -> dict[str, Any]:
    from plm.stand_ins import is_stand_in

    if isinstance(source, Checkpoint) or is_stand_in(source):
        return {}
    return json.loads((Path(source.path) / "config.json").read_text())
