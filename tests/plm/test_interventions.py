"""Interventions: what is done to layers is what was said, on every family; what does nothing is the plain model."""

from __future__ import annotations

import copy
import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from families import FAMILIES, SHARED, of_type
from hypothesis import given
from hypothesis import strategies as st
from tiny import perturbed, save_model

import plm
from plm.build import Cache, build
from plm.kinds import check_kinds
from plm.models import layers, with_layers
from plm.rearrange import graft_layers, keep_layers, permute_layers
from plm.spec import RunSpec
from plm.store import Store

OWN = [name for name in FAMILIES if name not in SHARED] + ["distilbert", "opt", "qwen3"]
MORE = {
    "distilbert": of_type("distilbert", dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    "opt": of_type("opt", ffn_dim=64, word_embed_proj_dim=16, do_layer_norm_before=False),
    "qwen3": of_type(
        "qwen3", num_hidden_layers=6, num_key_value_heads=2, head_dim=8, layer_types=["full_attention"] * 6
    ),
}


@functools.cache
def pristine(name: str, seed: int = 0, count: int = 4):
    """A body of four layers, as if trained."""
    torch.manual_seed(seed)
    config = with_layers((FAMILIES | MORE)[name], count).config()
    return perturbed(transformers.AutoModel.from_config(config), seed).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Saves a body once, with a tokenizer."""
    root = tmp_path_factory.mktemp("bodies")

    def saved(name: str, seed: int = 0, count: int = 4) -> str:
        place = root / f"{name}-{seed}-{count}"
        return str(place) if place.exists() else save_model(copy.deepcopy(pristine(name, seed, count)), place)

    return saved


@pytest.fixture(scope="module")
def bert(folder) -> str:
    return folder("bert")


def tensors(model) -> list[dict[str, torch.Tensor]]:
    """Of each layer."""
    return [{name: t.clone() for name, t in layer.state_dict().items()} for layer in layers(model)]


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def outside(model) -> dict[str, torch.Tensor]:
    """What belongs to no layer."""
    inside = {id(p) for layer in layers(model) for p in layer.parameters()}
    return {name: p.detach() for name, p in model.named_parameters() if id(p) not in inside}


def moved(before, model, came_from) -> set[str]:
    """The names of the parameters in the layers whose weights came from elsewhere."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]
        for place, origin in enumerate(came_from)
        if origin != place
        for p in layers(model)[place].parameters()
    }


def says(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(5, 13)[None])[0]


# Moving weights


orders = st.permutations(range(4))
subsets = st.lists(st.integers(0, 3), unique=True, max_size=4).map(sorted)


@given(st.sampled_from(OWN), orders)
def test_a_permuted_model_has_every_layer_where_the_order_says(name, order):
    before, model = pristine(name), copy.deepcopy(pristine(name))
    names = permute_layers(model, order)
    old, new = tensors(before), tensors(model)
    assert all(equal(new[place], old[origin]) for place, origin in enumerate(order))
    assert equal(outside(model), outside(before))
    assert set(names) == moved(before, model, order)
    assert torch.equal(says(model), says(before)) == (order == list(range(4)))


@given(st.sampled_from(OWN), subsets)
def test_a_graft_has_the_donor_s_layers_and_no_other(name, chosen):
    before, donor, model = pristine(name), pristine(name, 1), copy.deepcopy(pristine(name))
    donated = tensors(donor)
    names = graft_layers(model, chosen, donor)
    old, new = tensors(before), tensors(model)
    assert all(equal(new[i], (donated if i in chosen else old)[i]) for i in range(4))
    assert not any(equal(donated[i], old[i]) for i in range(4))
    assert equal(outside(model), outside(before))
    assert all(equal(a, b) for a, b in zip(tensors(donor), donated, strict=True))
    assert set(names) == moved(before, model, [-1 if i in chosen else i for i in range(4)])


