"""The search for a teacher: its space is conditional, its controls come first, and what is ahead early does not fool it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from planted import finish

from plm import RunSpec, Store
from plm.inheritance import Constant
from plm.objectives.inherit import Inherit
from search_spaces import space as spaces
from search_spaces import teachers
from search_spaces.space import questions
from sweeps.engine import launch
from sweeps.engine.found import learned, tried
from sweeps.engine.setting import setting
from sweeps.engine.worker import Outcome
from sweeps.inheritance import sweep

pytestmark = pytest.mark.usefixtures("no_view")
POINT = {"text": "world", "student": "bert-4x128", "duration": "steps:800"}


def test_only_with_a_teacher_is_asked_how_it_teaches() -> None:
    def asked(trial: Any) -> dict[str, Any]:
        return teachers.inheriting(trial, POINT)

    assert set(questions(asked)) == {"lr", "teacher", "schedule", "temperature", "top_k", "tail", "guided"}
    for trial in spaces.drawn(asked, 64):
        answers = trial.answers
        assert set(answers) - {"lr", "teacher"} == (
            set() if answers["teacher"] == "none"
            else {"schedule", "temperature", "top_k", "tail", *(["guided"] if answers["schedule"] != "constant" else [])}
        )  # fmt: skip


def test_a_student_is_the_same_run_but_for_its_objective() -> None:
    """Initial weights, batches and seeds: control and arm are comparable; one teacher for all seeds."""
    alone = sweep.run(**POINT, lr=1e-3, teacher="none", seed=1)
    arm = sweep.run(**POINT, lr=1e-3, teacher="bert-2x64@400", guided=0.25, top_k=10, seed=1)
    assert isinstance(alone, RunSpec)
    assert isinstance(arm, RunSpec)
    assert isinstance(arm.objective, Inherit)
    assert replace(arm, objective=arm.objective.base) == alone
    assert str(arm.objective.rate.guided) == "steps:200"  # type: ignore[attr-defined]
    ((teacher,),) = [arm.parents()]
    assert teacher.step == teacher.run.total_steps == 400
    assert sweep.run(**POINT, lr=1e-3, teacher="bert-2x64@400", seed=2).parents() == (teacher,)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bert-2x65@400", "the width is a multiple of 32"),
        ("bert-0x64@5", "bert-0x64' is not a model here"),
        ("gpt-2x64@60", "gpt-2x64' is not a model here: write bert-LAYERSxWIDTH"),
        ("berta", "unknown model"),
    ],
)
def test_an_unknown_teacher_is_refused(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        teachers.teacher(name, "world")


def test_epochs_are_refused() -> None:
    """How long one is, is not known before the text is tokenised; a single step had been taken for thirty of them."""
    with pytest.raises(ValueError, match=r"epochs:30: .* in steps or tokens"):
        teachers.pretrained("bert-4x128", "world", "epochs:30", seed=0)
    with pytest.raises(ValueError, match="'gpt-4x128' is not a model here"):
        teachers.chains("bert-2x64>bert-4x128").read("bert-2x64>gpt-4x128")


def crossing(spec: RunSpec, share: float) -> float:
    """The loss after a share of the steps: a constant rate is far ahead early, and ends behind those without a teacher."""
    tuned = 0.1 * abs(math.log(spec.optim.lr / 1e-3))
    if not isinstance(spec.objective, Inherit):
        return 5 - 2 * share + tuned
    if isinstance(spec.objective.rate, Constant):
        return 3.5 - 0.2 * share + tuned
    return 4 - 1.2 * share + tuned


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> list[RunSpec]:
    """Runs are not trained: they end at their planted loss. Which were, in order."""
    done: list[RunSpec] = []

    def execute(
        spec: RunSpec, store: Store, execution: Any, *, rungs: Any = None, should_stop: Callable[[], bool]
    ) -> Outcome:
        early = rungs is not None and crossing(spec, rungs.shares[0]) > 4.5
        done.append(spec)
        if not early:
            lines = [{"step": n * spec.total_steps // 4, "val/loss": crossing(spec, n / 4)} for n in (1, 2, 4)]
            finish(spec, store, {"val/loss": crossing(spec, 1)}, lines)
        return Outcome(spec.run_id, "pruned" if early else "done", {"val/loss": crossing(spec, 1)})

    monkeypatch.setattr("sweeps.engine.local.execute", execute)
    monkeypatch.setattr("sweeps.engine.search_figures.save", lambda *_: [])
    return done


def test_what_is_ahead_early_does_not_fool_the_search(planted: list[RunSpec], store: Store) -> None:
    """The controls are tried first and at every learning rate, and the best of them is measured again."""
    question = replace(sweep, search=replace(sweep.search, confirmed=1))
    narrowed = {
        "lr": "0.0005,0.001",
        "schedule": "linear,constant",
        "top_k": "10",
        "tail": "True",
        "temperature": "2.0",
    }
    words = ["--store", str(store.root), "--local", "--num-trials", "8", *(f"{n}={v}" for n, v in narrowed.items())]
    assert launch.main(question, words) == 0
    trials = tried(setting(question, narrowed), store)
    assert len(trials) == 8
    assert [t.point["teacher"] for t in trials[:2]] == ["none"] * 2
    assert {t.point["lr"] for t in trials[:2]} == {5e-4, 1e-3}
    reported = {t.point["teacher"] == "none": t for t in trials if t.reported}
    assert reported[True].point["lr"] == 1e-3
    assert reported[False].point["schedule"] == "linear"
    panel = learned(setting(question, narrowed), trials, store)
    assert panel is not None
    control, arm = panel.lines
    assert (control.name, arm.name) == (str(reported[True].number), str(reported[False].number))
    assert control.is_control
    assert arm.control == control.name
    assert len(control.tracks) == len(arm.tracks) == 2
    text = (store.root / "sweeps/inheritance/table.md").read_text()
    assert "## what is saved, at fresh seeds" in text
    assert (store.root / "sweeps/inheritance/figures/all/learning-evaluations.png").is_file()
    assert any(t.point.get("schedule") == "constant" for t in trials)
    before = len(planted)
    assert launch.main(question, words) == 0
    assert len(planted) == before


def test_a_control_is_in_the_plan_of_one_trial(planted: list[RunSpec], store: Store) -> None:
    assert launch.main(sweep, ["--store", str(store.root), "--local", "--num-trials", "1"]) == 0
    (trial,) = tried(setting(sweep, {}), store)
    assert trial.point["teacher"] == "none"
    assert len(trial.reported) == 2


def test_no_control_is_given_up_early(planted: list[RunSpec], store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were they raced, the one that is tuned best might be lost, and the teacher's gain be too large."""
    tried_before: dict[float, int] = {}

    def each_worse_than_the_last(spec: RunSpec, share: float) -> float:
        return (
            3.0 + 0.1 * tried_before.setdefault(spec.optim.lr, len(tried_before)) - isinstance(spec.objective, Inherit)
        )

    monkeypatch.setitem(globals(), "crossing", each_worse_than_the_last)
    question = replace(sweep, search=replace(sweep.search, races=(1,), reduction=2, confirmed=1))
    words = ["--store", str(store.root), "--local", "--num-trials", "10"]
    assert launch.main(question, words) == 0
    trials = tried(setting(question, {}), store)
    controls = [t for t in trials if t.point["teacher"] == "none"]
    assert len(controls) > 2
    assert {t.outcome for t in controls} == {"done"}
    assert any(t.reported for t in controls)


def test_a_smoke_run_teaches_a_student(planted: list[RunSpec], store: Store) -> None:
    """Controls come first, and two trials would both be such."""
    assert launch.main(sweep, ["--store", str(store.root), "--local", "--smoke"]) == 0
    assert any(isinstance(spec.objective, Inherit) for spec in planted)
