"""Inits: one suite for every member, and the checks a re-initialisation makes before anything is loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from families import FAMILIES
from tiny import SIZES

import plm
from plm.build import Cache, build
from plm.inits.drop import Drop
from plm.inits.graft import Graft
from plm.inits.load import Load
from plm.inits.permute import Permute
from plm.inits.reinit import SCHEMES, Reinit
from plm.inits.resume import Resume
from plm.inits.scratch import Scratch
from plm.models import Model, layers
from plm.registry import names
from plm.spec import RunSpec, digest
from plm.store import Store
from plm.train import Execution, train

SAMPLES = {
    "drop": lambda source, trunk: Drop(source, (0,)),
    "graft": lambda source, trunk: Graft(source, (1,), trunk.at(2)),
    "load": lambda source, trunk: Load(source),
    "permute": lambda source, trunk: Permute(source, (1, 0)),
    "reinit": lambda source, trunk: Reinit(source, (1,), "bert", 0),
    "resume": lambda source, trunk: Resume(trunk.at(2)),
    "scratch": lambda source, trunk: Scratch(plm.Bert(**SIZES, dropout=0.0)),
}


@pytest.fixture(params=names("inits"))
def init(request, still_bert, pretrain):
    assert request.param in SAMPLES, f"add a small plm/inits/{request.param} to SAMPLES"
    return SAMPLES[request.param](plm.external(still_bert), pretrain(schedule="constant"))


def make(init, finetune, pretrain) -> RunSpec:
    if isinstance(init, Resume):
        return init.origin.run.annealed(init.origin.step)
    return pretrain() if isinstance(init.origin, Model) else finetune(init=init)


def train_parents(spec, store):
    for parent in spec.parents():
        train(parent.run, store=store, execution=Execution(keep_state=(parent.step,)))


def test_an_init_knows_its_architecture(init, finetune, pretrain, tmp_path):
    spec = make(init, finetune, pretrain)
    train_parents(spec, tmp_path)
    model = build(spec, Store.at(tmp_path), Cache()).model
    known = plm.shape(init.architecture())
    assert known.num_hidden_layers == model.config.num_hidden_layers == len(layers(model))
    assert known.hidden_size == model.config.hidden_size


def test_what_it_says_it_changed_is_what_changed(init, finetune, pretrain, tmp_path):
    spec = make(init, finetune, pretrain)
    train_parents(spec, tmp_path)
    plain = spec if isinstance(init.origin, Model) else replace(spec, init=Load(init.origin))
    before = build(plain, Store.at(tmp_path), Cache())
    after = build(spec, Store.at(tmp_path), Cache())
    there = dict(before.model.named_parameters())
    changed = {name for name, p in after.model.named_parameters() if not torch.equal(p, there[name])}
    assert changed == set(after.redrawn)


def test_building_twice_gives_one_model(init, finetune, pretrain, tmp_path):
    spec = make(init, finetune, pretrain)
    train_parents(spec, tmp_path)
    one, two = (build(spec, Store.at(tmp_path), Cache()).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_an_init_survives_json(init, finetune, pretrain):
    spec = make(init, finetune, pretrain)
    assert RunSpec.from_json(spec.to_json()) == spec


def test_lineage_is_followed_to_the_architecture(pretrain, finetune):
    parent = pretrain()
    child = finetune(init=Load(parent.final))
    assert Load(child.final).architecture() == parent.init.origin


# Reinit, as a value


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layers": ()}, r"that is Load\(origin\)"),
        ({"layers": (1, 0)}, "in ascending order"),
        ({"layers": (1, 1)}, "name each once"),
        ({"layers": (2,)}, "has 2 layers, 0 to 1 from the input side"),
        ({"layers": (-1, 0)}, "has 2 layers"),
        ({"scheme": "brt"}, "Did you mean 'bert'"),
        ({"bias": "zer"}, "Did you mean 'zero'"),
        ({"layer_norm": "x"}, "keep, reset"),
        ({"pooler": "zero"}, "There are: keep, redraw"),
        ({"embeddings": "drop"}, "There are: keep, redraw"),
    ],
)
def test_a_reinit_that_cannot_be_is_refused(still_bert, changes, said):
    with pytest.raises(ValueError, match=said):
        Reinit(**{"origin": plm.external(still_bert), "layers": (1,), "scheme": "bert", "seed": 0, **changes})


def test_shared_layers_are_refused_before_anything_is_loaded(tmp_path):
    import transformers

    config = transformers.AlbertConfig(**SIZES, embedding_size=16)
    transformers.AlbertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="albert shares one group of weights among its 2 layers"):
        plm.reinit(str(tmp_path), "01")


@pytest.mark.parametrize(("mask", "layers"), [("01", (1,)), ("11", (0, 1)), ([1], (1,)), ((1, 0, 1), (0, 1))])
def test_masks_and_numbers_name_layers(still_bert, mask, layers):
    assert plm.reinit(still_bert, mask).layers == layers


@pytest.mark.parametrize("nothing", ["00", [], ()])
def test_nothing_redrawn_is_the_model(still_bert, nothing):
    assert plm.reinit(still_bert, nothing, seed=7, scheme="matched") == Load(plm.external(still_bert))


@pytest.mark.parametrize("mask", ["0", "011", "02", "none", ""])
def test_masks_fit_the_model(still_bert, mask):
    with pytest.raises(ValueError, match="write 2 characters 0 or 1, one a layer from the input side"):
        plm.reinit(still_bert, mask)


def test_every_option_of_a_reinit_is_in_the_id(still_bert):
    variants = [
        {},
        {"seed": 1},
        {"bias": "zero"},
        {"layer_norm": "keep"},
        {"pooler": "redraw"},
        {"embeddings": "redraw"},
    ]
    variants += [{"scheme": scheme} for scheme in SCHEMES if scheme != "bert"]
    ids = {digest(plm.reinit(still_bert, "01", **options)) for options in variants}
    ids.add(digest(plm.reinit(still_bert, "11")))
    assert len(ids) == 11


def test_a_pooler_or_the_embeddings_may_be_redrawn_alone(still_bert):
    pooler, tables = (plm.reinit(still_bert, "00", **{part: "redraw"}) for part in ("pooler", "embeddings"))
    assert (pooler.layers, tables.layers) == ((), ())
    assert digest(pooler) != digest(tables)
    assert plm.reinit(still_bert, "00", pooler="redraw", layer_norm="keep") == pooler  # which has no norm


def test_a_pooler_that_no_classifier_reads_is_not_redrawn(tmp_path):
    FAMILIES["roberta"].config().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="a classifier on roberta reads no pooler of the pretrained body"):
        plm.reinit(str(tmp_path), "01", pooler="redraw")
