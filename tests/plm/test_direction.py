"""In which direction a model reads: judged by its family before it is built, tried once it is."""

from __future__ import annotations

import pytest
import torch
import transformers
from families import CAUSAL, FAMILIES, of_type
from tiny import SIZES

from plm import direction, probe
from plm.direction import is_causal, is_masked, sees_later
from plm.models.bert import Bert
from plm.models.configured import Configured, canonical
from plm.objectives.clm import CausalLM
from plm.objectives.combined import Sum
from plm.objectives.mlm import MaskedLM
from plm.objectives.nsp import NextSentence
from plm.store import Store
from plm.train import train

XLNET = Configured(canonical({"model_type": "xlnet", "vocab_size": 65, "d_model": 32, "n_layer": 2, "n_head": 4}))
"""transformers trains it as a causal model, by a mask that its language-modelling class leaves to the caller."""


def body(value):
    """A model of a family; weights by its own initialisation."""
    torch.manual_seed(0)
    return transformers.AutoModel.from_config(value.config())


# By name


@pytest.mark.parametrize(
    ("family", "causal", "masked"),
    [
        ("gpt2", True, False),
        ("bert", False, True),
        ("albert-sharing", False, True),
        ("bloom", True, False),  # the rest is in no list of ours
        ("qwen3", True, False),
        ("camembert", False, True),
        ("xlm-roberta", False, True),  # has a causal head too, for cross-attention
        ("convbert", False, True),
        ("esm", False, True),
        ("t5", False, False),
        ("vit", False, False),
        ("no-such-family", False, False),
    ],
)
def test_a_family_is_judged_by_what_transformers_trains_it_as(family, causal, masked):
    assert (is_causal(family), is_masked(family)) == (causal, masked)


def test_the_lists_only_save_time():
    """Without them, transformers says the same of the families that are its own."""
    for family in set(direction.CAUSAL + direction.BIDIRECTIONAL):
        causal, masked = direction._trained_as(family)
        assert (is_causal(family), is_masked(family)) == (causal and not masked, masked), family


@pytest.mark.parametrize(
    ("objective", "family", "message"),
    [
        (CausalLM(), "camembert", "camembert reads in both directions"),
        (CausalLM(), "convbert", "convbert reads in both directions"),
        (CausalLM(), "t5", "no causal language model of the family t5"),
        (MaskedLM(), "bloom", "bloom reads from left to right"),
        (MaskedLM(), "t5", "no masked language model of the family t5"),
    ],
)
def test_families_of_no_list_are_refused_too(objective, family, message):
    with pytest.raises(ValueError, match=message):
        objective.check(family)


def test_a_plan_refuses_what_reads_the_other_way(pretrain):
    with pytest.raises(ValueError, match="camembert reads in both directions"):
        pretrain(architecture=of_type("camembert"), objective=CausalLM())
    with pytest.raises(ValueError, match="bloom reads from left to right"):
        pretrain(architecture=of_type("bloom"))


# By trying


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("seq_len", [2, 3, 40])
def test_every_family_reads_as_it_should(name, seq_len):
    model = body(FAMILIES[name])
    assert sees_later(model, min(seq_len, 38)) == (name not in CAUSAL)


def test_a_decoder_that_is_one_by_configuration_is_found():
    config = transformers.BertConfig(**SIZES, is_decoder=True)
    assert not sees_later(transformers.BertModel(config), 16)
    assert sees_later(body(XLNET), 16)


def test_trying_leaves_the_model_as_it_was():
    model = body(FAMILIES["bert"]).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    sees_later(model, 16)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_model_that_would_copy_is_refused_before_it_is_trained(pretrain, tmp_path, monkeypatch):
    """A family whose name says nothing: it is built, tried, and nothing is trained."""
    spec = pretrain(architecture=XLNET, objective=CausalLM())
    with pytest.raises(ValueError, match="what it says of a token changes with the tokens after it"):
        train(spec, store=tmp_path)
    assert Store.at(tmp_path).run(spec).last_attempt()["step"] == 0
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.0)
    with pytest.raises(ValueError, match="what it says of a token changes"):
        probe.within(spec, minutes=1)


def test_a_masked_model_that_reads_one_way_is_refused(pretrain, tmp_path):
    deaf = of_type("bert", is_decoder=True)
    with pytest.raises(ValueError, match="does not change with the tokens after it"):
        train(pretrain(architecture=deaf), store=tmp_path)


def test_a_sum_tries_each_part():
    model = transformers.BertForPreTraining(transformers.BertConfig(**SIZES, is_decoder=True))
    with pytest.raises(ValueError, match="does not change with the tokens after it"):
        Sum((MaskedLM(), NextSentence())).check_built(model, 16)
    Sum((MaskedLM(), NextSentence())).check_built(
        transformers.BertForPreTraining(Bert(**SIZES, dropout=0.1).config()), 16
    )
