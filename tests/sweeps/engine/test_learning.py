"""What teachers save, read off curves whose answers are known, and off the runs of a grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import exp, isnan, log, nan
from pathlib import Path

import pytest
from planted import bert, finish

from plm import Load, RunSpec, Store, external, finetune, inherit, pretrain, steps
from plm.data.corpus import Corpus
from plm.data.sources import text
from plm.inheritance import Constant, Heaviside
from plm.models import shape
from plm.objectives.classify import Classify
from plm.objectives.inherit import Inherit
from plm.objectives.mlm import MaskedLM
from search_spaces import teachers as space
from search_spaces.finetuning import durations, tasks
from search_spaces.seeds import seeds
from sweeps.engine import learning, learning_figures, spending
from sweeps.engine.launch import main
from sweeps.engine.learning import Saving, Track, reached, saved
from sweeps.engine.plan import Plan, plan
from sweeps.engine.sweep import Sweep

pytestmark = pytest.mark.usefixtures("no_view")
Make = Callable[..., RunSpec]


def track(losses: tuple[float, ...], scale: float = 1.0, teacher: float | None = None) -> Track:
    at = tuple(float(step) for step in range(10, 10 * len(losses) + 1, 10))
    return Track(at, losses, {what: tuple(scale * s for s in at) for what in learning.COSTS}, teacher, None, {}, {})


def share(taught: Track, alone: Track, what: str) -> float:
    found = saved(taught, alone, what)
    assert found is not None
    assert not found.bound
    return found.share


# Reading curves


@pytest.mark.parametrize(("level", "step"), [(5.0, 10), (4.0, 10), (3.5, 15), (3.0, 20), (2.6, 25), (2.1, None)])
def test_a_loss_is_reached_between_two_points(level: float, step: float | None) -> None:
    """The first time, also where the loss rises again afterwards."""
    found = reached((10.0, 20.0, 30.0, 40.0), (4.0, 3.0, 2.2, 2.9), level)
    assert (found and found.step) == (None if step is None else pytest.approx(step))
    assert found is None or found.bound is (level > 4.0)


def test_a_teacher_saves_the_steps_to_where_the_control_ends() -> None:
    """The control's end is reached at 15 of 30."""
    taught, alone = track((3.5, 2.5, 2.0)), track((4.0, 3.5, 3.0))
    assert share(taught, alone, "alone") == pytest.approx(0.5)
    assert saved(alone, alone, "alone") == (0, "")


def test_a_teacher_that_holds_back_costs_steps() -> None:
    """Where the arm ends after 30 steps, the control was after 20: half as many again."""
    assert share(track((3.0, 2.9, 2.8)), track((4.0, 2.8, 2.0)), "alone") == pytest.approx(-0.5)


def test_what_the_teacher_costs_is_counted() -> None:
    """Steps that cost twice as much save nothing."""
    assert share(track((3.5, 2.5, 2.0), scale=2.0), track((4.0, 3.5, 3.0)), "forward") == pytest.approx(0.0)


def test_what_the_first_point_has_already_is_a_bound() -> None:
    """It was reached before; how long before, nobody has read."""
    ahead, alone = track((2.8, 2.5, 2.0)), track((4.0, 3.5, 3.0))
    assert saved(ahead, alone, "alone") == (pytest.approx(2 / 3), "≥")
    assert saved(alone, ahead, "alone") == (pytest.approx(-2.0), "≤")
    assert saved(track((2.0,)), track((4.0,)), "alone") == (0, "≥"), "one budget says no more than who is ahead"
    assert saved(track((2.0, 3.0)), track((2.5, 2.9)), "alone") is None, "both were beyond their ends before"
    assert learning.passes(track((2.8, 2.5), teacher=3.0)) == (10, True)


