"""The questions about inheritance: control and arm differ in nothing but who teaches, and all read with one tokenizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plm import RunSpec
from plm.data.corpus import Corpus
from plm.data.examples import Examples
from plm.data.mixture import Mixture
from plm.inheritance import Several, Uniform
from plm.objectives.inherit import Inherit
from plm.spec import Checkpoint
from search_spaces import teachers
from search_spaces.axis import Axis
from sweeps import (
    inheritance_data,
    inheritance_domains,
    inheritance_downstream,
    inheritance_effect,
    inheritance_ladder,
    inheritance_smoothing,
)
from sweeps.engine.sweep import Sweep, shrunk

PINNED = {
    "mlm-ead4a7e52b2e": lambda: teachers.pretrained("bert-4x128", "world", "steps:1000", seed=1),
    "mlm-c56ab3ca5b39": lambda: teachers.pretrained("bert-2x64", "world", "steps:600", seed=teachers.TEACHER_SEED),
    "mlm-5c0d8866ed9b": lambda: teachers.pretrained(
        "bert-4x128", "world", "tokens:512000", seed=1, lr=3e-4, batch_size=8
    ),
    "inherit-66f25684b2c4": lambda: teachers.taught(
        teachers.pretrained("bert-4x128", "world", "steps:1000", seed=1), teachers.teacher("bert-2x64@600", "world")
    ),
}


@pytest.mark.parametrize("run_id", PINNED)
def test_what_was_asked_before_is_the_same_run(run_id: str) -> None:
    assert PINNED[run_id]().run_id == run_id


def asked(sweep: Sweep, **chosen: Any) -> RunSpec:
    """The run of a cell: the first value of each axis but for those chosen."""
    first = {n: axis.values[0] if isinstance(axis, Axis) else axis for n, axis in sweep.grids[0].items()}
    spec = sweep.run(**{**first, **chosen})
    assert isinstance(spec, RunSpec)
    return spec


ARMS = [
    (inheritance_effect.sweep, {"arm": "none"}, {"arm": "constant:10+tail"}),
    (inheritance_data.sweep, {"taught_on": "none", "reads": "B"}, {"taught_on": "A", "reads": "B"}),
    (inheritance_ladder.sweep, {"schedule": "none"}, {"schedule": "linear"}),
    (inheritance_smoothing.sweep, {"control": "none"}, {"control": "0.1"}),
    (inheritance_smoothing.sweep, {"control": "none"}, {"control": "teacher"}),
    (inheritance_domains.sweep, {"teacher": "none"}, {"teacher": "bert-2x64@600"}),
    (
        inheritance_domains.sweep,
        {"teacher": "none", "second": "world:field", "part": "1/64"},
        {"teacher": "bert-2x64@600", "second": "world:field", "part": "1/64"},
    ),
]


@pytest.mark.parametrize(("sweep", "control", "arm"), ARMS)
def test_control_and_arm_differ_in_who_teaches(sweep: Sweep, control: dict[str, Any], arm: dict[str, Any]) -> None:
    alone, taught = asked(sweep, **control), asked(sweep, **arm)
    assert not isinstance(alone.objective, Inherit)
    assert isinstance(taught.objective, Inherit)
    assert replace(taught, objective=taught.objective.base) == alone
    cell = {**dict.fromkeys(sweep.axes, "x"), **arm}
    assert sweep.baseline(cell) == cell | {sweep.learning: "none"}


def test_an_arm_is_what_it_says() -> None:
    found = asked(inheritance_effect.sweep, arm="constant:10+tail").objective
    assert isinstance(found, Inherit)
    assert (found.rate.kind, found.top_k, found.tail) == ("inheritance:constant", 10, True)
    whole = asked(inheritance_effect.sweep, arm="linear").objective
    assert isinstance(whole, Inherit)
    assert (whole.rate.kind, whole.top_k, whole.tail) == ("inheritance:linear", 0, False)


def test_halves_share_no_document_and_parts_lie_in_each_other() -> None:
    student, other = (asked(inheritance_data.sweep, reads="B", taught_on=half) for half in ("A", "B"))
    theirs = [spec.parents()[0].run.data for spec in (student, other)]
    assert [data.part for data in (student.data, *theirs) if isinstance(data, Corpus)] == [(1, 2), (0, 2), (1, 2)]
    assert [teachers.part(name) for name in ("all", "1/16", "1/1")] == [(0, 1), (0, 16), (0, 1)]


def test_smoothing_needs_no_model() -> None:
    spec = asked(inheritance_smoothing.sweep, control="0.2")
    assert isinstance(spec.objective, Inherit)
    assert (spec.objective.teacher, spec.objective.temperature, spec.parents()) == (Uniform(), 1.0, ())


def test_two_domains_have_a_teacher_each() -> None:
    """In equal shares; the text that was pretrained on is evaluated beside, and its model is where both arms begin."""
    spec = asked(inheritance_domains.sweep, teacher="bert-2x64@600", domain="world:home", second="world:field")
    assert isinstance(spec.data, Corpus)
    assert isinstance(spec.data.text, Mixture)
    assert spec.data.weights == (0.5, 0.5)
    assert isinstance(spec.objective, Inherit)
    assert isinstance(spec.objective.teacher, Several)
    read = [c.run.data.texts[0].name for c in spec.objective.teacher.members]  # type: ignore[union-attr]
    assert read == [text.name for text in spec.data.texts] == ["world:home", "world:field"]
    (general,) = [c.run for c in spec.parents() if c not in spec.objective.teacher.members]
    assert spec.init.origin == general.final
    assert isinstance(general.data, Corpus)
    assert spec.data.beside == general.data.texts
    several = asked(inheritance_domains.sweep, text="world+world:stories", domain="world:home")
    assert isinstance(several.data, Corpus)
    assert sorted(text.name for text in several.data.beside) == [
        "world",
        "world:stories",
    ]  # each a perplexity of its own
    both = {"domain": "world:home", "second": "world:home"}
    first = {n: axis.values[0] for n, axis in inheritance_domains.sweep.grids[0].items()}
    assert inheritance_domains.sweep.run(**{**first, **both}) is None


def test_all_texts_are_read_with_the_general_texts_tokenizer(tmp_path: Path) -> None:
    """Of the student, of its teacher, and of what it is fine-tuned on; nothing is trained to plan it."""
    folders = []
    for name in ("general", "domain"):
        folder = tmp_path / name
        folder.mkdir()
        for split in ("train", "validation"):
            (folder / f"{split}.txt").write_text(f"the {name} text of a test\n" * 20)
        folders.append(str(folder))
    spec = asked(inheritance_domains.sweep, text=folders[0], domain=folders[1], teacher="bert-2x64@60")
    runs = [spec, *(c.run for c in spec.parents())]
    assert len(runs) == 3
    assert len({run.data.vocabulary for run in runs if isinstance(run.data, Corpus)}) == 1
    read = sorted(run.data.texts[0].name for run in runs if isinstance(run.data, Corpus))
    assert read == ["domain", "domain", "general"]
    assert {(run.batch_size, run.seq_len, run.optim.betas) for run in runs} == {(256, 24, (0.9, 0.98))}


def test_a_score_is_of_a_moment_of_the_pretraining() -> None:
    spec = asked(inheritance_downstream.sweep, teacher="bert-2x64@600", at=0.25)
    assert isinstance(spec.data, Examples)
    (moment,) = spec.parents()
    assert (moment.step, moment.run.total_steps) == (250, 1000)
    assert isinstance(moment.run.objective, Inherit)


def test_a_smoke_run_has_small_teachers_too() -> None:
    """Also where there are several."""
    small = shrunk(inheritance_domains.sweep)
    spec = asked(small, teacher="bert-2x64@600", second="world:field")
    assert {c.run.total_steps for c in spec.parents()} == {2}
    assert all(isinstance(c, Checkpoint) and c.step == 2 for c in spec.parents())


def test_what_is_not_fine_tuned_has_one_size() -> None:
    """Two would be two cells, and panels, of the same pretraining."""
    axis = teachers.sizes(1000).read("500,1000")
    for task, sizes in (("none", {"none"}), ("sentiment", {500, 1000})):
        assert {size for value in axis.values for size in axis.expand(value, {"task": task})} == sizes


@pytest.mark.parametrize(
    ("axis", "text", "said"),
    [
        (teachers.parts(), "2/16", "'2/16' is no part of a text: write all, 1/16"),
        (teachers.parts(), "1/0", "'1/0' is no part of a text"),
        (teachers.arms(), "none:10", "'none:10' is no way of teaching"),
        (teachers.arms(), "linear:", "'linear:' is no way of teaching"),
        (teachers.arms(), "linear:x", "'x' says not what is kept"),
        (teachers.arms(), "quadratic", "'quadratic' is no way of teaching"),
        (teachers.smoothings(), "1.5", "'1.5' is no control"),
        (teachers.smoothings(), "0.0", "'0.0' is no control"),
        (teachers.moments(), "1.5", "'1.5' is not a share of the steps"),
    ],
)
def test_what_an_axis_does_not_have_is_refused(axis: Axis, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        axis.read(text)
