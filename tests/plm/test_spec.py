"""Identity: the same question has one id for ever, on any machine, and another question another."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plm import spec as specs
from plm.data.corpus import Corpus
from plm.data.examples import Examples
from plm.data.files import Files
from plm.duration import Duration, epochs, steps, tokens
from plm.inits.drop import Drop
from plm.inits.graft import Graft
from plm.inits.load import Load
from plm.inits.permute import Permute
from plm.inits.reinit import Reinit
from plm.inits.scratch import Scratch
from plm.models.bert import Bert
from plm.objectives.classify import Classify
from plm.objectives.mlm import MaskedLM
from plm.spec import AdamW, Checkpoint, External, RunSpec, Seeds, digest, encode, neutral
from plm.tasks import Task

BERT = Bert(
    vocab_size=100,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=40,
    dropout=0.1,
)
MODEL = External((("config.json", "ab" * 32), ("model.safetensors", "cd" * 32)), path="/nowhere", name="some-bert")
TASK = Task(rows="ef" * 32, num_labels=2, metrics=("accuracy",), counts=(100, 20), name="toy", path="/nowhere/toy")
FILES = Files(train=("01" * 32,), validation=("23" * 32,), paths=(("/a",), ("/b",)), name="lines")


def fine_tuning(**changes) -> RunSpec:
    fields = {
        "objective": Classify(2),
        "init": Load(MODEL),
        "data": Examples(TASK, 50, 3),
        "optim": AdamW(lr=5e-5, weight_decay=0.0),
        "duration": epochs(3),
        "batch_size": 16,
        "seq_len": 40,
        "dtype": "float32",
        "seeds": Seeds(fresh=3, order=3, noise=3),
    }
    return RunSpec(**{**fields, **changes})


def pretraining(**changes) -> RunSpec:
    return fine_tuning(
        **{
            "objective": MaskedLM(),
            "init": Scratch(BERT),
            "data": Corpus(FILES, MODEL),
            "duration": steps(100),
            "optim": AdamW(lr=1e-4, weight_decay=0.01, warmup_steps=10),
            **changes,
        }
    )


def redrawn(folder, **changes) -> Reinit:
    """Of an external model; its configuration is looked at, where it lies is not."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps({"model_type": "bert", "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 4})
    )
    return Reinit(
        **{"origin": replace(MODEL, path=str(folder)), "layers": (2, 3), "scheme": "bert", "seed": 3, **changes}
    )