@pytest.mark.parametrize("factor", [0.6, 1.4, 1.7])
@pytest.mark.parametrize("budgets", [(500, 1000, 2000), (500, 2000), (500, 2000, 8000)])
def test_frontiers_that_fall_by_a_power_law_lie_as_far_apart_as_they_do(
    factor: float, budgets: tuple[int, ...]
) -> None:
    """A teacher as good as so many times the steps saves 1 - 1/factor, however far apart the budgets are."""

    def frontier(times: float) -> Track:
        losses = tuple(2 + 3 * (times * steps / 500) ** -0.3 for steps in budgets)
        return Track(budgets, losses, {what: tuple(map(float, budgets)) for what in learning.COSTS}, None, None, {}, {})

    found = saved(frontier(factor), frontier(1.0), "alone", logarithmic=True)
    assert found is not None
    assert 1 - found.share == pytest.approx(1 / factor, rel=0.1)
    crossed = learning.passes(replace(frontier(1.0), teacher=2 + 3 * 3**-0.3), logarithmic=True)
    assert crossed is not None
    assert crossed.step == pytest.approx(1500, rel=0.1)
    straight = saved(frontier(factor), frontier(1.0), "alone")
    assert straight is not None
    assert abs(straight.share - (1 - 1 / factor)) > abs(found.share - (1 - 1 / factor))


def test_seeds_that_bound_what_is_saved_have_no_interval() -> None:
    told = learning._shares
    known, least, most = Saving(0.5, ""), Saving(0.7, "≥"), Saving(0.1, "≤")
    assert told([known, Saving(0.3, "")], 2).startswith("+40% [")
    assert told([known, least], 2) == "≥ +60%"
    assert told([known, most], 3) == "≤ +30% (2 of 3)"
    assert told([least, most], 2) == told([], 2) == ""


def test_a_student_passes_its_teacher() -> None:
    assert learning.passes(track((4.0, 3.0, 2.0), teacher=2.5)) == (25, False)
    assert learning.passes(track((4.0, 3.0, 2.0), teacher=1.5)) is None
    assert learning.passes(track((4.0, 3.0, 2.0))) is None


# What runs cost