@given(st.sampled_from(OWN), subsets.filter(len))
def test_what_is_kept_are_the_layers_that_were_named(name, kept):
    before, model = pristine(name), copy.deepcopy(pristine(name))
    names = keep_layers(model, kept)
    old, new = tensors(before), tensors(model)
    assert len(new) == len(kept) == model.config.num_hidden_layers
    assert all(equal(new[place], old[origin]) for place, origin in enumerate(kept))
    assert equal(outside(model), outside(before))
    assert set(names) == moved(before, model, kept)


@pytest.mark.parametrize("name", OWN)
def test_a_shortened_model_is_read_back_as_it_was(name, tmp_path):
    model = copy.deepcopy(pristine(name))
    keep_layers(model, [0, 2, 3])
    model.save_pretrained(tmp_path)
    back, info = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.equal(says(back.eval()), says(model))
    assert torch.allclose(hidden_by_hand(name, [0, 2, 3]), says(model), atol=1e-6)


def hidden_by_hand(name: str, kept) -> torch.Tensor:
    """What a model says whose other layers were made to pass on what they get."""
    model = copy.deepcopy(pristine(name))
    for i, layer in enumerate(layers(model)):
        if i not in kept:
            whole = layer.forward
            layer.forward = lambda hidden, *args, _whole=whole, **kwargs: _passed(
                _whole(hidden, *args, **kwargs), hidden
            )
    return says(model)


def _passed(given_back, hidden):
    return hidden if isinstance(given_back, torch.Tensor) else (hidden, *given_back[1:])


def test_layers_that_are_not_alike_are_not_mixed():
    model = copy.deepcopy(pristine("bert"))
    model.encoder.layer[2].output.dense = torch.nn.Linear(48, 32)
    before = tensors(model)
    with pytest.raises(ValueError, match=r"layer 0 of BertModel is of another form: output\.dense\.weight"):
        permute_layers(model, [2, 0, 1, 3])
    assert all(equal(a, b) for a, b in zip(tensors(model), before, strict=True))


ALTERNATING = ["full_attention", "sliding_attention"] * 2


def test_layers_of_several_kinds_do_not_change_places(tmp_path):
    """A layer that was trained to see a window would otherwise see everything, or the other way round."""
    kinds = of_type("qwen3", num_hidden_layers=4, head_dim=8, num_key_value_heads=2, layer_types=ALTERNATING)
    body = transformers.AutoModel.from_config(kinds.config())
    source = save_model(body, tmp_path / "qwen3")
    said = r"layer 1 \(sliding_attention\) would come to place 0 \(full_attention\)"
    for refused in (
        lambda: plm.permute(source, (1, 0, 2, 3)),
        lambda: plm.drop(source, "1000"),
        lambda: permute_layers(body, (1, 0, 2, 3)),
        lambda: keep_layers(body, (1, 2, 3)),
    ):
        with pytest.raises(ValueError, match=said):
            refused()
    assert plm.permute(source, (2, 1, 0, 3)).order == (2, 1, 0, 3)
    assert json.loads(plm.drop(source, "0011").architecture().json)["layer_types"] == ALTERNATING[:2]


NEO = of_type("gpt_neo", num_hidden_layers=4, attention_types=[[["global", "local"], 2]], window_size=4)
MODERN = of_type("modernbert", num_hidden_layers=4, global_attn_every_n_layers=3, pad_token_id=0)


@pytest.mark.parametrize(("sample", "kinds"), [(NEO, ("global", "local")), (MODERN, ("full", "sliding"))])
def test_kinds_that_a_config_does_not_spell_out_are_known(sample, kinds, tmp_path):
    """GPT-Neo says them under a name of its own, and of a ModernBERT they follow from a number."""
    body = transformers.AutoModel.from_config(sample.config())
    source = Path(save_model(copy.deepcopy(body), tmp_path / sample.model_type))
    raw = json.loads((source / "config.json").read_text())
    for derived in ("layer_types", "attention_layers"):
        raw.pop(derived, None)
    (source / "config.json").write_text(json.dumps(raw))
    said = r"layer 1 \({1}\w*\) would come to place 0 \({0}\w*\)".format(*kinds)
    for refused in (
        lambda: plm.permute(str(source), (1, 0, 2, 3)),
        lambda: plm.drop(str(source), "1000"),
        lambda: permute_layers(body, (1, 0, 2, 3)),
        lambda: keep_layers(body, (1, 2, 3)),
    ):
        with pytest.raises(ValueError, match=said):
            refused()
    alike = (0, 2, 1, 3) if sample is MODERN else (2, 1, 0, 3)
    assert plm.permute(str(source), alike).order == alike


