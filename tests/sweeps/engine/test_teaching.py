"""What a plan's teachers cost, and which runs read stored lessons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from planted import bert, finish

from plm import Execution, RunSpec, Store, pretrain, steps, train
from plm.bucket import Bucket
from plm.inheritance import Constant, Heaviside, Linear, Rate, Several, smoothed
from plm.lessons import PART
from plm.models import shape
from plm.objectives.inherit import Inherit
from plm.objectives.mlm import MaskedLM
from plm.spec import External
from search_spaces.axis import numbers
from search_spaces.seeds import seeds
from sweeps.engine import cost, local, teaching
from sweeps.engine.launch import main
from sweeps.engine.plan import Plan, plan
from sweeps.engine.schedule import Schedule
from sweeps.engine.sweep import Curve, Sweep
from sweeps.engine.worker import Resources, execution_for

HALF = Constant(0.5)
Make = Callable[..., RunSpec]


@pytest.fixture
def plain(prose: str, encoder: str) -> Make:
    """Makes a run of forty steps."""

    def make(width: int = 16, **changes: Any) -> RunSpec:
        options = {"duration": steps(40), "seq_len": 16, "batch_size": 2, "dtype": "float32", "seed": 0} | changes
        return pretrain(bert(width), prose, vocabulary=encoder, **options)

    return make


@pytest.fixture
def student(plain: Make) -> Make:
    """Makes the like with a teacher."""

    def make(rate: Rate = HALF, top_k: int = 5, **changes: Any) -> RunSpec:
        return plain(objective=Inherit(MaskedLM(), plain(8, duration=steps(2)).final, rate, top_k=top_k), **changes)

    return make


def planned(*specs: RunSpec, store: Store) -> Plan:
    def run(*, number: float, seed: int) -> RunSpec:
        return specs[int(number) - 1]

    over = {"number": numbers(*range(1, len(specs) + 1), form="a number"), "seed": seeds(1)}
    curve = Curve(axis="number", position=float, label="number", line="number")
    return plan(Sweep(run, over=over, curve=curve, metric="val/loss"), store)


def forward(seq_len: int = 16, width: int = 8) -> float:
    return MaskedLM().flops_per_token(shape(bert(width)), seq_len) * 2 * seq_len


def test_students_that_read_the_same_share_their_lessons(student: Make) -> None:
    """Live teachers are asked by each; stored lessons are made once, for the longest, in whole parts."""
    alike = [student(Heaviside(steps(10))), student(Linear(steps(35)), top_k=9), student(Constant(0.2), lr=1e-3)]
    found = teaching.teaching(alike, teaching.stored(alike))
    assert found is not None
    assert (found.runs, found.reading) == (3, 3)
    assert found.live == pytest.approx((10 + 35 + 40) * forward())
    assert found.planned == pytest.approx(2 * PART * forward())
    assert found.bytes == round(2 * PART * 2 * 16 * 0.15 * (9 * 4 + 16))


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"batch_size": 4}, {"seq_len": 8}, {"dtype": "bfloat16"}],
    ids=lambda change: next(iter(change)),
)
def test_other_batches_are_another_group(student: Make, change: dict[str, Any]) -> None:
    """Whose lessons would not be shared: whole parts are more than the steps that are needed."""
    runs = [student(), student(**change)]
    found = teaching.teaching(runs, teaching.stored(runs))
    assert found is not None
    assert (found.reading, found.bytes) == (0, 0)
    assert found.planned == found.live


def test_all_logits_are_never_stored(student: Make, plain: Make) -> None:
    assert teaching.stored([student(top_k=0), student(top_k=0, lr=1e-3), student()]) == []
    assert teaching.teaching([plain()], []) is None


def test_lessons_are_as_wide_as_the_plan_needs(student: Make, plain: Make, store: Store) -> None:
    runs = [student(top_k=5), student(top_k=30), student(top_k=0), student(top_k=40, seed=1), plain()]
    together = planned(*runs, store=store)
    found = [execution_for(Resources(), together, spec.run_id, store) for spec in runs]
    assert [(e.teacher, e.stored_top_k) for e in found] == [
        ("stored", 30), ("stored", 30), ("live", 0), ("live", 0), ("live", 0)
    ]  # fmt: skip
    alone = execution_for(Resources(), planned(runs[0], store=store), runs[0].run_id, store)
    assert (alone.teacher, alone.stored_top_k) == ("live", 0)


def test_who_has_no_teacher_is_not_looked_for_among_the_others(
    student: Make, plain: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes a pass over the plan, at the start of each run."""
    runs = [plain(), student(), student(lr=1e-3)]
    together, passes, stored = planned(*runs, store=store), list[float](), teaching.stored

    def counted(specs: Any, room: float) -> Any:
        passes.append(room)
        return stored(specs, room)

    monkeypatch.setattr(teaching, "stored", counted)
    found = [execution_for(Resources(), together, spec.run_id, store).teacher for spec in runs[:2]]
    assert (found, len(passes)) == (["live", "stored"], 1)


