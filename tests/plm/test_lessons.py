"""Stored lessons: the live teacher's numbers, made once and a part at a time, and nobody else's."""

from __future__ import annotations

import json
import shutil
import threading

import numpy as np
import pytest
import torch
import transformers
from test_parallel import NEVER, assert_close, numbers, together
from tiny import SIZES, perturbed, save_model, stop_after

import plm
from plm import lessons, taught, teachers
from plm.build import Cache, build
from plm.inheritance import Constant, Heaviside, divergence
from plm.models.gpt2 import GPT2
from plm.objectives.clm import CausalLM
from plm.objectives.inherit import Inherit, lesson
from plm.objectives.mlm import MaskedLM
from plm.store import Store, sha256
from plm.train import Execution, Stopped, open_stream, train

CPU = torch.device("cpu")
STORED = Execution(teacher="stored")
HALF = Constant(0.5)
pytestmark = pytest.mark.usefixtures("short_parts")


@pytest.fixture(scope="session")
def teacher(make_bert):
    return plm.external(make_bert("teacher", head="BertForMaskedLM", num_hidden_layers=1))


@pytest.fixture(scope="session")
def decoder(tmp_path_factory):
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES, bos_token_id=1, eos_token_id=1))
    return plm.external(save_model(perturbed(model), tmp_path_factory.mktemp("models") / "decoder"))


@pytest.fixture(scope="session")
def student(pretrain, teacher):
    """Makes a run of four steps with a teacher."""

    def make(rate=HALF, by=None, base=None, temperature=2.0, top_k=7, tail=False, **changes):
        objective = Inherit(base or MaskedLM(), by or teacher, rate, temperature, top_k, tail)
        return pretrain(objective=objective, **changes)

    return make


@pytest.fixture
def spoken(monkeypatch):
    """The number of sequences of each call of a live teacher."""
    calls, say = [], teachers.Teacher.logits

    def counted(self, batch):
        calls.append(len(batch["labels"]))
        return say(self, batch)

    monkeypatch.setattr(teachers.Teacher, "logits", counted)
    return calls


def opened(spec, store, **options):
    """The run's stream with stored lessons, and its live teacher."""
    store, cache = Store.at(store), Cache()
    live = teachers.of(spec, store, cache, CPU)
    stream = open_stream(spec, store, cache)
    return taught.taught(spec, stream, live, store, Execution(teacher="stored", **options)), live


def both(spec, store, step=0, **options):
    """What the stored lessons and the live teacher say of a batch."""
    stream, live = opened(spec, store, **options)
    batch = stream.batch(step)
    return taught.recalled(batch), live(batch)


def apart(spec, store, step=0, **options):
    """The divergence of an untrained student from both, per prediction."""
    model = build(spec, Store.at(store), Cache()).model.eval()
    with torch.no_grad():
        logits, _ = spec.objective.base.scores(model, opened(spec, store)[0].batch(step))
        return [
            divergence(logits, said["teacher_logits"], spec.objective.temperature,
                       said.get("teacher_tokens"), said.get("teacher_rest"))
            for said in both(spec, store, step, **options)
        ]  # fmt: skip


def folders(store):
    return sorted((store / "teachers").iterdir())


# The same numbers


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize(("top_k", "tail"), [(0, False), (7, False), (7, True), (1, True)])
def test_what_is_stored_is_what_the_teacher_says(student, tmp_path, top_k, tail, temperature):
    """To the rounding of float16, of both steps of a part."""
    spec = student(top_k=top_k, tail=tail, temperature=temperature)
    for step in (0, 3):
        stored, live = apart(spec, tmp_path, step)
        assert len(live) > 3
        assert torch.allclose(stored, live, rtol=2e-3, atol=2e-4)
        assert top_k == 1 or float(live.min()) > 0.005