@pytest.mark.parametrize("sample", [NEO, MODERN])
def test_a_model_of_several_kinds_is_shortened(sample, tmp_path):
    body = transformers.AutoModel.from_config(sample.config())
    source = save_model(copy.deepcopy(body), tmp_path / sample.model_type)
    planned = transformers.AutoModel.from_config(plm.drop(source, "0011").architecture().config())
    keep_layers(body, (0, 1))
    body.save_pretrained(tmp_path / "short")
    back, info = transformers.AutoModel.from_pretrained(tmp_path / "short", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert equal(back.state_dict(), body.state_dict())
    assert len(layers(back)) == len(layers(planned)) == 2


def test_a_family_that_wants_full_attention_last_is_not_shortened_to_a_layer_without():
    """Its configuration would make the layer one of full attention."""
    gemma = of_type("gemma4_text", num_hidden_layers=4, layer_types=ALTERNATING[::-1])
    with pytest.raises(ValueError, match=r"layer 2 \(sliding_attention\) would come to place 2 \(full_attention\)"):
        check_kinds(gemma, (0, 1, 2), with_layers(gemma, 3))
    check_kinds(gemma, (0, 1), with_layers(gemma, 2))


def test_a_write_that_has_no_effect_is_an_error(monkeypatch):
    model = copy.deepcopy(pristine("bert"))
    monkeypatch.setattr(torch.Tensor, "copy_", lambda self, new: self)
    with pytest.raises(RuntimeError, match="of layer 0 is not at its target"):
        permute_layers(model, [1, 0, 2, 3])


# As values


@pytest.mark.parametrize(
    ("seed", "order"),
    [(1, (2, 3, 4, 10, 1, 6, 0, 7, 11, 9, 8, 5)), (2, (9, 5, 4, 7, 1, 10, 0, 3, 2, 6, 11, 8))],
)
def test_the_paper_s_permutations(seed, order):
    assert plm.permutation(seed, 12) == order
    assert all(type(layer) is int for layer in plm.permutation(seed, 12))


def test_what_does_nothing_is_the_plain_model(bert, folder, finetune):
    """With its run id, so that a baseline is run once."""
    plain = plm.external(bert)
    moved_away = plm.External(
        plain.files, path=folder("bert", 1), name="a copy"
    )  # the same files, said to lie elsewhere
    nothing = [
        plm.permute(bert, range(4)),
        plm.graft(bert, "0000", folder("bert", 1)),
        plm.graft(bert, "0110", bert),
        plm.graft(bert, "1111", moved_away),
        plm.drop(bert, ()),
        plm.reinit(bert, "0000", scheme="family", seed=4),
    ]
    assert {finetune(init=init).run_id for init in nothing} == {finetune(init=bert).run_id}
    assert set(nothing) == {plm.Load(plain)}


@given(orders, orders)
def test_orders_have_an_id_each(bert, one, two):
    from plm.spec import digest

    assert (digest(plm.permute(bert, one)) == digest(plm.permute(bert, two))) == (one == two)


def test_every_choice_is_part_of_the_id(bert, folder, finetune):
    inits = [
        plm.drop(bert, "0011"),
        plm.drop(bert, "0001"),
        plm.graft(bert, "0011", folder("bert", 1)),
        plm.graft(bert, "0011", folder("bert", 2)),
        plm.graft(bert, "0001", folder("bert", 1)),
        plm.graft(folder("bert", 1), "0011", bert),
        plm.reinit(bert, "0011"),
        plm.permute(bert, (0, 1, 3, 2)),
    ]
    assert len({finetune(init=init).run_id for init in inits}) == len(inits)
    assert plm.drop(bert, "0011") == plm.drop(bert, [3, 2, 3])


def test_a_graft_has_two_parents(pretrain, finetune):
    one, two = pretrain(), pretrain(seed=1)
    spec = finetune(init=plm.graft(one.final, "10", two.at(2)))
    assert set(spec.parents()) == {one.final, two.at(2)}
    assert finetune(init=plm.graft(one.final, "11", one.at(4))).run_id == finetune(init=one.final).run_id
    assert RunSpec.from_json(spec.to_json()) == spec


def test_a_shortened_model_knows_its_length(bert, pretrain, finetune):
    short = plm.drop(bert, "0101")
    assert short.kept == (0, 2)
    assert plm.shape(short.architecture()).num_hidden_layers == 2
    assert plm.shape(finetune(init=short).final).num_hidden_layers == 2
    parent = pretrain()
    assert plm.drop(parent.final, "01").architecture() == replace(parent.init.origin, num_hidden_layers=1)


# Refusals


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda bert, other: plm.permute(bert, (0, 1, 2)), "name each of the layers 0 to 3 once"),
        (lambda bert, other: plm.permute(bert, (0, 1, 1, 2)), "name each of the layers 0 to 3 once"),
        (lambda bert, other: plm.Permute(plm.external(bert), (0, 1, 2, 3)), r"that is Load\(origin\)"),
        (lambda bert, other: plm.permute(bert, plm.permutation(2**32, 4)), "its seeds are 0 to 4294967295"),
        (lambda bert, other: plm.drop(bert, "1111"), "all 4 layers would be dropped: keep one"),
        (lambda bert, other: plm.drop(bert, [4]), "has 4 layers, 0 to 3 from the input side"),
        (lambda bert, other: plm.drop(bert, "01"), "write 4 characters 0 or 1"),
        (lambda bert, other: plm.Drop(plm.external(bert), ()), r"that is Load\(origin\)"),
        (lambda bert, other: plm.Drop(plm.external(bert), (1, 0)), "in ascending order"),
        (lambda bert, other: plm.graft(bert, [4], other), "has 4 layers"),
        (lambda bert, other: plm.Graft(plm.external(bert), (), plm.external(other)), r"that is Load\(origin\)"),
        (lambda bert, other: plm.Graft(plm.external(bert), (1,), plm.external(bert)), r"that is Load\(origin\)"),
    ],
)
def test_what_cannot_be_is_refused(bert, folder, make, said):
    with pytest.raises(ValueError, match=said):
        make(bert, folder("bert", 1))