def test_a_live_teacher_costs_and_stored_lessons_cost_once(
    student: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guided step is made to take three seconds, any other one; the evaluation of a run ten, once."""
    monkeypatch.setattr(
        cost, "timings", lambda specs, *_: [(1.0 + 2.0 * (teaching.taught(s) is not None), 10.0) for s in specs]
    )
    runs = [student(Heaviside(steps(33)), top_k=k) for k in (0, 5, 6)]
    found = cost.estimate(planned(*runs, store=store), store, Resources(), 1, True)
    took = [round(found.seconds[spec.run_id] - cost.TRIAL_SECONDS) - 10 for spec in runs]
    assert took == [33 * 3 + 7, 33 * 3 + 7, 40]


def test_the_work_of_a_live_teacher_is_counted(student: Make, plain: Make, store: Store) -> None:
    """As the run itself counts it, but for padding."""
    spec = student(Heaviside(steps(10)))
    assert cost.flops(spec, store) - cost.flops(plain(), store) == pytest.approx(teaching.flops(spec))
    train(spec.objective.teacher.run, store=store)  # type: ignore[attr-defined]
    assert train(spec, store=store).path.joinpath("result.json").exists()
    assert store.run(spec).result()["flops"] == pytest.approx(cost.flops(spec, store), rel=1e-6)
    stored = student(Heaviside(steps(10)), top_k=6)
    train(stored, store=store, execution=Execution(teacher="stored"))
    assert store.run(stored).result()["flops"] == pytest.approx(cost.flops(plain(), store), rel=1e-6)


class Silent:
    def started(self, run_id: str) -> None: ...

    def tick(self) -> None: ...

    def ended(self, outcome: object) -> None: ...


def test_a_plan_makes_lessons_once_and_dry_run_says_so(
    student: Make, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plm.lessons.PART", 2)
    monkeypatch.setattr("plm.taught.PART", 2)
    runs = [student(Heaviside(steps(3)), top_k=k, duration=steps(4)) for k in (3, 6)]
    together = planned(*runs, store=store)
    assert main(together.sweep, ["--store", str(store.root), "--dry-run", "--rate", "1e12"]) == 0
    said = capsys.readouterr().out
    assert "teachers of 2 runs: " in said
    assert f"{runs[0].parents()[0].run.run_id} at step 2 (1 layers of 8) teaches 2 runs" in said
    assert "with stored lessons for 2 runs that share them" in said
    schedule = Schedule(together)
    local.run(schedule, store, Resources(), Silent(), lambda: False)  # type: ignore[arg-type]
    assert schedule.succeeded
    assert [folder.name.partition("-")[2] for folder in (store.root / "teachers").iterdir()] == ["top6"]
    before = {spec.run_id: store.run(spec).result()["metrics"]["val/loss"] for spec in runs}
    assert len(set(before.values())) == 2


def test_the_user_can_ask_for_live_teachers(student: Make, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    together = planned(*(student(top_k=k) for k in (3, 6)), store=store)
    for words, said in ([], "cheaper by "), (["--live"], "for 0 runs that share them (0.0 MB): live, as is asked for"):
        assert main(together.sweep, ["--store", str(store.root), "--dry-run", "--rate", "1e12", *words]) == 0
        assert said in capsys.readouterr().out
    run_id = together.cells[0].spec.run_id
    assert execution_for(Resources(), together, run_id, store).teacher == "stored"
    assert execution_for(Resources(live=True), together, run_id, store).teacher == "live"
    assert teaching.kept_bytes(together, store) > 0 == teaching.kept_bytes(together, store, live=True)
    both = teaching.pieces(together, store, live=True)
    assert [len(both[spec.run_id]) for spec in (cell.spec for cell in together.cells)] == [1, 1]


def test_lessons_that_take_too_much_of_the_disk_are_not_stored(
    student: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two groups the second does not fit; what is made of the first changes nothing."""
    runs = [student(top_k=k, seed=seed) for seed in (0, 1) for k in (3, 6)]
    together = planned(*runs, store=store)
    (one, _) = (found := teaching.stored(runs))
    assert [len(readers) for readers in found] == [2, 2]
    room = round(1.5 * teaching._bytes(one) / teaching.SHARE)

    def disk(free: int) -> None:
        monkeypatch.setattr("sweeps.engine.teaching.shutil.disk_usage", lambda _: SimpleNamespace(free=free))

    def chosen() -> list[str]:
        return [execution_for(Resources(), together, spec.run_id, store).teacher for spec in runs]

    disk(room)
    assert chosen() == ["stored", "stored", "live", "live"]
    made = store.root / "teachers" / "0-top6"
    made.mkdir(parents=True)
    (made / "00000000-logits.arrow").write_bytes(b"0" * (room // 2))
    disk(room - room // 2)
    assert chosen() == ["stored", "stored", "live", "live"]
    disk(0)
    assert chosen() == ["live"] * 4


def test_what_is_planned_is_what_is_priced(student: Make, store: Store) -> None:
    """Of three students of forty steps one has the lessons made, in whole parts, and the others read them."""
    runs = [student(top_k=k) for k in (3, 5, 6)]
    together = planned(*runs, store=store)
    plain = sum(
        cost.flops(spec, store) - teaching.flops(spec) for spec in map(together.runs.get, together.runs) if spec
    )
    live, stored = (cost.counted(together, store, 1e9, live=way).flops for way in (True, False))
    assert live - plain == pytest.approx(3 * 40 * forward())
    assert stored - plain == pytest.approx(2 * PART * forward())
    finish(runs[0], store, {"val/loss": 1.0})
    again = cost.counted(planned(*runs, store=store), store, 1e9).flops
    two = plain - cost.flops(runs[0], store) + teaching.flops(runs[0])
    assert again - two == pytest.approx(2 * PART * forward()), (
        "what is there of the lessons is counted as if it were not"
    )


def test_what_is_done_of_a_group_still_decides(student: Make, store: Store) -> None:
    """One run that is left of two reads what the other has had made; dry-run says what will be done."""
    runs = [student(top_k=k) for k in (3, 6)]
    finish(runs[0], store, {"val/loss": 1.0})
    together = planned(*runs, store=store)
    assert execution_for(Resources(), together, runs[1].run_id, store).teacher == "stored"
    found = teaching.planned(together, store)
    assert found is not None
    assert (found.runs, found.reading) == (1, 1)


def test_who_teaches_whom_is_said_of_all_teachers(student: Make, plain: Make, store: Store) -> None:
    """Several, and one whose past is not known."""
    small, other = plain(8, duration=steps(2)), plain(4, duration=steps(2))
    far = External((("model.safetensors", "0"),), path="", name="far/away")
    both = plain(objective=Inherit(MaskedLM(), Several((small.final, other.final), "mean"), HALF, top_k=5))
    lines = teaching.said(planned(both, store=store), store)
    assert lines[0].startswith(f"{both.parents()[0].run.run_id} at step 2 (1 layers of ")
    assert all(" teaches 1 run" in line for line in lines[:2])
    assert teaching._above(far) == "; what its pretraining cost is not known and not counted"
    assert teaching.flops(both) == pytest.approx(40 * (forward() + forward(width=4)))
    assert teaching.kind(both.objective) != teaching.kind(student().objective)


def test_smoothed_labels_have_no_teacher_to_speak_of(plain: Make, store: Store) -> None:
    assert teaching.said(planned(smoothed(plain(), 0.1), store=store), store) == []


def test_copies_of_a_bucket_need_room_on_this_machine(
    student: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a teacher that is not here yet, and lessons; what the runs keep lies in the bucket."""
    monkeypatch.setattr(cost, "timings", lambda specs, *_: [(1.0, 1.0) for _ in specs])
    runs = [student(), student(lr=1e-3)]
    together, (source,) = planned(*runs, store=store), runs[0].parents()
    in_bucket = replace(store, bucket=Bucket("there"))
    lessons, weights = teaching.kept_bytes(together, in_bucket), 4 * cost.parameters(source.run)
    found = cost.estimate(together, in_bucket, Resources(), 1, True)
    assert cost.counted(together, in_bucket, 1e9).copied == found.copied == lessons + weights < found.bytes

    def disk(free: int) -> None:
        monkeypatch.setattr("sweeps.engine.cost.shutil.disk_usage", lambda _: SimpleNamespace(free=free))

    disk(found.copied)
    cost.check_space(found, in_bucket)
    with pytest.raises(ValueError, match=r"the runs would keep .* Choose another --store"):
        cost.check_space(found, store)
    disk(found.copied - 1)
    with pytest.raises(ValueError, match=r"copies of s3://there, .* Name another folder by PLM_CACHE"):
        cost.check_space(found, in_bucket)
    store.run(source.run).put_checkpoint(source.step, {"model.safetensors": b"a copy"})
    monkeypatch.undo()
    assert cost.counted(together, in_bucket, 1e9).copied == lessons