def test_a_causal_student_is_told_the_same(student, decoder, tmp_path):
    spec = student(by=decoder, base=CausalLM(), architecture=GPT2(**SIZES, dropout=0.0))
    stored, live = both(spec, tmp_path)
    assert torch.equal(stored["teacher_tokens"], live["teacher_tokens"])
    assert len(live["teacher_tokens"]) == 4 * 15
    shift = live["teacher_logits"].amax(-1, keepdim=True)
    assert torch.allclose(stored["teacher_logits"], live["teacher_logits"] - shift, rtol=5e-4, atol=1e-6)


@pytest.mark.parametrize("micro_batch", [None, 1, 3])
def test_a_run_is_the_same_run(student, tmp_path, micro_batch):
    """Its loss at each step, and its identity; the environment says how it was taught."""
    spec = student(dropout=0.0)
    found = {}
    for how in ("live", "stored"):
        store = Store.at(tmp_path / how)
        result = train(spec, store=store, execution=Execution(teacher=how, micro_batch=micro_batch))
        lines = [line for line in store.run(spec).metrics() if "train/loss" in line]
        found[how] = [line["train/inherit"] for line in lines] + [result.metrics["val/loss"]]
        assert result.run_id == spec.run_id
        noted = json.loads(store.run(spec).get("environment.json"))
        assert [note.get("teacher", "live") for note in noted] == [how]
    assert len(found["live"]) == 5
    assert found["stored"] == pytest.approx(found["live"], rel=1e-3)
    assert found["stored"] != found["live"]  # it was the other way


def test_distances_in_half_precision_are_the_best_two_bytes():
    """Why not bfloat16, and why not the logits as they are: the error in the loss."""
    draw = torch.Generator().manual_seed(0)
    student, raw = (torch.randn(64, 1000, generator=draw) * 3 for _ in range(2))
    raw += 12 + torch.randn(
        64, 1, generator=draw
    )  # a softmax does not care where logits lie; a trained head's do not lie at 0
    exact = divergence(student, raw, 2.0)
    shifted = raw - raw.amax(-1, keepdim=True)
    forms = {"bfloat16": raw.bfloat16(), "float16": raw.half(), "distances": shifted.half()}
    error = {name: float((divergence(student, kept.float(), 2.0) - exact).abs().mean()) for name, kept in forms.items()}
    assert error["distances"] < 1e-3
    assert error["distances"] < error["float16"] < error["bfloat16"] / 4


# Made once


def test_one_store_serves_every_temperature_and_every_smaller_k(student, teacher, tmp_path, spoken):
    both(student(top_k=20), tmp_path)
    made = sum(spoken)
    assert made == 2 * 4 + 4  # the first part, and the live teacher that it is compared with here
    for other in (student(top_k=5), student(top_k=7, temperature=4.0), student(top_k=7, tail=True)):
        spoken.clear()
        stream, live = opened(other, tmp_path)
        said = taught.recalled(stream.batch(0))
        assert sum(spoken) == 4  # the sample that opening compares
        theirs = live(stream.batch(0))
        assert torch.equal(said["teacher_tokens"], theirs["teacher_tokens"])
        apart_from = said["teacher_logits"] - theirs["teacher_logits"]
        assert float((apart_from - apart_from[:, :1]).abs().max()) < 5e-3
        if other.objective.tail:
            assert torch.allclose(said["teacher_rest"] - apart_from[:, 0] / 2, theirs["teacher_rest"], atol=2e-3)
    assert len(folders(tmp_path)) == 1
    both(student(top_k=30), tmp_path)
    assert len(folders(tmp_path)) == 2


def test_all_logits_serve_every_k(student, tmp_path):
    stored, live = (both(student(top_k=k), tmp_path)[i] for k, i in ((0, 0), (7, 1)))
    assert stored["teacher_logits"].shape[-1] == 65
    stored, live = both(student(top_k=7, tail=True, temperature=4.0), tmp_path)
    assert stored["teacher_logits"].shape == live["teacher_logits"].shape
    assert len(folders(tmp_path)) == 1


def test_as_many_logits_are_kept_as_others_will_want(student, tmp_path):
    opened(student(top_k=5), tmp_path, stored_top_k=12)
    assert [folder.name.partition("-")[2] for folder in folders(tmp_path)] == ["top12"]
    both(student(top_k=5), tmp_path)
    assert len(folders(tmp_path)) == 1, "those serve"
    opened(student(top_k=5), tmp_path, stored_top_k=20)
    assert len(folders(tmp_path)) == 2, "what was kept for few would not serve those who want more"