@pytest.fixture
def plain(prose: str, encoder: str) -> Make:
    def make(width: int = 16, length: int = 40, seed: int = 0) -> RunSpec:
        return pretrain(
            bert(width), prose, vocabulary=encoder, duration=steps(length), seq_len=16, batch_size=2, dtype="float32", seed=seed
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def teacher_folder(encoder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A masked language model that was trained elsewhere."""
    import shutil

    import torch
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("elsewhere") / "teacher"
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForMaskedLM(BertConfig(vocab_size=45, max_position_embeddings=32, **sizes)).save_pretrained(folder)
    for path in Path(encoder).iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            shutil.copy(path, folder)
    return str(folder)


def test_a_teachers_cost_is_its_passes_and_its_past(plain: Make) -> None:
    """Ten guided steps; a teacher of twenty steps, itself taught for five of them by one of eight."""
    small = plain(4, 8)
    middle = inherit(plain(8, 20), small.final, Heaviside(steps(5)))
    large = inherit(plain(16, 40), middle.final, Heaviside(steps(10)))
    found = spending.costs(large, [4, 40])

    def forward(width: int) -> float:
        return 2 * 16 * MaskedLM().flops_per_token(shape(bert(width)), 16)

    assert found["alone"] == pytest.approx((3 * 4 * forward(16), 3 * 40 * forward(16)))
    assert found["forward"] == pytest.approx(
        tuple(a + n * forward(8) for a, n in zip(found["alone"], (4, 10), strict=True))
    )
    past = 3 * 20 * forward(8) + 5 * forward(4) + 3 * 8 * forward(4)
    assert found["whole"] == pytest.approx(tuple(f + past for f in found["forward"]))
    assert spending.costs(plain(), [40])["whole"] == spending.costs(plain(), [40])["alone"]


def test_guidance_ends_at_a_step_of_the_whole_training(plain: Make) -> None:
    """A run that goes on from step 30 of another is at step 30: its teacher, done at 10, has no share in it."""
    trunk = replace(plain(16, 40), optim=replace(plain().optim, schedule="constant"))
    cooled = inherit(trunk, plain(8, 20).final, Heaviside(steps(10))).annealed(30, over=8)
    assert isinstance(cooled.objective, Inherit)
    per_step = 2 * 16 * MaskedLM().flops_per_token(shape(bert(8)), 16)

    def extra(spec: RunSpec, *at: int) -> list[float]:
        found = spending.costs(spec, at)
        return [forward - alone for alone, forward in zip(found["alone"], found["forward"], strict=True)]

    assert extra(cooled, 8) == pytest.approx([10 * per_step]), "all of them before it went on"
    earlier = inherit(trunk, plain(8, 20).final, Heaviside(steps(10))).annealed(6, over=8)
    assert extra(earlier, 2, 8) == pytest.approx([8 * per_step, 10 * per_step])


def test_what_is_cooled_down_took_its_trunk_too(plain: Make, store: Store) -> None:
    """Thirty steps and eight are a budget of 38, and its teacher's past is paid once."""
    trunk = replace(plain(16, 40), optim=replace(plain().optim, schedule="constant"))
    taught = inherit(trunk, plain(8, 20).final, Heaviside(steps(10)))
    cooled = taught.annealed(30, over=8)
    whole, part = spending.costs(taught, [38]), spending.costs(cooled, [8])
    assert all(part[what] == pytest.approx(whole[what]) for what in whole)
    finish(cooled, store, {"val/loss": 3.0}, [{"step": 8, "speed/tokens_per_second": 500.0}])
    finish(taught, store, {"val/loss": 3.0}, [{"step": 30}])
    finish(plain(8, 20), store, {"val/loss": 3.0}, [{"step": 20}])
    found = spending.hours(cooled, [8], store)
    assert found["hours"][0] * 3600 == pytest.approx(32 * (30 / 1000 + 8 / 500))
    assert found["hours whole"][0] * 3600 == pytest.approx(32 * (30 / 1000 + 8 / 500 + 20 / 1000))
    assert learning.across([cooled], store).steps == (38,)


def test_hours_are_those_of_the_steps_that_were_taken(plain: Make, store: Store) -> None:
    """Guided steps come first, and take longer."""
    spec = plain(16, 40)
    lines = [{"step": 10, "speed/tokens_per_second": 500.0}, {"step": 20}, {"step": 40}]
    finish(spec, store, {"val/loss": 3.0}, lines)
    found = spending.hours(spec, [5, 10, 30, 40], store)["hours"]
    assert [32 * n / 1000 for n in (10, 20, 40, 50)] == pytest.approx([3600 * each for each in found])
    assert isnan(spending.hours(plain(16, 60), [5], store)["hours"][0]), "nobody has taken them"


def test_a_model_that_teaches_twice_is_paid_once(plain: Make) -> None:
    small = plain(4, 8)
    middle = inherit(plain(8, 20), small.final, Constant())
    both = inherit(plain(16, 40), middle.at(10), Constant())
    assert {(c.run.run_id, c.step) for c in spending.lineage(*both.parents())} == {
        (middle.run_id, 10),
        (small.run_id, 8),
    }


# A grid


@pytest.fixture
def question(plain: Make) -> Sweep:
    def run(*, duration: str, schedule: str, seed: int) -> RunSpec:
        alone = plain(16, int(duration.partition(":")[2]), seed)
        return space.taught(alone, plain(8, 20).final, schedule=schedule, guided=0.5, top_k=10)

    return Sweep(
        run,
        over={"duration": durations("steps:40"), "schedule": space.schedules("none", "linear"), "seed": seeds(2)},
        baseline=lambda cell: cell | {"schedule": "none"},
        arms=("schedule",),
        learning="schedule",
        metric="val/loss",
    )


def stage(planned: Plan, store: Store, curve: Callable[[RunSpec, float], float]) -> None:
    """A finished run for each spec, with eight evaluations of a planted curve."""
    for spec in planned.runs.values():
        lines = [
            {"step": step, "val/loss": curve(spec, step / spec.total_steps)}
            for step in range(spec.total_steps // 8, spec.total_steps + 1, spec.total_steps // 8)
        ]
        said = {"teacher": {"loss": 3.2, "covered_mass": 0.5}} if isinstance(spec.objective, Inherit) else {}
        finish(spec, store, {"val/loss": curve(spec, 1.0)}, lines, **said)


def falling(spec: RunSpec, share: float) -> float:
    """A control comes down from 4 to 3; with a teacher twice as fast; the teacher ends at 3.2; a seed moves it all."""
    if spec.seeds.order == 0 and spec.total_steps == 20:
        return 4.2 - share
    fast = isinstance(spec.objective, Inherit)
    return max(4 - share * (1 + fast), 2.5) + 0.05 * spec.seeds.order


def test_a_grid_says_what_is_saved_and_where_the_teacher_is_passed(question: Sweep, store: Store) -> None:
    planned = plan(question, store)
    stage(planned, store, falling)
    (panel,) = learning.panels(plan(question, store), store)
    assert [(line.name, line.is_control, len(line.tracks)) for line in panel.lines] == [
        ("none", True, 2),
        ("linear", False, 2),
    ]
    head, rows = learning.table(panel, "schedule")
    assert len(head) == len(rows[0]) == len(rows[1])
    assert rows[0][1:] == ["2", rows[0][2], "", "", *[""] * len(learning.COSTS)]
    assert rows[1][3] == "16"  # 16 of the first seed's 40 steps, 17 of the second's, rounded to even
    assert rows[1][4] == "0.500"
    assert rows[1][5].startswith("+50%")
    with_passes, with_past, hours, hours_with_past = (int(cell.partition("%")[0]) for cell in rows[1][6:])
    assert 50 > with_passes > with_past
    assert hours == 50, "all runs are said to have been as fast"
    assert hours_with_past == 0  # twenty steps, and the teacher's twenty, against forty


def test_budgets_are_read_at_their_ends(question: Sweep, store: Store) -> None:
    """Whole runs of 40 and 80 steps: with a teacher those of 40 are where those of 80 are without."""
    chosen = {"duration": "steps:40,steps:80"}
    planned = plan(question, store, chosen)

    def end(spec: RunSpec, share: float) -> float:
        return 3.0 - 0.01 * spec.total_steps * (1 + isinstance(spec.objective, Inherit)) + 9 * (1 - share)

    stage(planned, store, end)
    both = [cell.run for cell in planned.cells if cell.point["schedule"] == "linear" and cell.run.seeds.order == 0]
    assert [learning.across(runs, store).steps for runs in (both, both[::-1])] == [(40, 80)] * 2
    found = learning.panels(plan(question, store, chosen), store)
    assert [panel.over for panel in found] == ["evaluations", "evaluations", "budgets"]
    assert {len(track.steps) for line in found[-1].lines for track in line.tracks.values()} == {2}
    for cell in planned.cells:
        if cell.labels["duration"] == "steps:80" and cell.labels["schedule"] == "linear":
            (store.root / "runs" / cell.run.run_id / "DONE").unlink()
    unfinished = learning.panels(plan(question, store, chosen), store)[-1]
    assert {len(track.steps) for track in unfinished.lines[-1].tracks.values()} == {1}, "an end, no evaluations"
    assert [panel.title for panel in found] == ["duration steps:40", "duration steps:80", "all"]
    head, rows = learning.table(found[-1], "schedule")
    assert rows[1][head.index("steps saved")].startswith("+50%")


def test_the_figure_shows_arms_teachers_and_crossings(question: Sweep, store: Store) -> None:
    stage(plan(question, store), store, falling)
    (panel,) = learning.panels(plan(question, store), store)
    figure = learning_figures.draw([panel])
    ax, below = figure.axes
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["none (n = 2)", "linear (n = 2)", "a teacher's perplexity"]
    crossings = next(line for line in ax.lines if line.get_marker() == "x")
    assert list(crossings.get_xdata()) == pytest.approx([16, 17])  # type: ignore[arg-type]
    assert list(crossings.get_ydata()) == pytest.approx([exp(3.2)] * 2)  # type: ignore[arg-type]
    apart = below.lines[0]
    assert list(apart.get_xdata()) == list(range(5, 41, 5))
    shares = [n / 8 for n in range(1, 9)]
    expected = [max(4 - 2 * share, 2.5) - (4 - share) for share in shares]  # of both seeds, each from its own control
    assert list(apart.get_ydata()) == pytest.approx(expected)  # type: ignore[arg-type]
    assert not below.collections, "both seeds are as far from their controls"


def test_how_far_an_arm_is_from_its_control_has_an_interval() -> None:
    """.1 and .3 nats below: .2 and t times a standard error of .1."""
    control = learning.Line("none", "none", {0: track((4.0, 3.5)), 1: track((4.1, 3.6))})
    arm = learning.Line("linear", "none", {0: track((3.9, 3.4)), 1: track((3.8, 3.3))})
    below = learning_figures.draw([learning.Panel("all", learning.EVALUATIONS, (control, arm))]).axes[-1]
    assert list(below.lines[0].get_ydata()) == pytest.approx([-0.2, -0.2])  # type: ignore[arg-type]
    (band,) = below.collections
    extent = band.get_paths()[0].get_extents()  # type: ignore[attr-defined]
    assert (extent.y0, extent.y1) == pytest.approx((-0.2 - 12.706 * 0.1, -0.2 + 12.706 * 0.1), abs=1e-3)


def test_without_a_common_step_there_is_no_place_for_differences() -> None:
    arm, control = track((3.9, 3.4)), track((4.0, 3.5))
    lines = (
        learning.Line("none", "none", {0: control}),
        learning.Line("linear", "none", {0: replace(arm, steps=tuple(step + 5 for step in arm.steps))}),
    )
    assert len(learning_figures.draw([learning.Panel("all", learning.BUDGETS, lines)]).axes) == 1


def test_many_panels_stand_in_rows() -> None:
    """Four: three and one, each with its differences below it, and nothing in the places that are left."""
    lines = (
        learning.Line("none", "none", {0: track((4.0, 3.5))}),
        learning.Line("linear", "none", {0: track((3.9, 3.4))}),
    )
    figure = learning_figures.draw([learning.Panel(f"part {i}", learning.EVALUATIONS, lines) for i in range(4)])
    titled = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titled == ["part 0", "part 1", "part 2", "part 3"]
    assert len(figure.axes) == 8
    assert len({ax.get_ylim() for ax in figure.axes}) == 2, "one scale of all curves, and one of all differences"


def test_an_arm_that_is_far_off_does_not_flatten_the_others() -> None:
    """One that starts four nats above its control, and one a twentieth of a nat below."""
    control = learning.Line("none", "none", {0: track((4.0, 3.5, 3.0))})
    near = learning.Line("near", "none", {0: track((3.95, 3.45, 2.95))})
    far = learning.Line("far", "none", {0: track((8.0, 3.6, 3.0))})

    def scale(*lines: learning.Line) -> str:
        panel = learning.Panel("all", learning.EVALUATIONS, lines)
        return learning_figures.draw([panel]).axes[-1].get_yscale()

    assert scale(control, near) == "linear"
    assert scale(control, near, far) == "symlog"
    assert len(learning_figures.draw([learning.Panel("all", learning.EVALUATIONS, (control,))]).axes) == 1


def test_a_call_writes_table_and_figure(question: Sweep, store: Store) -> None:
    stage(plan(question, store), store, falling)
    assert main(question, ["--store", str(store.root), "--local"]) == 0
    (folder,) = (store.root / "sweeps").iterdir()
    assert (folder / "figures/all/learning-evaluations.png").is_file()
    assert "steps saved" in (folder / "table.md").read_text()


def test_what_an_external_teacher_cost_is_not_known(plain: Make, store: Store, teacher_folder: str) -> None:
    """Also where it taught the teacher; its forward passes are."""
    far = external(teacher_folder)
    direct = inherit(plain(16, 40), far, Heaviside(steps(10)))
    later = inherit(plain(16, 40), inherit(plain(8, 20), far, Constant()).final, Heaviside(steps(10)))
    for spec in (direct, later):
        found = spending.costs(spec, [40])
        assert found["forward"][0] > found["alone"][0]
        assert isnan(found["whole"][0])
        assert spending.past_of_teachers(spec) is None
    assert saved(replace(track((3.0, 2.0)), costs={"whole": (nan, nan)}), track((3.0, 2.0)), "whole") is None
    adapted = replace(plain(8, 20), init=Load(far))
    taught = inherit(plain(16, 40), adapted.final, Heaviside(steps(10)))
    assert isnan(spending.costs(taught, [40])["whole"][0]), "what the teacher began with was trained elsewhere"
    beside = replace(taught, init=Load(far))
    assert not isnan(spending.costs(beside, [40])["whole"][0]), "the student began with the same"


def test_what_control_and_arm_begin_with_is_no_cost_of_the_teacher(plain: Make) -> None:
    """A student goes on from a run that has taught its teacher: only the teacher's own training is the teacher's."""
    begun, teacher = plain(16, 40), inherit(plain(8, 20), plain(16, 40).final, Constant())
    adapting = inherit(replace(plain(16, 30), init=Load(begun.final)), teacher.final, Constant())
    assert spending.past_of_teachers(adapting) == (teacher.final,)


@pytest.fixture
def downstream(plain: Make, toy: str) -> Sweep:
    """Fine-tuned from two moments of a pretraining of forty steps."""

    def run(*, schedule: str, at: float, task: str, seed: int) -> RunSpec:
        taught = space.taught(plain(16, 40, seed), plain(8, 20).final, schedule=schedule, guided=0.5, top_k=10)
        return finetune(task, init=taught.at(round(at * 40)), size=16, seed=seed)

    return Sweep(
        run,
        over={
            "schedule": space.schedules("none", "linear"), "at": space.moments(0.25, 0.5, 1.0), "task": tasks(toy),
            "seed": seeds(2),
        },
        baseline=lambda cell: cell | {"schedule": "none"},
        arms=("schedule",),
        learning="schedule",
    )  # fmt: skip


def test_what_is_saved_downstream_is_read_off_scores(downstream: Sweep, store: Store) -> None:
    """Without a teacher they rise from .5 to .8 over the whole pretraining; with one they are there after half of it."""
    planned = plan(downstream, store)
    for spec in planned.runs.values():
        if spec.parents() and isinstance(spec.objective, Classify):
            ((moment,),) = [spec.parents()]
            fast = isinstance(moment.run.objective, Inherit)
            score = 0.4 + 0.4 * min(1.0, moment.step / moment.run.total_steps * (1 + fast))
            finish(spec, store, {"val/score": score})
        else:
            finish(spec, store, {"val/loss": 3.0}, [{"step": spec.total_steps, "val/loss": 3.0}])
    (panel,) = learning.panels(plan(downstream, store), store)
    assert panel.over == learning.MOMENTS
    head, rows = learning.table(panel, "schedule")
    assert head[2] == "final score"
    assert [row[2].partition(" ")[0] for row in rows] == ["0.800", "0.800"]
    assert rows[1][3].startswith("+50%")
    figure = learning_figures.draw([panel])
    assert list(figure.axes[0].lines[0].get_ydata()) == pytest.approx([0.5, 0.6, 0.8])  # type: ignore[arg-type]
    assert figure.axes[0].get_yscale() == "linear"


def test_scores_are_read_over_budgets_too(plain: Make, toy: str, store: Store) -> None:
    """With a teacher a whole pretraining of twenty steps scores what one of forty does without."""

    def run(*, schedule: str, duration: str, task: str, seed: int) -> RunSpec:
        alone = plain(16, int(duration.partition(":")[2]), seed)
        return finetune(
            task, init=space.taught(alone, plain(8, 20).final, schedule=schedule, top_k=10).final, size=16, seed=seed
        )

    sweep = Sweep(
        run,
        over={
            "schedule": space.schedules("none", "linear"), "duration": durations("steps:20", "steps:40", "steps:80"),
            "task": tasks(toy), "seed": seeds(2),
        },
        baseline=lambda cell: cell | {"schedule": "none"},
        arms=("schedule",),
        learning="schedule",
    )  # fmt: skip
    for spec in plan(sweep, store).runs.values():
        if isinstance(spec.objective, Classify):
            ((moment,),) = [spec.parents()]
            finish(spec, store, {"val/score": 0.1 * log(moment.step * (1 + isinstance(moment.run.objective, Inherit)))})
        else:
            finish(spec, store, {"val/loss": 3.0}, [{"step": spec.total_steps, "val/loss": 3.0}])
    (panel,) = learning.panels(plan(sweep, store), store)
    assert panel.over == learning.ENDS
    head, rows = learning.table(panel, "schedule")
    assert head[2:4] == ["final score", "steps saved"]
    assert rows[1][3].startswith("+50%")
    assert "whose schedules are complete" in learning.caption(panel)[0]
    assert learning_figures.draw([panel]).axes[0].get_yscale() == "linear"


def test_an_arm_is_compared_with_its_own_control() -> None:
    """Two students in one panel: whoever learns as its control does saves nothing."""
    small, large = track((4.0, 3.5, 3.0)), track((4.0, 2.0, 1.0))
    lines = tuple(
        learning.Line(name, control, {0: own, 1: own})
        for name, control, own in (
            ("small", "small", small),
            ("taught small", "small", small),
            ("large", "large", large),
            ("taught large", "large", large),
            ("orphan", "elsewhere", large),
        )
    )
    _, rows = learning.table(learning.Panel("all", learning.EVALUATIONS, lines), "chain")
    assert [row[4].partition(" ")[0] for row in rows] == ["", "+0%", "", "+0%", ""]


def test_an_arm_and_its_control_are_of_one_seed() -> None:
    """Of seeds that one of them lacks nothing is said."""
    fast, slow = track((3.5, 2.5, 2.0)), track((4.0, 3.5, 3.0))
    control = learning.Line("none", "none", {0: slow, 1: fast})
    arm = learning.Line("linear", "none", {1: fast, 2: fast})
    _, rows = learning.table(learning.Panel("all", learning.EVALUATIONS, (control, arm)), "schedule")
    assert rows[1][4] == "+0% (1 of 2)"


def test_what_is_kept_of_a_teacher_is_a_column() -> None:
    lines = (
        learning.Line("none", "none", {0: track((3.0, 2.0))}),
        learning.Line("linear", "none", {0: track((3.0, 2.0))}),
    )
    assert "covered" not in learning.table(learning.Panel("all", learning.EVALUATIONS, lines), "schedule")[0]
    kept = learning.Line("linear", "none", {0: replace(track((3.0, 2.0)), covered=0.25)})
    panel = learning.Panel("all", learning.EVALUATIONS, (lines[0], kept))
    head, rows = learning.table(panel, "schedule")
    assert [row[head.index("covered")] for row in rows] == ["", "0.250"]
    assert any(said.startswith("covered: ") for said in learning.caption(panel))


def test_what_is_forgotten_is_said_in_nats(plain: Make, prose: str, store: Store, tmp_path: Path) -> None:
    """Of the text that the model was pretrained on, since it was."""
    domain = tmp_path / "domain"
    domain.mkdir()
    for split in ("train", "validation"):
        (domain / f"{split}.txt").write_text("ba be bi bo bu\n" * 40)
    general = plain(16, 40)
    assert isinstance(general.data, Corpus)
    data = replace(general.data, text=text(str(domain)), beside=general.data.texts)
    adapting = replace(general, init=Load(general.final), data=data, duration=steps(8))
    finish(general, store, {}, [{"step": 40, "val/loss": 3.0, "val/perplexity": 20.0}])
    finish(adapting, store, {}, [{"step": 8, "val/loss": 2.0, "val/perplexity": 7.0, "val/perplexity/prose": 40.0}])
    found = learning.inside([adapting], store)
    assert found.texts == {"prose": 40.0}
    assert found.forgotten == {"prose": pytest.approx(log(2))}
    panel = learning.Panel("all", learning.EVALUATIONS, (learning.Line("none", "none", {0: found}),))
    head, (row,) = learning.table(panel, "teacher")
    assert dict(zip(head, row, strict=True)) | {
        "perplexity on prose": "40.0",
        "nats of prose forgotten": "0.693",
    } == dict(zip(head, row, strict=True))