PINNED = {
    "fine_tuning": lambda tmp: fine_tuning(),
    "all_examples": lambda tmp: fine_tuning(data=Examples(TASK, None, 3)),
    "stratified": lambda tmp: fine_tuning(data=Examples(TASK, 50, 3, stratified=True)),
    "regression": lambda tmp: fine_tuning(
        objective=Classify(1), data=Examples(replace(TASK, num_labels=1, metrics=("pearson", "spearman")), 50, 3)
    ),
    "constant_rate": lambda tmp: fine_tuning(
        optim=AdamW(lr=1, weight_decay=0.1, betas=(0.8, 0.95), schedule="constant")
    ),
    "bfloat16": lambda tmp: fine_tuning(dtype="bfloat16"),
    "redrawn": lambda tmp: fine_tuning(init=redrawn(tmp)),
    "redrawn_matched": lambda tmp: fine_tuning(init=redrawn(tmp, scheme="matched", bias="zero", layer_norm="keep")),
    "pretraining": lambda tmp: pretraining(),
    "pretraining_by_tokens": lambda tmp: pretraining(duration=tokens(1e6), objective=MaskedLM(rate=0.4)),
    "redrawn_released": lambda tmp: fine_tuning(init=redrawn(tmp, scheme="released")),
    "redrawn_pooler": lambda tmp: fine_tuning(init=redrawn(tmp, pooler="redraw")),
    "redrawn_embeddings": lambda tmp: fine_tuning(init=redrawn(tmp, layers=(), embeddings="redraw")),
    "redrawn_faster": lambda tmp: fine_tuning(
        init=redrawn(tmp), optim=AdamW(lr=2e-5, weight_decay=0.0, redrawn_lr=5.0)
    ),
    "permuted": lambda tmp: fine_tuning(init=Permute(redrawn(tmp).origin, (3, 0, 1, 2))),
    "grafted": lambda tmp: fine_tuning(init=Graft(pretraining().final, (1,), pretraining().at(50))),
    "dropped": lambda tmp: fine_tuning(init=Drop(redrawn(tmp).origin, (2, 3))),
    "probed": lambda tmp: fine_tuning(init=Drop(redrawn(tmp).origin, (2, 3)), trained="head", duration=epochs(40)),
    "child": lambda tmp: fine_tuning(init=Load(pretraining().final)),
    "child_redrawn": lambda tmp: fine_tuning(init=Reinit(pretraining().at(50), (1,), "shuffle", 3)),
    "grandchild": lambda tmp: fine_tuning(init=Load(fine_tuning(init=Load(pretraining().final)).final)),
}
IDS = {
    "fine_tuning": "classify-c601a4a75779",
    "all_examples": "classify-20fa40311bc8",
    "stratified": "classify-73c03fd760aa",
    "regression": "classify-7ce6432d26b2",
    "constant_rate": "classify-34a79f2ff03b",
    "bfloat16": "classify-fff5b4dd3a12",
    "redrawn": "classify-ef71c7262622",
    "redrawn_matched": "classify-f24c7e1e219a",
    "pretraining": "mlm-095e03c0349c",
    "pretraining_by_tokens": "mlm-421b3fa575b8",
    "redrawn_released": "classify-f863ab766dfb",
    "redrawn_pooler": "classify-392acb1ff6f6",
    "redrawn_embeddings": "classify-525c192296e7",
    "redrawn_faster": "classify-3823315297b1",
    "permuted": "classify-0c7ce492d01d",
    "grafted": "classify-edbb9c77a867",
    "dropped": "classify-198e1b0aadb9",
    "probed": "classify-d91634e0b6f8",
    "child": "classify-6de98efc7c24",
    "child_redrawn": "classify-a2fd8cdf8306",
    "grandchild": "classify-44a641cba420",
}


@pytest.mark.parametrize("name", PINNED)
def test_ids_are_pinned_for_ever(name, tmp_path):
    """Never edit an id here. A member's or the trainer's new version is the one reason for one to change; otherwise the
    change breaks every store: give the new field its neutral default (`neutral(...)`) instead."""
    assert PINNED[name](tmp_path / "model").run_id == IDS[name]


def test_no_two_pinned_ids_are_equal():
    assert len(set(IDS.values())) == len(IDS) == len(PINNED)


# Equal values, equal ids


def test_where_things_lie_and_what_they_are_called_is_no_part_of_it(tmp_path):
    moved = fine_tuning(
        init=Load(replace(MODEL, path="/else", name="other")),
        data=Examples(replace(TASK, path="/else", name="other", counts=(100, 20)), 50, 3),
    )
    assert moved.run_id == fine_tuning().run_id
    assert fine_tuning(init=redrawn(tmp_path / "a")).run_id == fine_tuning(init=redrawn(tmp_path / "b")).run_id
    files = replace(FILES, name="other", paths=(("/c",), ("/d",)))
    assert pretraining(data=Corpus(files, MODEL)).run_id == pretraining().run_id


def test_one_number_has_one_spelling():
    assert digest(AdamW(lr=1, weight_decay=0)) == digest(AdamW(lr=1.0, weight_decay=-0.0))
    assert digest(AdamW(lr=1, weight_decay=0, betas=(0, 1))) == digest(AdamW(lr=1, weight_decay=0, betas=(0.0, 1.0)))
    assert digest(steps(100)) == digest(Duration(100.0, "steps")) == digest(Duration(1e2, "steps"))
    assert digest((0.0, 1)) == digest((-0.0, 1)) != digest((0.5, 1))


