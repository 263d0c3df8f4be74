"""Architectures as values: their configuration, their shape, their named sizes, and what is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import transformers
from families import FAMILIES, SAMPLES, albert, of_type
from test_redraw import CONFIGS, SMALL
from tiny import SIZES

import plm
from plm.build import num_parameters
from plm.models import SHARINGS, architecture, config_of, shape
from plm.models.albert import Albert
from plm.models.bert import Bert
from plm.models.configured import Configured
from plm.models.electra import Electra
from plm.models.roberta import Roberta
from plm.objectives.clm import CausalLM
from plm.objectives.mlm import MaskedLM
from plm.objectives.rtd import ReplacedTokens
from plm.registry import member, names
from plm.spec import External, decode, digest, encode


def saved(family: str, folder, **changes) -> External:
    config = getattr(transformers, family + "Config")(**{**CONFIGS.get(family, SMALL), **changes})
    config.save_pretrained(folder)
    return External((), path=str(folder), name=family)


# Every member


@pytest.mark.parametrize("name", names("models"))
def test_every_member_is_tried(name):
    assert name in SAMPLES, f"add a small plm/models/{name} to tests/families.py"
    assert member("models", name) is type(SAMPLES[name])


@pytest.fixture(params=FAMILIES)
def sample(request):
    return FAMILIES[request.param]


def test_a_member_is_built_with_the_sizes_it_names(sample):
    config = sample.config()
    assert config.model_type == sample.model_type
    for f in dataclasses.fields(sample):
        if hasattr(config, f.name):
            assert getattr(config, f.name) == getattr(sample, f.name)


@pytest.mark.parametrize("sample", [value for value in FAMILIES.values() if not isinstance(value, Configured)])
def test_dropout_is_everywhere_what_it_is_said_to_be(sample):
    """The families call it by a dozen names."""
    for rate in (0.0, 0.25):
        config = dataclasses.replace(sample, dropout=rate).config()
        names = [n for n in vars(config) if n.endswith(("_pdrop", "_dropout_prob"))]
        assert len(names) >= 2
        assert {getattr(config, n) for n in names} == {rate}


def test_the_shape_of_a_member_is_that_of_its_model(sample, tmp_path):
    sample.config().save_pretrained(tmp_path)
    found = shape(sample)
    assert found == shape(External((), path=str(tmp_path), name="x"))
    assert (found.num_hidden_layers, found.hidden_size, found.vocab_size) == (2, 32, 65)
    assert found.flops_per_token(8) > 0


def test_a_member_is_read_back_from_a_spec(sample):
    assert decode(json.loads(json.dumps(encode(sample, identity=False)))) == sample


def test_a_plan_needs_no_torch():
    """Naming, sizing and hashing every architecture takes milliseconds."""
    import subprocess
    import sys

    script = (
        "import sys, plm; from plm.spec import digest\n"
        "for n in ('bert-base', 'albert-base', 'electra-base', 'gpt2-xl', 'gpt-base', 'roberta-large'):\n"
        "    a = plm.architecture(n); digest(a); plm.shape(a)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# Exact sizes

MLM, CLM = MaskedLM(), CausalLM()


def body(value) -> int:
    """Weights of the body alone, with its pooler if it has one."""
    with torch.device("meta"):
        return sum(p.numel() for p in transformers.AutoModel.from_config(value.config()).parameters())


@pytest.mark.parametrize(
    ("name", "count"),
    {
        "roberta-medium": 73_502_937,
        "roberta-base": 124_697_433,
        "roberta-base-plus": 210_601_881,
        "roberta-large": 355_412_057,
    }.items(),
)
def test_robertas_have_the_papers_sizes(name, count):
    assert num_parameters(MLM, architecture(name)) == count


@pytest.mark.parametrize(
    ("name", "millions"),
    {
        "gpt2-small": 124.44,
        "gpt2-medium": 354.82,
        "gpt2-large": 774.03,
        "gpt2-xl": 1557.61,
        "gpt2-73m": 73.4,
        "gpt2-209m": 210.2,
        "gpt2-1068m": 1069.9,
        "gpt-base": 116.5,
    }.items(),
)
def test_gpts_have_the_papers_sizes(name, millions):
    digits = len(str(millions).partition(".")[2])
    assert round(num_parameters(CLM, architecture(name)) / 1e6, digits) == millions


@pytest.mark.parametrize(
    ("name", "count"),
    {
        "bert-tiny": 4_385_920,
        "bert-mini": 11_170_560,
        "bert-small": 28_763_648,
        "bert-medium": 41_373_184,
        "bert-base": 109_482_240,
        "bert-large": 335_141_888,
        "electra-small": 13_483_008,
        "electra-base": 108_891_648,
        "electra-large": 334_092_288,
        "albert-large": 17_683_968,
        "albert-xlarge": 58_724_864,
        "albert-xxlarge": 222_595_584,
    }.items(),
)
def test_encoders_have_their_releases_sizes(name, count):
    assert body(architecture(name)) == count


@pytest.mark.parametrize(
    ("embedding", "millions", "digits"), [(128, (11.68, 63.65, 37.69, 89.65), 2), (768, (31.1, 83.1, 57.1, 109.1), 1)]
)
def test_alberts_share_as_the_paper_counts(embedding, millions, digits):
    """Lan et al. 2020, table 4."""
    counts = [body(architecture("albert-base", embedding_size=embedding, sharing=kind)) for kind in SHARINGS]
    assert tuple(round(n / 1e6, digits) for n in counts) == millions


def test_an_electra_holds_its_generator_and_shares_the_tokens():
    """Small: discriminator 13.5 M, generator of 64 wide with a head; the 3.9 M of the tokens count once."""
    small = architecture("electra-small")
    config = small.config()
    with torch.device("meta"):
        joint = ReplacedTokens().auto().from_config(config)
    alone = sum(p.numel() for p in joint.generator.parameters())
    head = sum(p.numel() for p in joint.discriminator_predictions.parameters())
    tokens = 30522 * 128
    assert num_parameters(ReplacedTokens(), small) == 13_483_008 + head + alone - tokens
    sizes = joint.generator.config
    assert (sizes.hidden_size, sizes.num_attention_heads, sizes.intermediate_size) == (64, 1, 256)
    assert sizes.num_hidden_layers == 12


@pytest.mark.parametrize(("name", "width", "heads"), [("electra-base", 256, 4), ("electra-large", 256, 4)])
def test_generators_have_the_release_s_sizes(name, width, heads):
    found = shape(architecture(name)).generator
    assert (found.hidden_size, found.attention_size, found.intermediate_size) == (width, width, 4 * width)
    assert found.generator is None


# Names


def test_overrides_by_field():
    value = architecture("bert-base", hidden_size=384, num_hidden_layers=3, dropout=0.0)
    assert value == dataclasses.replace(architecture("bert-base"), hidden_size=384, num_hidden_layers=3, dropout=0.0)
    assert value.intermediate_size == 3072


@pytest.mark.parametrize("name", ["bert-tiny", "gpt2-tiny", "albert-mini", "electra-mini", "roberta-d384"])
def test_a_size_is_a_value_like_any_other(name):
    value = architecture(name)
    assert digest(value) == digest(decode(json.loads(json.dumps(encode(value, identity=False)))))
    assert plm.architecture(name) == value


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("bert-bse", {}, r"unknown architecture 'bert-bse'. Did you mean 'bert-base'\? There are: albert-base, "),
        ("bert-bse", {}, r"A local folder or a hub id will do too\."),
        ("bert-base", {"hiden_size": 3}, r"unknown field of bert-base 'hiden_size'. Did you mean 'hidden_size'"),
        ("bert-base", {"hidden_size": 100}, "hidden_size 100 does not divide into 12 attention heads"),
        ("albert-base", {"sharing": "some"}, "unknown sharing 'some'.*There are: all, attention, feed_forward, none"),
        ("./nowhere", {}, "^there is no folder './nowhere'"),
        ("nobody/no-such-model", {}, "^the configuration of nobody/no-such-model could not be had from the hub"),
    ],
)
def test_what_is_not_an_architecture(name, fields, said):
    with pytest.raises(ValueError, match=said):
        architecture(name, **fields)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Bert(**{**SIZES, "num_attention_heads": 5}, dropout=0.0), "hidden_size 32 does not divide into 5"),
        (lambda: Roberta(**{**SIZES, "max_position_embeddings": 2}, dropout=0.0), "two rows that no token reads"),
        (lambda: electra(1.5), "a generator_fraction of 1.5: it must lie above 0 and at most at 1"),
        (lambda: electra(0.3), "generator_fraction of 0.3 makes 9.6 of hidden_size 32"),
    ],
)
def test_fields_that_do_not_fit(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def electra(fraction: float) -> Electra:
    return dataclasses.replace(SAMPLES["electra"], generator_fraction=fraction)


# Configurations from elsewhere


def test_a_configuration_is_its_content(tmp_path):
    """Two copies are one value; what says nothing of the numbers is left out."""
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, said in ((first, "float16"), (second, "float32")):
        config = transformers.GPTNeoXConfig(**SMALL)
        config.save_pretrained(folder)
        document = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**document, "dtype": said, "transformers_version": said}))
    values = [architecture(str(folder)) for folder in (first, second)]
    assert values[0] == values[1]
    assert digest(values[0]) == digest(values[1])
    assert str(tmp_path) not in values[0].json
    assert values[0].config().to_dict() == transformers.GPTNeoXConfig(**SMALL).to_dict()


def test_a_configuration_s_fields_are_replaced(tmp_path):
    transformers.GPT2Config(**CONFIGS["GPT2"]).save_pretrained(tmp_path)
    value = architecture(str(tmp_path), num_hidden_layers=3, attn_pdrop=0.0)  # GPT-2 calls the first one n_layer
    assert (value.config().n_layer, value.config().attn_pdrop, shape(value).num_hidden_layers) == (3, 0.0, 3)
    with pytest.raises(ValueError, match=r"unknown field of .* 'attn_drop'. Did you mean 'attn_pdrop'"):
        architecture(str(tmp_path), attn_drop=0.0)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"hidden_size": 3}, "without a model_type"),
        ({"model_type": "no-such", **SIZES}, "transformers cannot read its config.json"),
        ({"model_type": "bert", "hidden_size": 3}, "does not say its num_hidden_layers"),
    ],
)
def test_a_configuration_that_cannot_be_built(document, said, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=said):
        architecture(str(tmp_path))


def test_a_folder_without_a_configuration(tmp_path):
    (tmp_path / "weights.txt").write_text("")
    with pytest.raises(ValueError, match=r"has no config.json: it holds weights.txt"):
        architecture(str(tmp_path))


def test_one_configuration_has_one_spelling():
    with pytest.raises(ValueError, match="not in its canonical form"):
        Configured('{"model_type": "bert"}')


# Shapes of others


@pytest.mark.parametrize("family", CONFIGS)
def test_families_call_their_sizes_differently(family, tmp_path):
    found = shape(saved(family, tmp_path))
    assert (found.num_hidden_layers, found.hidden_size) == (2, 32)
    assert (found.vocab_size, found.max_position_embeddings) == (65, 40)
    assert found.intermediate_size == (128 if "GPT" in family and family != "GPTNeoX" else 64)
    assert not found.shared


@pytest.mark.parametrize(
    ("family", "segments"),
    [("Bert", True), ("Electra", True), ("Albert", True), ("DistilBert", False), ("GPT2", False), ("Llama", False)],
)
def test_who_reads_segments(family, segments, tmp_path):
    assert shape(saved(family, tmp_path)).segments == segments


def test_our_roberta_has_no_segments_and_two_rows_too_many():
    found = shape(SAMPLES["roberta"])
    assert not found.segments
    assert (found.max_position_embeddings, found.max_seq_len) == (40, 38)


def test_the_longest_sequence_is_the_longest(sample):
    """One token more does not fit, where positions are a table."""
    model = transformers.AutoModel.from_config(sample.config()).eval()
    length = shape(sample).max_seq_len
    with torch.no_grad():
        assert model(torch.full((1, length), 7))[0].shape[1] == length
        if sample.model_type not in ("llama", "gpt_neox"):  # rotary positions have no end
            with pytest.raises((IndexError, RuntimeError)):
                model(torch.full((1, length + 1), 7))


@pytest.mark.parametrize(("groups", "sharing"), [(1, "all"), (2, "none")])
def test_albert_shares_its_layers(groups, sharing, tmp_path):
    found = shape(saved("Albert", tmp_path, embedding_size=16, num_hidden_groups=groups))
    assert (found.sharing, found.shared) == (sharing, sharing == "all")


def test_a_configuration_without_sizes_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 3}))
    with pytest.raises(ValueError, match="does not say its num_hidden_layers; it has hidden_size, model_type"):
        shape(External((), path=str(tmp_path), name="x"))


def test_the_configuration_of_an_architecture(tmp_path):
    assert config_of(SAMPLES["bert"]).num_hidden_layers == 2
    assert config_of(saved("OPT", tmp_path)).pad_token_id == 1


# Costs


def test_costs_grow_as_they_should():
    small, deep = (shape(Bert(**{**SIZES, "num_hidden_layers": n}, dropout=0.0)) for n in (2, 4))
    assert deep.flops_per_token(16) == 2 * small.flops_per_token(16)
    assert small.flops_per_token(16) == 2 * (2 * (4 * 32**2 + 2 * 32 * 64) + 4 * 16 * 32)
    assert small.flops_per_prediction() == 2 * 32 * 65


def matrices(value) -> int:
    """Weights of all matrices of the layers, and of the map before them, by the modules themselves."""
    from transformers.pytorch_utils import Conv1D

    with torch.device("meta"):
        model = transformers.AutoModel.from_config(value.config())
    return sum(
        m.weight.numel()
        for name, m in model.named_modules()
        if isinstance(m, torch.nn.Linear | Conv1D) and "pooler" not in name
    )


@pytest.mark.parametrize("name", [n for n in FAMILIES if n not in ("albert", "albert-all-wide")])
def test_the_cost_of_a_token_is_two_for_each_weight_it_meets(name):
    """Sharing saves weights and no work."""
    value = FAMILIES[name]
    if name in ("albert-attention", "albert-feed-forward"):
        value = albert("none")
    assert shape(FAMILIES[name]).flops_per_token(0) == 2 * matrices(value)


def test_a_narrow_embedding_makes_predictions_cheap():
    assert shape(albert("all", 16)).flops_per_prediction() == shape(albert("all", 32)).flops_per_prediction() / 2


def test_grouped_heads_make_attention_cheap():
    whole, grouped = (shape(of_type("llama", num_key_value_heads=n)) for n in (4, 1))
    assert whole.flops_per_token(0) - grouped.flops_per_token(0) == 2 * (2 * 2 * 32 * 24)  # L layers, keys and values
    assert whole.flops_per_token(9) - whole.flops_per_token(0) == grouped.flops_per_token(9) - grouped.flops_per_token(
        0
    )


def test_no_albert_has_a_map_from_a_width_to_itself():
    assert isinstance(albert("all", 32), Albert)
    assert not [
        n
        for n, _ in transformers.AutoModel.from_config(albert("all", 32).config()).named_parameters()
        if "embedding_hidden_mapping_in" in n
    ]
