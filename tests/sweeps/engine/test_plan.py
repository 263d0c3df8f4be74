"""What is missing, in which order, and what is refused before anything starts."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from plm import Bert, Execution, RunSpec, Store, finetune, pretrain, steps, train
from plm.data.world import World
from plm.store import RunFolder
from sweeps.engine import record
from sweeps.engine.follow import Follow
from sweeps.engine.plan import Plan, plan
from sweeps.engine.schedule import BLOCKED, Schedule
from sweeps.engine.sweep import Curve, Sweep
from sweeps.reinit_grid import sweep as reinit_grid


def family(question: Sweep) -> Sweep:
    """The same question asked of a parent of ours that is still to be trained."""
    bert = Bert(
        vocab_size=len(World().vocabulary()) + 5,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        dropout=0.0,
    )
    parent = pretrain(bert, "world", duration=steps(2), seq_len=16, dtype="float32")

    def run(*, lr: float, seed: int) -> RunSpec:
        return finetune("sentiment", init=parent.final, size=8, seed=seed, lr=lr, duration=steps(1), dtype="float32")

    grid = {name: question.over[name] for name in ("lr", "seed")}  # type: ignore[call-overload]
    curve = Curve(axis="lr", position=float, label="learning rate", line="lr")
    return replace(question, run=run, over=grid, curve=curve)


def test_parents_come_first_and_once(question: Sweep, store: Store) -> None:
    planned = plan(family(question), store)
    kinds = [run_id.partition("-")[0] for run_id in planned.runs]
    assert kinds == ["mlm", "classify", "classify"]
    assert list(planned.keep.values()) == [(2,)]


def test_children_wait_for_their_parent_and_are_blocked_by_its_failure(question: Sweep, store: Store) -> None:
    schedule = Schedule(plan(family(question), store))
    parent = schedule.next()
    assert parent is not None
    assert schedule.next() is None
    assert not schedule.exhausted
    schedule.ended(parent.run_id, "failed")
    assert schedule.next() is None
    assert schedule.exhausted
    assert schedule.count(BLOCKED) == 2


def test_nothing_is_handed_out_twice(question: Sweep, store: Store) -> None:
    schedule = Schedule(plan(question, store))
    handed = [spec.run_id for spec in iter(schedule.next, None)]
    assert len(handed) == len(set(handed)) == 6
    for run_id in handed:
        schedule.ended(run_id, "done")
    assert schedule.exhausted


def test_what_another_process_has_is_left_for_last(question: Sweep, store: Store) -> None:
    schedule = Schedule(plan(question, store), store=store)
    names = list(schedule.plan.runs)
    with store.run(schedule.plan.runs[names[0]]).claim(schedule.plan.runs[names[0]]):  # as another driver does
        handed = [spec.run_id for spec in iter(schedule.next, None)]
    assert handed == [*names[1:], names[0]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the schedule's clock says; to look at two runs takes longer than it looks at a time."""
    now = [0.0]

    def monotonic() -> float:
        now[0] += 0.6
        return now[0]

    monkeypatch.setattr("sweeps.engine.schedule.time", SimpleNamespace(monotonic=monotonic))
    return now


def test_what_nobody_has_is_found_behind_all_that_others_have(
    question: Sweep, store: Store, clock: list[float]
) -> None:
    schedule = Schedule(plan(question, store), store=store)
    names = list(schedule.plan.runs)
    for name in names[:5]:
        store.run(schedule.plan.runs[name]).claim(schedule.plan.runs[name])
    handed = []
    for _ in range(3):
        spec = schedule.next()
        assert spec is not None
        handed.append(spec.run_id)
        clock[0] += 70  # a trial waits in vain
        schedule.ended(spec.run_id, "busy")
    assert handed == [names[0], names[2], names[5]], "others are looked at each time"


def test_what_others_had_is_looked_at_again(question: Sweep, store: Store, clock: list[float]) -> None:
    schedule = Schedule(plan(question, store), store=store)
    names = list(schedule.plan.runs)
    with store.run(schedule.plan.runs[names[0]]).claim(schedule.plan.runs[names[0]]):
        with store.run(schedule.plan.runs[names[1]]).claim(schedule.plan.runs[names[1]]):
            for _ in range(5):
                assert schedule.next() is not None
        clock[0] += 10
        assert schedule.state[names[0]] == "running"  # all were had by others or handed out
        schedule.ended(names[0], "busy")
        spec = schedule.next()
    assert spec is not None
    assert spec.run_id == names[1]


@pytest.mark.parametrize("damaged", [b"", b"{}", b"[]", b'{"outcome": null}', b'{"outcome": null, "holder": {}}'])
@pytest.mark.parametrize("following", [False, True])
def test_a_damaged_record_ends_no_sweep(question: Sweep, store: Store, damaged: bytes, following: bool) -> None:
    planned = plan(question, store)
    first = next(iter(planned.runs))
    planned.keep[first] = (1,)  # so that it may be followed
    schedule = Schedule(planned, store=store, follow=Follow(store) if following else None)
    store.put(f"runs/{first}/attempts/0001.json", damaged)
    spec = schedule.next()
    assert spec is not None
    assert spec.run_id == first
    with pytest.raises(ValueError, match=rf"{first}/attempts/0001.json is damaged"):
        train(spec, store=store)


