"""Over masks, options and families: exactly what was named is redrawn, to what the options say, and all else is kept."""

from __future__ import annotations

import copy
import functools
import re

import pytest
import torch
import transformers
from families import FAMILIES, SHARED, of_type
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import perturbed

from plm import redraw
from plm.inits.reinit import BIASES, LAYER_NORMS, PARTS, POOLED, SCHEMES
from plm.models import layers, with_layers
from plm.objectives.classify import Classify
from plm.redraw import chosen, names_in, reinitialize

MODELS = {name: model for name, model in FAMILIES.items() if name not in SHARED} | {
    "distilbert": of_type("distilbert", dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    "opt": of_type("opt", ffn_dim=64, word_embed_proj_dim=16, do_layer_norm_before=False),
    "wide": of_type("bert", initializer_range=0.05),
}
BLOCKS = {
    "albert-none": r"albert\.encoder\.albert_layer_groups\.(\d+)\.",
    "albert-none-wide": r"albert\.encoder\.layers\.(\d+)\.",
    "bert": r"bert\.encoder\.layer\.(\d+)\.",
    "configured": r"model\.layers\.(\d+)\.",
    "distilbert": r"distilbert\.transformer\.layer\.(\d+)\.",
    "electra": r"electra\.encoder\.layer\.(\d+)\.",
    "gpt": r"transformer\.h\.(\d+)\.",
    "gpt2": r"transformer\.h\.(\d+)\.",
    "neox": r"gpt_neox\.layers\.(\d+)\.",
    "opt": r"model\.decoder\.layers\.(\d+)\.",
    "roberta": r"roberta\.encoder\.layer\.(\d+)\.",
    "wide": r"bert\.encoder\.layer\.(\d+)\.",
}
"""Where a family's classifier keeps its layers."""
TABLES = {"word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight"}
BEFORE = {
    "configured": {"model.embed_tokens.weight"},
    "distilbert": {"distilbert.embeddings.word_embeddings.weight", "distilbert.embeddings.position_embeddings.weight"},
    "gpt": {"transformer.tokens_embed.weight", "transformer.positions_embed.weight"},
    "gpt2": {"transformer.wte.weight", "transformer.wpe.weight"},
    "neox": {"gpt_neox.embed_in.weight"},
    "opt": {
        "model.decoder.embed_tokens.weight",
        "model.decoder.embed_positions.weight",
        "model.decoder.project_in.weight",
    },
    "albert-none": {f"albert.embeddings.{t}" for t in TABLES} | {"albert.encoder.embedding_hidden_mapping_in.weight"},
    "albert-none-wide": {f"albert.embeddings.{t}" for t in TABLES},
    "electra": {f"electra.embeddings.{t}" for t in TABLES} | {"electra.embeddings_project.weight"},
    "bert": {f"bert.embeddings.{t}" for t in TABLES},
    "roberta": {f"roberta.embeddings.{t}" for t in TABLES},
    "wide": {f"bert.embeddings.{t}" for t in TABLES},
}
"""The matrices before the first layer."""
NORM = re.compile(r"norm|ln_\d", re.IGNORECASE)


@functools.cache
def pristine(name: str):
    """A classifier of three layers, as if trained."""
    torch.manual_seed(0)
    objective, config = Classify(2), with_layers(MODELS[name], 3).config()
    objective.configure(config)
    return perturbed(objective.auto().from_config(config))


def named(name: str, model, mask, bias: str, layer_norm: str, pooler: str, embeddings: str) -> set[str]:
    """What must be touched, from the names alone."""
    found = set()
    for parameter, tensor in model.named_parameters():
        place = re.match(BLOCKS[name], parameter)
        if place:
            part = mask[int(place[1])]
        elif parameter.startswith(("bert.pooler.", "albert.pooler.")):
            part = pooler == "redraw"
        else:
            early = parameter in BEFORE[name] or ("embedding" in parameter and tensor.ndim == 1)
            part = early and embeddings == "redraw"
        kind = tensor.ndim > 1 or (layer_norm == "reset" if NORM.search(parameter) else bias == "zero")
        found |= {parameter} if part and kind else set()
    return found


@settings(max_examples=150)
@given(
    name=st.sampled_from(sorted(MODELS)),
    mask=st.lists(st.booleans(), min_size=3, max_size=3),
    scheme=st.sampled_from(SCHEMES),
    bias=st.sampled_from(BIASES),
    layer_norm=st.sampled_from(LAYER_NORMS),
    pooler=st.sampled_from(PARTS),
    embeddings=st.sampled_from(PARTS),
    seed=st.integers(0, 3),
)
def test_exactly_what_was_named_is_redrawn(name, mask, scheme, bias, layer_norm, pooler, embeddings, seed):
    if MODELS[name].model_type not in POOLED:
        pooler = "keep"
    before, model = pristine(name), copy.deepcopy(pristine(name))
    options = {"scheme": scheme, "bias": bias, "layer_norm": layer_norm, "pooler": pooler, "embeddings": embeddings}
    touched = reinitialize(model, [i for i in range(3) if mask[i]], **options, seed=seed)
    old = dict(before.named_parameters())
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, old[n])}
    assert changed == set(touched) == named(name, model, mask, bias, layer_norm, pooler, embeddings)
    for touched_name in touched:
        new = model.get_parameter(touched_name)
        if new.ndim == 1:
            assert new.unique().tolist() == [float(touched_name.endswith("weight"))]
        elif scheme == "shuffle":
            assert torch.equal(new.flatten().sort().values, old[touched_name].flatten().sort().values)
        elif scheme != "family":
            spread, cut = {
                "bert": (0.0176, 0.04),
                "released": (0.000462, 0.0008),
                "matched": (old[touched_name].std().item(), 9.0),
            }[scheme]
            assert new.std().item() == pytest.approx(spread, rel=5 / (2 * new.numel()) ** 0.5)
            assert new.abs().max() <= cut


