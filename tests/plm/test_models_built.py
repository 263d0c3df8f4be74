"""One suite for every family's modules: fresh weights, layers, checkpoints that transformers reads, redrawing."""

from __future__ import annotations

import math

import pytest
import torch
import transformers
from families import CAUSAL, FAMILIES, SAMPLES, SHARED
from tiny import WORDS, perturbed
from transformers.pytorch_utils import Conv1D

from plm import checkpoint
from plm.data.tokenizer import word_level
from plm.modeling.electra import ElectraForJointPreTraining
from plm.models import layers
from plm.redraw import reinitialize

HEADS = ("AutoModel", "AutoModelForSequenceClassification")
IDS = torch.arange(5, 17).view(2, 6)


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


def language_model(name: str) -> str:
    return "AutoModelForCausalLM" if name in CAUSAL else "AutoModelForMaskedLM"


def config_of(name: str):
    config = FAMILIES[name].config()
    config.num_labels, config.pad_token_id = 3, config.pad_token_id or 0
    return config


def fresh(name: str, auto: str, seed: int = 0, **fields):
    config = config_of(name)
    for field, value in fields.items():
        setattr(config, field, value)
    torch.manual_seed(seed)
    return getattr(transformers, auto).from_config(config).eval()


def written(model, folder):
    """The folder that a run would keep."""
    folder.mkdir(exist_ok=True)
    files = checkpoint.model_files(model, checkpoint.weights(model), word_level(WORDS))
    for file, data in files.items():
        (folder / file).write_bytes(data)
    return folder


def equal(first, second) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def norms(model) -> set[str]:
    return {n for n, m in model.named_modules() if type(m).__name__.lower().endswith("norm")}


# Fresh weights


@pytest.mark.parametrize("auto", HEADS)
def test_fresh_weights_have_the_family_s_spread(name, auto):
    """Matrices at .02, norms at 1, biases at 0; a padding token's row may be 0."""
    model, neutral = fresh(name, auto, hidden_dropout_prob=0.0), norms(fresh(name, auto))
    for parameter, tensor in model.named_parameters():
        module, _, kind = parameter.rpartition(".")
        if module in neutral:
            assert (tensor == (1 if kind == "weight" else 0)).all(), parameter
        elif tensor.ndim == 1:
            assert (tensor == 0).all(), parameter
        elif "c_proj" in parameter and name == "gpt2":
            assert tensor.std().item() == pytest.approx(0.02 / math.sqrt(2 * 2), rel=0.1), parameter
        elif tensor.numel() > 500:
            assert tensor.std().item() == pytest.approx(0.02, rel=0.1), parameter


@pytest.mark.parametrize("layers", [1, 4])
def test_gpt2_scales_its_residual_projections_by_depth(layers):
    """Radford et al. 2019, section 2.3: two residual branches a layer. The other matrices stay where they are."""
    model = fresh("gpt2", "AutoModelForCausalLM", n_layer=layers, n_embd=128, n_inner=512)
    found = {n: m.weight.std().item() for n, m in model.named_modules() if isinstance(m, Conv1D)}
    assert len(found) == 4 * layers
    for module, std in found.items():
        expected = 0.02 / math.sqrt(2 * layers) if module.endswith("c_proj") else 0.02
        assert std == pytest.approx(expected, rel=0.03), module


def test_a_wider_start_is_wider():
    """`initializer_range` reaches the weights, where the family has it."""
    for name in ("bert", "roberta", "albert", "albert-attention", "electra", "gpt2"):
        model = fresh(name, "AutoModel", initializer_range=0.05)
        matrix = next(p for n, p in model.named_parameters() if "position" in n or "wpe" in n)
        assert matrix.std().item() == pytest.approx(0.05, rel=0.1)


def test_the_seed_draws_the_weights(name):
    assert equal(fresh(name, "AutoModel"), fresh(name, "AutoModel"))
    assert not equal(fresh(name, "AutoModel"), fresh(name, "AutoModel", seed=1))