def test_all_examples_has_one_spelling():
    spellings = {Examples(TASK, None, 0), Examples(TASK, None, 7), Examples(TASK, 100, 7), Examples(TASK, 100, 1, True)}
    assert len(spellings) == len({digest(e) for e in spellings}) == 1


@dataclass(frozen=True)
class Old:
    kind: ClassVar[str] = "test:old"
    a: int


@dataclass(frozen=True)
class New:
    kind: ClassVar[str] = "test:old"
    a: int
    option: str | None = neutral(None)


def test_a_new_option_at_its_neutral_value_changes_no_old_id():
    assert digest(Old(1)) == digest(New(1)) != digest(New(1, option="x"))


# Different values, different ids


WORDS = {
    "linear": "constant",
    "float32": "bfloat16",
    "steps": "tokens",
    "epochs": "steps",
    "bert": "matched",
    "keep": "zero",
    "all": "head",
    "reset": "keep",
    "accuracy": "f1",
}


def changed(value):
    """Values that differ in one leaf each, with the leaf's name."""
    if dataclasses.is_dataclass(value):
        for f in dataclasses.fields(value):
            for name, other in changed(getattr(value, f.name)):
                if not f.metadata.get("location"):
                    new = object.__new__(type(value))  # past the checks: an id must tell apart what is refused too
                    for g in dataclasses.fields(value):
                        object.__setattr__(new, g.name, other if g.name == f.name else getattr(value, g.name))
                    yield f"{f.name}.{name}".strip("."), new
    elif isinstance(value, tuple):
        for i, v in enumerate(value):
            for name, other in changed(v):
                yield f"{i}.{name}", (*value[:i], other, *value[i + 1 :])
        yield "longer", (*value, *(value[:1] or ("more",)))
    elif isinstance(value, bool):
        yield "", not value
    elif isinstance(value, str):
        yield "", WORDS.get(value, value + "x")
    elif isinstance(value, int | float):
        yield "", value + 1
    elif value is None:
        yield "", 7


@pytest.mark.parametrize("make", [fine_tuning, pretraining, PINNED["child_redrawn"]], ids=["fine", "pre", "child"])
def test_every_field_of_the_lineage_is_part_of_the_id(make, tmp_path):
    value = make(tmp_path) if make is PINNED["child_redrawn"] else make()
    variants = dict(changed(value))
    ids = {name: digest(v) for name, v in variants.items()}
    assert len(set(ids.values()) | {digest(value)}) == len(ids) + 1
    assert {"batch_size", "seq_len", "dtype", "seeds.noise", "optim.lr", "duration.amount", "trainer"} <= set(ids)


@pytest.mark.parametrize("cls", [MaskedLM, Corpus, Files, Bert, Scratch])
def test_a_member_s_version_is_part_of_the_id(cls, monkeypatch):
    before = digest(pretraining())
    monkeypatch.setattr(cls, "version", cls.version + 1)
    assert digest(pretraining()) != before


def test_the_trainer_s_version_is_part_of_the_id():
    assert fine_tuning(trainer=specs.TRAINER + 1).run_id != fine_tuning().run_id


optims = st.builds(
    AdamW,
    lr=st.floats(1e-9, 1e3),
    weight_decay=st.floats(0, 1),
    warmup_steps=st.integers(0, 10**6),
    eps=st.floats(1e-12, 1e-3),
    schedule=st.sampled_from(["linear", "constant"]),
)
seeds = st.builds(Seeds, *[st.integers(-(2**40), 2**40)] * 3)


@given(optims, seeds, optims, seeds)
def test_ids_are_equal_exactly_where_values_are(optim, seed, other_optim, other_seed):
    one, two = fine_tuning(optim=optim, seeds=seed), fine_tuning(optim=other_optim, seeds=other_seed)
    assert (one.run_id == two.run_id) == (one == two)
    assert fine_tuning(optim=replace(optim), seeds=replace(seed)).run_id == one.run_id


# What has no stable form