def test_what_ends_needs_fewer_and_what_goes_on_makes_more(student, tmp_path, spoken):
    """The schedule is no part of what lessons are of: two rates share them."""
    train(student(Heaviside(plm.steps(2))), store=tmp_path, execution=STORED)
    (folder,) = folders(tmp_path)
    assert sorted(path.name for path in folder.glob("*.json")) == ["00000000.json", "lessons.json"]
    spoken.clear()
    longer = student(Constant(0.3), seed=0)
    train(longer, store=tmp_path, execution=STORED)
    evaluated = sum(
        map(len, (batch["labels"] for batch in open_stream(longer, Store.at(tmp_path), Cache()).evaluation()))
    )
    assert sum(spoken) == 4 + 2 * 4 + evaluated  # the sample, the second part, and what it is worth itself
    assert sorted(path.name for path in folder.glob("0*.json")) == ["00000000.json", "00000002.json"]


def test_other_batches_have_other_lessons(student, teacher, make_bert, tmp_path):
    """Whatever changes what the teacher reads, and nothing else."""
    other = plm.external(make_bert("other", head="BertForMaskedLM", intermediate_size=48))
    changes = [{}, {"seed": 1}, {"by": other}, {"batch_size": 2}, {"seq_len": 12}, {"base": MaskedLM(0.3)},
               {"dtype": "bfloat16"}]  # fmt: skip
    for change in changes:
        opened(student(**change), tmp_path)
    assert len(folders(tmp_path)) == len(changes)
    for same in ({"lr": 1e-4}, {"rate": Constant(0.1)}, {"duration": plm.steps(3)}, {"temperature": 1.0}):
        opened(student(**same), tmp_path)
    assert len(folders(tmp_path)) == len(changes)


def test_a_teacher_is_known_by_its_weights(student, pretrain, tmp_path):
    """A run of ours, by what it came to: not by its name alone."""
    small = pretrain(seed=3)
    train(small, store=tmp_path)
    spec = student(by=small.final)
    found = lessons.weights_of(spec.objective.teacher, Store.at(tmp_path))
    assert sorted(found) == ["config.json", "model.safetensors"]
    syllabus = lessons.Syllabus.of(spec, found)
    assert syllabus.name != lessons.Syllabus.of(spec, found | {"model.safetensors": "0"}).name


def test_the_optimizer_of_a_teacher_that_still_trains_teaches_nothing(pretrain, tmp_path):
    store, teacher = Store.at(tmp_path), pretrain().final
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    store.run(teacher.run).put_checkpoint(teacher.step, files)
    alone = lessons.weights_of(teacher, store)
    store.run(teacher.run).put_checkpoint(teacher.step, files | {"optimizer.safetensors": b"moments"})
    assert lessons.weights_of(teacher, store) == alone == {name: sha256(data) for name, data in files.items()}


def test_what_was_interrupted_goes_on(student, tmp_path, monkeypatch):
    """In the middle of a part, which is made again; those before it are not. The files are the same."""
    spec, say, calls = student(), teachers.Teacher.logits, []

    def dying(self, batch):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return say(self, batch)

    monkeypatch.setattr(teachers.Teacher, "logits", dying)
    with pytest.raises(KeyboardInterrupt):
        train(spec, store=tmp_path / "parts", execution=STORED)
    (folder,) = folders(tmp_path / "parts")
    assert [path.name for path in folder.glob("0*.json")] == ["00000000.json"]
    train(spec, store=tmp_path / "parts", execution=STORED)
    evaluated = len(list(open_stream(spec, Store.at(tmp_path / "parts"), Cache()).evaluation()))
    assert len(calls) == 4 + 1 + 2 + evaluated  # the sample, the second part, and what it is worth itself
    train(spec, store=tmp_path / "whole", execution=STORED)
    for path in folders(tmp_path / "whole")[0].glob("0*"):
        assert path.read_bytes() == (folder / path.name).read_bytes()
    assert {path.name for path in folder.iterdir()} == {path.name for path in folders(tmp_path / "whole")[0].iterdir()}