# Layers


def test_a_model_s_layers_are_found(name):
    model = fresh(name, language_model(name))
    if name in SHARED:
        with pytest.raises(ValueError, match=r"shares one .* among its 2 layers"):
            layers(model)
        return
    found = layers(model)
    assert len({id(block) for block in found}) == len(found) == 2
    assert len({type(block) for block in found}) == 1
    names = [n for n, module in model.named_modules() if any(module is block for block in found)]
    assert [n.rpartition(".")[2] for n in names] == ["0", "1"]


@pytest.mark.parametrize("name", [n for n in FAMILIES if n not in SHARED])
def test_redrawing_touches_the_named_layer_only(name):
    model = perturbed(fresh(name, language_model(name)))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    inside = {id(p) for p in layers(model)[1].parameters()}
    named = reinitialize(model, [1])
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == set(named)
    assert all(id(model.get_parameter(n)) in inside for n in named)
    matrices = {n for n, p in model.named_parameters() if id(p) in inside and p.ndim > 1}
    assert matrices <= set(named)


def test_every_layer_s_state_can_be_read(name):
    """For probing: the embeddings' output, then each layer's."""
    with torch.no_grad():
        out = fresh(name, "AutoModel")(IDS, output_hidden_states=True)
    assert len(out.hidden_states) == 3
    assert len({float(h.abs().sum()) for h in out.hidden_states}) == 3
    assert {h.shape for h in out.hidden_states[1:]} == {(2, 6, 32)}


# Checkpoints


@pytest.mark.parametrize("head", ["language model", *HEADS])
def test_transformers_reads_what_was_written(name, head, tmp_path):
    """Parity: the same logits from the family's own class, the same bits, nothing missing, nothing left over."""
    auto = language_model(name) if head == "language model" else head
    model = perturbed(fresh(name, auto))
    reader = getattr(transformers, auto)
    again, info = reader.from_pretrained(written(model, tmp_path / "x"), output_loading_info=True)
    assert not any(info.values()), info
    assert type(again) is type(model)
    assert equal(model, again)
    assert checkpoint.weights_sha256(model) == checkpoint.weights_sha256(again)
    with torch.no_grad():
        assert torch.equal(model(IDS)[0], again(IDS)[0])
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "x")
    assert words.decode(words("w03 w07")["input_ids"], skip_special_tokens=True) == "w03 w07"


