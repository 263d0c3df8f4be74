"""The rate of what was drawn afresh reaches all of it and nothing else, in the optimizer and in the weights."""

from __future__ import annotations

import re

import pytest
import torch
from families import FAMILIES, SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny import perturbed, save_model, stop_after

import plm
from plm import optim
from plm.build import Cache, build
from plm.models import layers
from plm.spec import AdamW
from plm.store import Store

OWN = [name for name in FAMILIES if name not in SHARED]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A "pretrained" body of each family."""
    import transformers

    root, saved = tmp_path_factory.mktemp("families"), {}
    for name in OWN:
        torch.manual_seed(0)
        body = perturbed(transformers.AutoModel.from_config(FAMILIES[name].config()))
        saved[name] = save_model(body, root / name)
    return saved


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return Store.at(tmp_path_factory.mktemp("store")), Cache()


@settings(max_examples=40)
@given(
    name=st.sampled_from(OWN),
    mask=st.sampled_from(["01", "10", "11"]),
    layer_norm=st.sampled_from(["reset", "keep"]),
    embeddings=st.sampled_from(["keep", "redraw"]),
)
def test_every_parameter_is_in_one_group_and_the_redrawn_in_the_fast_ones(
    name, mask, layer_norm, embeddings, folders, kept, finetune
):
    """Kept biases and norms of a redrawn layer among them: the layer as a whole is what is new."""
    init = plm.reinit(folders[name], mask, layer_norm=layer_norm, embeddings=embeddings)
    spec = finetune(init=init, redrawn_lr=5.0)
    made = build(spec, *kept)
    groups = optim.build(made.model, spec.optim, made.afresh).param_groups
    where = [id(p) for group in groups for p in group["params"]]
    assert sorted(where) == sorted(id(p) for p in made.model.parameters())
    assert {group["scale"] for group in groups} == {1.0, 5.0}
    fast = {id(p) for group in groups if group["scale"] == 5.0 for p in group["params"]}
    of_layers = {id(p) for i, layer in enumerate(layers(made.model)) if mask[i] == "1" for p in layer.parameters()}
    assert of_layers <= fast
    assert {id(made.model.get_parameter(name)) for name in made.redrawn} <= fast
    assert not fast & {id(made.model.get_parameter(name)) for name in made.fresh}
    before = {n for n, p in made.model.named_parameters() if id(p) in fast - of_layers}
    assert bool(before) == (embeddings == "redraw")
    assert all(group["weight_decay"] == 0 or all(p.ndim > 1 for p in group["params"]) for group in groups)


def test_one_step_moves_each_weight_by_its_own_rate(make_bert, finetune, tmp_path):
    """The first step of Adam moves a weight by its rate, whatever its gradient: up to the last layer (theirs missed it)."""
    source = make_bert("four", num_hidden_layers=4, hidden_dropout_prob=0.0)
    spec = finetune(init=plm.reinit(source, "0011"), redrawn_lr=5.0, lr=1e-4, duration=plm.steps(1))
    path = plm.train(spec, store=tmp_path, execution=plm.Execution(keep=(0,), keep_weights=True)).path
    before, after = (load_file(path / f"checkpoints/step_0000000{step}/model.safetensors") for step in (0, 1))
    for name, old in before.items():
        furthest = (after[name] - old).abs().max().item()
        layer = re.search(r"layer\.(\d)\.", name)
        expected = 5e-4 if layer and int(layer[1]) >= 2 else 1e-4
        if "attention.self.key.bias" not in name:  # it has no gradient: adding to all keys changes no attention
            assert furthest == pytest.approx(expected, rel=0.02), name


def test_a_run_with_two_rates_resumes_exactly(tiny_bert, finetune, tmp_path):
    spec = finetune(init=plm.reinit(tiny_bert, "01"), redrawn_lr=5.0)
    straight = plm.train(spec, store=tmp_path / "one")
    with pytest.raises(plm.Stopped):
        plm.train(spec, store=tmp_path / "two", should_stop=stop_after(2))
    resumed = plm.train(spec, store=tmp_path / "two")
    one, two = (Store.at(tmp_path / name).run(spec).result() for name in ("one", "two"))
    assert one["weights_sha256"] == two["weights_sha256"]
    assert straight.metrics == resumed.metrics
    slow = plm.train(finetune(init=plm.reinit(tiny_bert, "01")), store=tmp_path / "one")
    assert slow.metrics != straight.metrics


def test_without_a_rate_of_their_own_there_are_two_groups(tiny_bert, finetune, kept):
    """So that optimizer states written before there was such a rate are still read."""
    spec = finetune(init=plm.reinit(tiny_bert, "01"))
    made = build(spec, *kept)
    assert [group["scale"] for group in optim.build(made.model, spec.optim, made.afresh).param_groups] == [1.0, 1.0]


def test_a_rate_with_nothing_to_act_on_is_refused(tiny_bert, finetune):
    with pytest.raises(ValueError, match="redrawn_lr 5: nothing was drawn afresh"):
        optim.build(torch.nn.Linear(2, 2), AdamW(lr=1.0, weight_decay=0.0, redrawn_lr=5.0))
    for init in (plm.permute(tiny_bert, (1, 0)), plm.drop(tiny_bert, "01")):
        with pytest.raises(
            ValueError, match=r"redrawn_lr 5: no weight of this run is both .* \(inits/\w+, trained 'all'"
        ):
            finetune(init=init, redrawn_lr=5.0)


def test_baselines_are_shared_whatever_the_rate(tiny_bert, finetune):
    assert finetune(init=plm.reinit(tiny_bert, "00"), redrawn_lr=5.0).run_id == finetune(init=tiny_bert).run_id
    redrawn = plm.reinit(tiny_bert, "01")
    frozen = finetune(init=redrawn, trained="head")
    assert finetune(init=redrawn, trained="head", redrawn_lr=5.0).run_id == frozen.run_id
    assert len({finetune(init=redrawn, redrawn_lr=rate).run_id for rate in (1, 1.0, 2, 5)}) == 3