@pytest.mark.parametrize("value", [[1], {1}, {"a": 1}, lambda: 1, object(), Old, b"x", 1j, (1, [2])])
def test_what_has_no_stable_form_is_refused(value):
    with pytest.raises(TypeError, match="no stable form"):
        encode(value, identity=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(value):
    with pytest.raises(ValueError, match="must be finite"):
        encode(value, identity=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 0.0}, "learning rate of 0.0"),
        ({"lr": math.nan}, "learning rate of nan"),
        ({"schedule": "cyclic"}, "there are linear, cosine, constant"),
        ({"warmup_steps": -1}, "must not be negative"),
        ({"clip": 0.0}, "clip and eps must be positive"),
        ({"weight_decay": -0.1}, "must not be negative"),
        ({"redrawn_lr": 0.0}, "redrawn_lr 0.0: it multiplies"),
        ({"redrawn_lr": math.inf}, "redrawn_lr inf"),
    ],
)
def test_an_optimizer_that_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        AdamW(**{"lr": 1e-3, "weight_decay": 0.0, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"batch_size": 0}, "batch_size 0"), ({"seq_len": -3}, "seq_len -3"), ({"dtype": "float16"}, "float32, bfloat16")],
)
def test_a_run_that_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        fine_tuning(**changes)


# Lineage


def test_steps_and_parents():
    parent = pretraining()
    child = fine_tuning(init=Load(parent.at(50)))
    assert parent.final == Checkpoint(parent, 100)
    assert child.parents() == (Checkpoint(parent, 50),)
    assert parent.parents() == ()
    assert (child.total_steps, parent.total_steps) == (12, 100)
    with pytest.raises(ValueError, match="no step 101: it runs from 0 to 100"):
        parent.at(101)


# JSON


@pytest.mark.parametrize("name", PINNED)
def test_a_spec_survives_its_json(name, tmp_path):
    spec = PINNED[name](tmp_path / "model")
    back = RunSpec.from_json(spec.to_json())
    assert back == spec
    assert back.run_id == spec.run_id


@given(optims, seeds)
def test_any_numbers_survive_json(optim, seed):
    spec = fine_tuning(optim=optim, seeds=seed)
    assert RunSpec.from_json(spec.to_json()) == spec


def edited(spec: RunSpec, edit) -> str:
    document = json.loads(spec.to_json())
    edit(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda d: d["spec"].update(batch_size=17), "it was changed"),
        (lambda d: d.update(run_id="classify-000000000000"), "names run classify-000000000000"),
        (lambda d: d["spec"]["optim"].update(kind="spec:sgd"), "no value of kind 'spec:sgd'"),
        (lambda d: d["spec"]["optim"].update(kind="os:system"), "no value of kind 'os:system'"),
        (lambda d: d["spec"]["optim"].update(kind="../x"), "is not the kind of a value"),
        (lambda d: d["spec"]["optim"].update(kind=3), "is not the kind of a value"),
        (
            lambda d: d["spec"]["objective"].update(version=99),
            "version 99 was asked for; this installation has version 1",
        ),
        (lambda d: d["spec"].update(trainer=99), "trainer 99 was asked for"),
        (lambda d: d["spec"]["optim"].update(momentum=1), "spec:adamw does not fit"),
        (lambda d: d["spec"]["optim"].pop("lr"), "spec:adamw does not fit"),
        (lambda d: d["spec"]["data"].update(task="toy"), "data/examples does not fit"),
        (lambda d: d.pop("spec"), r"not a run's spec.json \(KeyError"),
        (lambda d: d.update(spec=d["spec"]["seeds"]), "but its content is that of Seeds"),
    ],
)
def test_a_tampered_spec_is_refused(edit, said):
    with pytest.raises(ValueError, match=said):
        RunSpec.from_json(edited(fine_tuning(), edit))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"spec"'])
def test_what_is_no_spec_is_refused(text):
    with pytest.raises(ValueError, match=r"not a run's spec\.json"):
        RunSpec.from_json(text)