PLAIN = {
    "albert": transformers.AlbertForMaskedLM,
    "albert-none": transformers.AlbertForMaskedLM,
    "bert": transformers.BertForMaskedLM,
    "configured": transformers.LlamaForCausalLM,
    "electra": transformers.ElectraForMaskedLM,
    "gpt": transformers.OpenAIGPTLMHeadModel,
    "gpt2": transformers.GPT2LMHeadModel,
    "neox": transformers.GPTNeoXForCausalLM,
    "roberta": transformers.RobertaForMaskedLM,
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_family_is_transformers_own(name):
    torch.manual_seed(0)
    theirs = PLAIN[name](config_of(name)).eval()
    assert equal(fresh(name, language_model(name)), theirs)


@pytest.mark.parametrize("name", ["albert-all-wide", "albert-none-wide", "albert-attention", "albert-feed-forward"])
def test_our_albert_computes_what_transformers_does(name):
    """Its weights, copied into a plain ALBERT that shares nothing, with the identity for a map that ours has not."""
    ours = perturbed(fresh(name, "AutoModel"))
    config = transformers.AlbertConfig.from_dict({**ours.config.to_dict(), "num_hidden_groups": 2})
    theirs = transformers.AlbertModel(config).eval()
    theirs.embeddings.load_state_dict(ours.embeddings.state_dict())
    theirs.pooler.load_state_dict(ours.pooler.state_dict())
    first = theirs.encoder.embedding_hidden_mapping_in
    if isinstance(ours.encoder.embedding_hidden_mapping_in, torch.nn.Identity):
        torch.nn.init.eye_(first.weight)
        torch.nn.init.zeros_(first.bias)
    else:
        first.load_state_dict(ours.encoder.embedding_hidden_mapping_in.state_dict())
    for layer, group in zip(ours.encoder.layers, theirs.encoder.albert_layer_groups, strict=True):
        halves = {**ours.encoder.shared, **layer.own}
        plain = {f"attention.{n}": t for n, t in halves["attention"].state_dict().items()}
        group.albert_layers[0].load_state_dict(plain | halves["feed_forward"].state_dict())
    mask = torch.ones_like(IDS)
    mask[1, 4:] = 0
    with torch.no_grad():
        assert torch.allclose(ours(IDS, mask)[0], theirs(IDS, mask)[0], atol=1e-5)


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_half_is_one(name):
    """Weights that are shared exist once, and a step of training moves them for all layers."""
    model = fresh(name, "AutoModel")
    layer = sum(p.numel() for p in fresh("albert-none", "AutoModel").encoder.albert_layer_groups[0].parameters())
    attention, feed_forward = 4 * (32 * 32 + 32) + 64, 2 * 32 * 64 + 64 + 32 + 64
    assert layer == attention + feed_forward
    own = {"albert-attention": 2 * feed_forward + attention, "albert-feed-forward": 2 * attention + feed_forward}
    mapped = sum(p.numel() for p in model.encoder.embedding_hidden_mapping_in.parameters())
    assert sum(p.numel() for p in model.encoder.parameters()) - mapped == own.get(name, layer)


# ELECTRA's two halves


@pytest.fixture
def joint():
    torch.manual_seed(0)
    return perturbed(ElectraForJointPreTraining.from_config(SAMPLES["electra"].config())).eval()


def test_the_halves_share_their_tokens_and_nothing_else(joint):
    kept, beside = dict(joint.electra.named_parameters()), dict(joint.generator.named_parameters())
    shared = [n for n, p in kept.items() if any(p is q for q in beside.values())]
    assert shared == ["embeddings.word_embeddings.weight"]
    assert joint.generator.generator_lm_head.weight is joint.electra.embeddings.word_embeddings.weight


def test_both_halves_are_written_and_read_back(joint, tmp_path):
    again, info = ElectraForJointPreTraining.from_pretrained(written(joint, tmp_path / "x"), output_loading_info=True)
    assert not any(info.values()), info
    assert equal(joint, again)
    assert again.generator.generator_lm_head.weight is again.electra.embeddings.word_embeddings.weight
    assert again.config.generator_fraction == 0.5


def test_transformers_reads_the_discriminator(joint, tmp_path):
    folder = written(joint, tmp_path / "x")
    assert transformers.AutoConfig.from_pretrained(folder).architectures == ["ElectraForPreTraining"]
    body, info = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    judge = transformers.AutoModelForPreTraining.from_pretrained(folder)
    with torch.no_grad():
        assert torch.equal(body(IDS)[0], joint.electra(IDS)[0])
        assert torch.equal(judge(IDS).logits, joint(IDS).logits)


def test_the_generator_is_a_model_of_its_own(joint, tmp_path):
    written(joint, tmp_path / "x")
    alone = ElectraForJointPreTraining.from_pretrained(tmp_path / "x").generator
    assert type(alone) is transformers.ElectraForMaskedLM
    alone.save_pretrained(tmp_path / "generator")
    again = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "generator")
    with torch.no_grad():
        assert torch.equal(again(IDS).logits, joint.generator(IDS).logits)


def test_a_discriminator_alone_has_no_generator():
    config = transformers.ElectraConfig(hidden_size=32, num_attention_heads=4)
    with pytest.raises(ValueError, match="has no generator_fraction: it is of a discriminator alone"):
        ElectraForJointPreTraining.from_config(config)
