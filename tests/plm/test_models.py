"""Shapes and layers: what a plan knows of a model before any weight is read, and which modules are its layers."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import transformers
from test_redraw import FAMILIES, SMALL
from tiny import SIZES

from plm.models import Model, config_of, layers, shape
from plm.models.bert import Bert
from plm.registry import member, names
from plm.spec import External

SAMPLES: dict[str, Model] = {"bert": Bert(**SIZES, dropout=0.1)}


def saved(family: str, folder, **changes) -> External:
    config = getattr(transformers, family + "Config")(**{**FAMILIES.get(family, SMALL), **changes})
    config.save_pretrained(folder)
    return External((), path=str(folder), name=family)


# Every member


@pytest.fixture(params=names("models"))
def sample(request):
    assert request.param in SAMPLES, f"add a small plm/models/{request.param} to SAMPLES"
    return SAMPLES[request.param]


def test_a_member_is_built_with_the_sizes_it_names(sample):
    config = sample.config()
    for f in dataclasses.fields(sample):
        if hasattr(config, f.name):
            assert getattr(config, f.name) == getattr(sample, f.name)
    assert member("models", sample.kind.partition("/")[2]) is type(sample)


def test_the_shape_of_a_member_is_that_of_its_model(sample, tmp_path):
    sample.config().save_pretrained(tmp_path)
    assert shape(sample) == shape(External((), path=str(tmp_path), name="x"))


def test_a_member_s_layers_are_found(sample):
    model = transformers.AutoModel.from_config(sample.config())
    assert len(layers(model)) == sample.num_hidden_layers


def test_a_bert_is_transformers_own(tmp_path):
    torch.manual_seed(0)
    ours = transformers.AutoModelForMaskedLM.from_config(SAMPLES["bert"].config())
    torch.manual_seed(0)
    theirs = transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))
    ids = torch.arange(5, 12)[None]
    assert torch.equal(ours.eval()(ids).logits, theirs.eval()(ids).logits)


def test_heads_must_divide():
    with pytest.raises(ValueError, match="hidden_size 32 does not divide into 5 attention heads"):
        Bert(**{**SIZES, "num_attention_heads": 5}, dropout=0.0)


# Shapes of others


@pytest.mark.parametrize("family", FAMILIES)
def test_families_call_their_sizes_differently(family, tmp_path):
    found = shape(saved(family, tmp_path))
    assert (found.num_hidden_layers, found.hidden_size) == (2, 32)
    assert (found.vocab_size, found.max_position_embeddings) == (65, 40)
    assert found.intermediate_size == (128 if family == "GPT2" else 64)
    assert not found.shared


@pytest.mark.parametrize(
    ("family", "segments"), [("Bert", True), ("Electra", True), ("DistilBert", False), ("GPT2", False)]
)
def test_who_reads_segments(family, segments, tmp_path):
    assert shape(saved(family, tmp_path)).segments == segments


@pytest.mark.parametrize(("groups", "shared"), [(1, True), (2, False)])
def test_albert_shares_its_layers(groups, shared, tmp_path):
    assert shape(saved("Albert", tmp_path, embedding_size=16, num_hidden_groups=groups)).shared == shared


def test_a_configuration_without_sizes_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 3}))
    with pytest.raises(ValueError, match="does not say its num_hidden_layers; it has hidden_size, model_type"):
        shape(External((), path=str(tmp_path), name="x"))


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_the_blocks_in_order(family):
    model = getattr(transformers, family + "Model")(getattr(transformers, family + "Config")(**FAMILIES[family]))
    found = layers(model)
    assert len(found) == 2
    assert len({type(block) for block in found}) == 1
    names = [name for name, module in model.named_modules() if any(module is block for block in found)]
    assert [name.rpartition(".")[2] for name in names] == ["0", "1"]


def test_the_configuration_of_an_architecture(tmp_path):
    assert config_of(SAMPLES["bert"]).num_hidden_layers == 2
    assert config_of(saved("OPT", tmp_path)).pad_token_id == 1


def test_costs_grow_as_they_should():
    small, deep = (shape(Bert(**{**SIZES, "num_hidden_layers": n}, dropout=0.0)) for n in (2, 4))
    assert deep.flops_per_token(16) == 2 * small.flops_per_token(16)
    assert small.flops_per_token(16) == 2 * (2 * (4 * 32**2 + 2 * 32 * 64) + 4 * 16 * 32)