@pytest.mark.parametrize("how", ["live", "stored"])
def test_a_run_that_goes_on_stays_with_its_teacher(student, tmp_path, how):
    """Live or stored, whatever the later call says: the bits are those of an uninterrupted run."""
    other = {"live": "stored", "stored": "live"}[how]
    spec, begun, later = student(), Execution(teacher=how), Execution(teacher=other, keep=(1,))
    with pytest.raises(Stopped):
        train(spec, store=tmp_path / "parts", execution=begun, should_stop=stop_after(2))
    train(spec, store=tmp_path / "parts", execution=Execution(teacher=other))
    train(spec, store=tmp_path / "whole", execution=begun)
    train(spec, store=tmp_path / "whole", execution=later)  # a repetition must come by the same weights
    found = [Store.at(tmp_path / name).run(spec).result()["weights_sha256"] for name in ("parts", "whole")]
    assert found[0] == found[1]
    assert Store.at(tmp_path / "whole").run(spec).holds("step_00000001", "model.safetensors")


def test_students_beside_each_other_make_each_part_once(student, tmp_path, spoken):
    streams = [opened(student(rate=Constant(rate)), tmp_path)[0] for rate in (0.1, 0.2, 0.3)]
    workers = [threading.Thread(target=lambda s=stream: [s.batch(i) for i in range(4)]) for stream in streams]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(spoken) == 4 * 4


def test_two_processes_read_the_same_lessons(student, tmp_path):
    """Each its share of a batch, of what one of them made."""
    spec = student(Heaviside(plm.steps(2)), dropout=0.0, duration=plm.steps(3))
    train(spec, store=tmp_path / "one", execution=STORED)
    together([(spec, tmp_path / "two", NEVER, {"teacher": "stored"})], tmp_path)
    assert_close(numbers(spec, tmp_path / "one"), numbers(spec, tmp_path / "two"))
    assert len(folders(tmp_path / "two")) == 1


# What it weighs and covers