@pytest.mark.parametrize(
    ("donor", "said"),
    [
        ({"name": "bert", "count": 3}, "num_hidden_layers 3 and 4"),
        ({"name": "roberta"}, "model_type roberta and bert"),
        ({"name": "gpt2"}, "model_type gpt2 and bert"),
        ({"name": "heads"}, r"do not fit the model: num_attention_heads 8 and 4\. Choose a donor of the same shape"),
        ({"name": "narrow"}, "intermediate_size 48 and 64"),
    ],
)
def test_a_donor_of_another_shape_is_refused(bert, folder, monkeypatch, donor, said):
    """Eight heads of four make tensors of the same shape as four of eight, and mean something else."""
    monkeypatch.setitem(MORE, "heads", of_type("bert", num_attention_heads=8))
    monkeypatch.setitem(MORE, "narrow", of_type("bert", intermediate_size=48))
    with pytest.raises(ValueError, match=said):
        plm.graft(bert, "0001", folder(**donor))


SLIDING = {"head_dim": 8, "num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 4}


@pytest.mark.parametrize(
    ("name", "own", "donor", "said"),
    [
        ("bert", {}, {"hidden_act": "relu"}, "hidden_act relu and gelu"),
        ("gpt2", {}, {"activation_function": "relu"}, "activation_function relu and gelu_new"),
        ("distilbert", {}, {"activation": "relu"}, "activation relu and gelu"),
        (
            "qwen3",
            {"layer_types": ["full_attention"] * 2, **SLIDING},
            {"layer_types": ["full_attention", "sliding_attention"], **SLIDING},
            "layer 1 sliding_attention and full_attention",
        ),
    ],
)
def test_a_donor_whose_layers_do_something_else_is_refused(name, own, donor, said, tmp_path):
    """Its tensors have the same shapes."""
    bodies = [transformers.AutoModel.from_config(of_type(name, **changes).config()) for changes in (own, donor)]
    origin, other = (save_model(body, tmp_path / str(i)) for i, body in enumerate(bodies))
    for refused in (lambda: plm.graft(origin, "01", other), lambda: graft_layers(bodies[0], (1,), bodies[1])):
        with pytest.raises(ValueError, match=rf"donor's layers do not fit the model: {said}\."):
            refused()
    if name == "qwen3":  # the layers below are of one kind in both
        assert plm.graft(origin, "10", other).layers == (0,)


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize(
    "treat",
    [
        lambda source, other: plm.permute(source, (1, 0)),
        lambda source, other: plm.drop(source, "01"),
        lambda source, other: plm.graft(source, "01", other),
        lambda source, other: plm.reinit(source, "01"),
    ],
    ids=["permute", "drop", "graft", "reinit"],
)
def test_shared_layers_are_refused_with_the_reason(name, treat, folder):
    with pytest.raises(
        ValueError, match=r"shares one .* among its 2 layers, so a single layer cannot be treated alone"
    ):
        treat(folder(name, 0, 2), folder(name, 1, 2))


# In a run


@pytest.mark.parametrize("name", OWN)
def test_every_family_is_treated_and_fine_tuned(name, folder, finetune, tmp_path):
    """The body of the run is the body treated directly, and its checkpoint loads."""
    source, donor = folder(name), folder(name, 1)
    store, cache = Store.at(tmp_path), Cache()
    treated = {
        plm.permute(source, (2, 0, 1, 3)): lambda body: permute_layers(body, (2, 0, 1, 3)),
        plm.graft(source, "0110", donor): lambda body: graft_layers(body, (1, 2), pristine(name, 1)),
        plm.drop(source, "0110"): lambda body: keep_layers(body, (0, 3)),
    }
    for init, treat in treated.items():
        body = copy.deepcopy(pristine(name))
        treat(body)
        made = build(finetune(init=init), store, cache).model
        assert all(equal(a, b) for a, b in zip(tensors(made), tensors(body), strict=True))
    run = plm.train(finetune(init=init, duration=plm.steps(1)), store=store, execution=plm.Execution(keep_weights=True))
    back = transformers.AutoModel.from_pretrained(run.path / "checkpoints/step_00000001")
    assert len(layers(back)) == 2


def test_the_cache_is_not_changed_by_what_is_done_to_its_models(bert, folder, finetune, tmp_path):
    store, cache = Store.at(tmp_path), Cache()
    plain = build(finetune(init=bert), store, cache).model.state_dict()
    for init in (plm.drop(bert, "1100"), plm.permute(bert, (3, 2, 1, 0)), plm.graft(bert, "1111", folder("bert", 1))):
        build(finetune(init=init), store, cache)
    again = build(finetune(init=bert), store, cache).model
    assert again.config.num_hidden_layers == 4
    assert equal(again.state_dict(), plain)


def test_a_child_of_a_shortened_model_is_as_short(bert, finetune, tmp_path):
    parent = finetune(init=plm.drop(bert, "0110"), duration=plm.steps(1))
    plm.train(parent, store=tmp_path, execution=plm.Execution(keep_weights=True))
    child = finetune(init=parent.final, duration=plm.steps(1))
    assert len(layers(build(child, Store.at(tmp_path), Cache()).model)) == 2
    again = finetune(init=plm.drop(parent.final, "10"))
    assert len(layers(build(again, Store.at(tmp_path), Cache()).model)) == 1


def test_an_albert_without_sharing_keeps_a_group_a_layer(folder, finetune, tmp_path):
    source = folder("albert-none")
    model = build(finetune(init=plm.drop(source, "0100")), Store.at(tmp_path), Cache()).model
    assert (model.config.num_hidden_layers, model.config.num_hidden_groups) == (3, 3)
    assert Path(source).exists()