@pytest.mark.parametrize("outcome", ["busy", "lost"])
def test_what_another_process_has_comes_to_its_turn_again(question: Sweep, store: Store, outcome: str) -> None:
    schedule = Schedule(plan(family(question), store), store=store)
    parent = schedule.next()
    assert parent is not None
    schedule.ended(parent.run_id, outcome)
    assert schedule.count(BLOCKED) == 0
    assert schedule.next() == parent


def test_finished_runs_are_not_missing(question: Sweep, store: Store) -> None:
    first = plan(question, store)
    train(first.runs[first.missing[0]], store=store)
    again = plan(question, store)
    assert again.missing == first.missing[1:]


def test_a_store_that_answers_late_is_asked_of_several_runs_at_a_time(
    question: Sweep, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, status = threading.Barrier(2), RunFolder.status

    def late(run: RunFolder) -> str:
        together.wait(timeout=30)
        return status(run)

    monkeypatch.setattr(RunFolder, "status", late)
    planned = plan(question, store)
    assert len(planned.missing) % 2 == 0  # the barrier lets them go in pairs
    assert len(record.collect(noted(planned, store), store)) == len(planned.cells)


def noted(planned: Plan, store: Store) -> str:
    """A sweep's name, after what was asked of it is written down."""
    record.note_cells(planned, store)
    return planned.sweep.name


def test_a_run_whose_files_were_tampered_with_is_refused(question: Sweep, store: Store) -> None:
    spec = next(iter(plan(question, store).runs.values()))
    result = train(spec, store=store).path / "result.json"
    changed = json.loads(result.read_text())
    changed["metrics"]["val/score"] = 1.0
    result.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"result.json changed after the run was finished"):
        plan(question, store)


def test_a_parent_that_lacks_the_step_is_refused(question: Sweep, store: Store) -> None:
    sweep = family(question)
    planned = plan(sweep, store)
    parent = planned.runs[next(iter(planned.keep))]
    result = train(parent, store=store, execution=Execution(keep=()))
    assert plan(sweep, store).missing == planned.missing[1:]
    for file in (result.path / "checkpoints").rglob("*"):
        if file.name == "model.safetensors":
            file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="no complete checkpoint at step 2"):
        plan(sweep, store)


def test_text_the_model_cannot_read_is_refused(encoder: str, tmp_path: Path, question: Sweep, store: Store) -> None:
    folder = tmp_path / "english"
    folder.mkdir()
    for split in ("train", "validation"):
        rows = [{"sentence": "the quick brown fox", "label": i % 2} for i in range(30)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match="does not know 100% of its tokens"):
        plan(question, store, {"task": str(folder)})


def test_two_things_of_one_name_are_refused(
    encoder: str, toy: str, tmp_path: Path, question: Sweep, store: Store
) -> None:
    other = tmp_path / Path(toy).name
    other.mkdir()
    for split in ("train", "validation"):
        (other / f"{split}.jsonl").write_text((Path(toy) / f"{split}.jsonl").read_text())
    with pytest.raises(ValueError, match="would both be called 'toy'"):
        plan(question, store, {"task": f"{toy},{other}"})


def test_smoke_asks_the_extremes_of_a_smaller_question(question: Sweep, store: Store) -> None:
    small: Plan = plan(question, store, smoke=True)
    assert {c.point["mask"] for c in small.cells} == {"00", "11"}
    assert all(spec.total_steps == 2 and spec.data.num_sequences == 16 for spec in small.runs.values())
    assert not set(small.runs) & set(plan(question, store).runs)


def test_smoke_shrinks_the_lineage(store: Store) -> None:
    small = plan(reinit_grid, store, {"task": "sentiment"}, smoke=True)
    assert all(spec.total_steps == 2 for spec in small.runs.values())
    assert sum(run_id.startswith("mlm") for run_id in small.runs) == 1


def test_a_finished_parent_that_lacks_a_step_is_planned_again(question: Sweep, store: Store) -> None:
    asked = family(question)
    parent = plan(asked, store).cells[0].spec.parents()[0].run
    train(parent, store=store)

    def run(*, lr: float, seed: int) -> RunSpec:
        spec = asked.run(lr=lr, seed=seed)
        assert spec is not None
        return replace(spec, init=replace(spec.init, origin=parent.at(1)))  # type: ignore[call-arg]

    earlier = replace(asked, run=run)
    planned = plan(earlier, store)
    assert planned.repeated == {parent.run_id: (1,)}
    assert planned.missing[0] == parent.run_id
    train(parent, store=store, execution=Execution(keep=(1,)))
    assert not plan(earlier, store).repeated
    assert parent.run_id not in plan(earlier, store).missing