@pytest.mark.parametrize("how", ["live", "stored"])
@pytest.mark.parametrize("top_k", [0, 3, 7])
def test_what_the_teacher_is_worth_is_reported(student, tmp_path, how, top_k):
    """Its loss on the student's evaluation split, and of its probability there, at the run's temperature, the run's share."""
    wider = student(top_k=7)
    train(wider, store=tmp_path, execution=STORED)  # lessons of seven logits, which serve three too
    spec = student(top_k=top_k, temperature=4.0)
    result = train(spec, store=tmp_path, execution=Execution(teacher=how))
    said = json.loads((result.path / "result.json").read_text())["teacher"]
    stream, live = (
        opened(spec, tmp_path)
        if top_k
        else (open_stream(spec, Store.at(tmp_path), Cache()), opened(wider, tmp_path)[1])
    )
    batches = list(stream.evaluation())
    logits = torch.cat([live.logits(batch) for batch in batches])
    labels = torch.cat([batch["labels"][batch["labels"] != -100] for batch in batches])
    assert said["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-5)
    mass = (logits / 4).softmax(-1).topk(top_k or logits.shape[-1]).values.sum(-1).mean()
    assert said["covered_mass"] == pytest.approx(float(mass), rel=1e-5)


def test_bytes_are_reported(student, tmp_path):
    spec = student()
    result = train(spec, store=tmp_path, execution=STORED)
    said = json.loads((result.path / "result.json").read_text())["lessons"]
    (folder,) = folders(tmp_path)
    written = sum(path.stat().st_size for path in folder.glob("*.arrow"))
    assert said["bytes_per_token"] == pytest.approx(written / (4 * 4 * 16))
    stream = open_stream(spec, Store.at(tmp_path), Cache())
    scored = sum(int((stream.batch(step)["labels"] != -100).sum()) for step in range(4))
    assert said["bytes_per_position"] == pytest.approx(written / scored)
    assert said["top_k"] == 7


def test_ten_logits_take_about_sixty_bytes_a_position(student, tmp_path):
    """40 of them for logits and tokens, 12 for the rest, 4 for the place: the files' own headers are left out."""
    stream, _ = opened(student(top_k=10), tmp_path)
    stream.batch(0)
    part = stream.lessons.part(0)
    kinds = [columns._file.schema for columns in (part.logits, part.positions)]
    assert [sum(kind.bit_width for kind in each.types) // 8 for each in kinds] == [4, 16]
    assert len(part.logits) == 10 * len(part.positions)


# Nobody else's


def test_lessons_of_another_teacher_are_refused(student, make_bert, tmp_path):
    """Moved under the name of this one's; also where their description was changed too."""
    other = plm.external(make_bert("stranger", head="BertForMaskedLM", initializer_range=0.05))
    for spec, store in ((student(), "ours"), (student(by=other), "theirs")):
        opened(spec, tmp_path / store)[0].batch(0)
    (ours,), (theirs,) = folders(tmp_path / "ours"), folders(tmp_path / "theirs")
    noted = (ours / "lessons.json").read_bytes()
    shutil.rmtree(ours)
    shutil.copytree(theirs, ours)
    with pytest.raises(ValueError, match=r"are of another teacher: .* delete the folder and run again"):
        opened(student(), tmp_path / "ours")
    (ours / "lessons.json").write_bytes(noted)
    with pytest.raises(ValueError, match=r"are not this teacher's: on step 0 they are"):
        opened(student(), tmp_path / "ours")


def test_the_last_lessons_are_compared_too(student, make_bert, tmp_path):
    """Two parts, of which another teacher has made the second."""
    other = plm.external(make_bert("stranger", head="BertForMaskedLM", initializer_range=0.05))
    for spec, store in ((student(), "ours"), (student(by=other), "theirs")):
        stream, _ = opened(spec, tmp_path / store)
        for step in (0, 2):
            stream.batch(step)
    (ours,), (theirs,) = folders(tmp_path / "ours"), folders(tmp_path / "theirs")
    for path in theirs.glob("00000002*"):
        shutil.copy(path, ours)
    with pytest.raises(ValueError, match=r"are not this teacher's: on step 2 they are"):
        opened(student(), tmp_path / "ours")


def test_a_cooled_down_student_reads_the_lessons_of_where_it_is(student, tmp_path):
    """Its first step is its trunk's third: live and stored say the same, and it reads the trunk's own lessons."""
    trunk = student(schedule="constant", duration=plm.steps(6))
    train(trunk, store=tmp_path, execution=Execution(teacher="stored", keep=(2,), keep_state=(2,)))
    cooled = trunk.annealed(2, over=3)
    found = []
    for how in ("stored", "live"):
        shutil.rmtree(Store.at(tmp_path).run(cooled).path, ignore_errors=True)
        train(cooled, store=tmp_path, execution=Execution(teacher=how))
        found.append(numbers(cooled, tmp_path))
    assert_close(*found)
    assert len(folders(tmp_path)) == 1
    stream, _ = opened(cooled, tmp_path)
    assert "lesson_logits" in stream.batch(4), "the last step of the three that are left"
    assert "lesson_logits" not in stream.batch(5)


def test_lessons_on_other_masks_are_refused(student, tmp_path):
    for seed in (0, 1):
        opened(student(seed=seed), tmp_path / str(seed))[0].batch(0)
    (ours,), (theirs,) = folders(tmp_path / "0"), folders(tmp_path / "1")
    noted = (ours / "lessons.json").read_bytes()
    shutil.rmtree(ours)
    shutil.copytree(theirs, ours)
    with pytest.raises(ValueError, match="are of another order"):
        opened(student(), tmp_path / "0")
    (ours / "lessons.json").write_bytes(noted)
    with pytest.raises(ValueError, match="are on other text than is read at step 0, or on other masks"):
        opened(student(), tmp_path / "0")


@pytest.mark.parametrize("what", ["logits", "positions", "sequences"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_damaged_lessons_are_refused(student, tmp_path, what, how):
    spec = student()
    opened(spec, tmp_path)[0].batch(0)
    path = folders(tmp_path)[0] / f"00000000-{what}.arrow"
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        stream = lessons.Columns(path, {"logits": {"logit": np.float16, "token": np.uint16},
                                        "positions": lessons.POSITIONS, "sequences": lessons.SEQUENCES}[what])  # fmt: skip
        column = next(iter(stream._file.schema.names))
        at = bytes(data).find(stream.read(column, 0, len(stream)).tobytes()[:64])
        assert at > 0
        data[at + 3] ^= 4
        path.write_bytes(data)
    with pytest.raises(ValueError, match=r"lessons are damaged: .*00000000-.* Delete .* and run again"):
        opened(spec, tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"positions": 3}'])
def test_a_damaged_note_is_refused_before_anything_is_trained(student, tmp_path, text):
    spec = student()
    opened(spec, tmp_path)[0].batch(0)
    (folders(tmp_path)[0] / "00000000.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"lessons are damaged: .*00000000.json cannot be read. Delete .* and run again"
    ):
        opened(spec, tmp_path)


def test_damage_that_opening_does_not_see_is_seen_when_it_is_read(student, tmp_path):
    spec = student(duration=plm.steps(6))
    train(spec, store=tmp_path, execution=STORED)
    path = folders(tmp_path)[0] / "00000002-logits.arrow"
    path.write_bytes(path.read_bytes()[:-200])
    stream, _ = opened(spec, tmp_path)
    stream.batch(0)
    with pytest.raises(ValueError, match="lessons are damaged"):
        stream.batch(2)


def test_a_tail_that_was_not_stored_is_refused_before_anything_is_spent(student, tmp_path):
    spec = student(tail=True, temperature=3.0)
    with pytest.raises(ValueError, match=r"a tail at a temperature of 3: stored lessons keep the rest at 1, 2, 4"):
        train(spec, store=tmp_path, execution=STORED)
    assert Store.at(tmp_path).run(spec).metrics() == []
    train(spec, store=tmp_path)


def test_an_unknown_teacher_is_refused():
    with pytest.raises(ValueError, match="a teacher 'cached': there are live, stored"):
        Execution(teacher="cached")


def test_a_tail_needs_something_that_is_not_kept(teacher):
    with pytest.raises(ValueError, match="nothing is left over"):
        Inherit(MaskedLM(), teacher, Constant(0.5), tail=True)


def test_the_tail_is_one_more_outcome():
    """By its definition, in float64; and with all but one kept it is the whole divergence."""
    draw = torch.Generator().manual_seed(1)
    student, teacher = (2 * torch.randn(3, 6, generator=draw) for _ in range(2))
    said = lesson(teacher, 2, 2.0)
    found = divergence(student, said["teacher_logits"], 2.0, said["teacher_tokens"], said["teacher_rest"])
    p, q = ((logits.double() / 2).softmax(-1) for logits in (teacher, student))
    kept = said["teacher_tokens"]
    p, q = (torch.cat([d.gather(1, kept), 1 - d.gather(1, kept).sum(1, keepdim=True)], 1) for d in (p, q))
    assert torch.allclose(found.double(), 4 * (p * (p / q).log()).sum(1), rtol=1e-4)
    almost = lesson(teacher, 5, 2.0)
    whole = divergence(student, almost["teacher_logits"], 2.0, almost["teacher_tokens"], almost["teacher_rest"])
    assert torch.allclose(whole, divergence(student, teacher, 2.0), rtol=1e-4)


def test_what_else_lies_beside_lessons_is_none(tmp_path):
    """A copy that somebody kept under another name stops no run."""
    syllabus = lessons.Syllabus({"format": 0}, 50)
    for width in ("top10", "top10.bak", "all.old"):
        (tmp_path / f"{syllabus.name}-{width}").mkdir()
    assert lessons.Lessons.find(tmp_path, syllabus, 5, 0).folder.name == f"{syllabus.name}-top10"
    assert lessons.Lessons.find(tmp_path, syllabus, 0, 0).folder.name == f"{syllabus.name}-all"