@pytest.mark.parametrize("name", MODELS)
def test_the_family_scheme_is_transformers_own(name):
    """Its spread, matrix by matrix: also where a family scales some by depth, or has another range."""
    model = copy.deepcopy(pristine(name))
    pooler = "redraw" if MODELS[name].model_type in POOLED else "keep"
    touched = reinitialize(model, range(3), scheme="family", pooler=pooler, embeddings="redraw")
    fresh = type(model)(with_layers(MODELS[name], 3).config())
    for parameter in touched:
        drawn, own = model.get_parameter(parameter), fresh.get_parameter(parameter)
        if drawn.ndim > 1:
            assert drawn.std().item() == pytest.approx(own.std().item(), rel=5 / drawn.numel() ** 0.5), parameter
            assert not torch.equal(drawn, own)


def test_gpt2_s_residual_projections_are_scaled_by_depth():
    """.02/sqrt(2L), as PAPERS have it of a new model; half of them would pass for any other matrix."""
    model = copy.deepcopy(pristine("gpt2"))
    reinitialize(model, [0], scheme="family")
    block = layers(model)[0]
    assert block.mlp.c_proj.weight.std().item() == pytest.approx(0.02 / 6**0.5, rel=0.05)
    assert block.mlp.c_fc.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_an_initialiser_that_does_nothing_is_noticed(monkeypatch):
    model = copy.deepcopy(pristine("bert"))
    monkeypatch.setattr(redraw, "_new_body", lambda drawn, seed: drawn.base_model)
    with pytest.raises(RuntimeError, match="was drawn afresh but did not change"):
        reinitialize(model, [1], scheme="family")


def test_a_flag_of_transformers_does_not_stop_it(tmp_path):
    """Weights read from files are flagged as initialised."""
    pristine("bert").save_pretrained(tmp_path)
    model = type(pristine("bert")).from_pretrained(tmp_path)
    assert any(getattr(p, "_is_hf_initialized", False) for p in model.parameters())
    touched = reinitialize(model, [1], scheme="family", pooler="redraw")
    assert "bert.pooler.dense.weight" in touched
    assert len(touched) == 11


def test_a_part_draws_the_same_noise_whichever_others_are_named():
    alone, together = copy.deepcopy(pristine("bert")), copy.deepcopy(pristine("bert"))
    for scheme in SCHEMES:
        reinitialize(alone, [], scheme=scheme, pooler="redraw")
        reinitialize(together, [0, 2], scheme=scheme, pooler="redraw", embeddings="redraw")
        assert torch.equal(alone.bert.pooler.dense.weight, together.bert.pooler.dense.weight)


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.model_type not in POOLED])
def test_a_family_without_a_pooler_has_none_to_redraw(name):
    model = copy.deepcopy(pristine(name))
    with pytest.raises(ValueError, match=r"pooler='redraw': the body of \w+ has no pooler"):
        reinitialize(model, [0], pooler="redraw")
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), pristine(name).parameters(), strict=True))


def test_a_tied_vocabulary_is_redrawn_with_the_embeddings():
    config = MODELS["bert"].config()
    model = perturbed(transformers.BertForMaskedLM(config))
    touched = reinitialize(model, [], embeddings="redraw")
    assert "bert.embeddings.word_embeddings.weight" in touched
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert model.cls.predictions.decoder.weight.std().item() == pytest.approx(0.0176, rel=0.05)


@pytest.mark.parametrize("name", MODELS)
def test_the_parameters_of_a_part_include_those_that_are_kept(name):
    model = pristine(name)
    touched = names_in(model, chosen(model, [1], "keep", "keep"))
    assert set(touched) == {
        n for n in dict(model.named_parameters()) if (m := re.match(BLOCKS[name], n)) and m[1] == "1"
    }
