"""Building a model: what a checkpoint lacks is drawn and said, anything else that does not fit is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import SIZES, perturbed, save_model

import plm
from plm.build import Cache, Mismatch, build, seeded
from plm.checkpoint import weights_sha256
from plm.external import external, verify
from plm.store import Store
from plm.train import open_stream


@pytest.fixture
def bert(make_bert, request):
    """A folder of this test's own, to be spoilt."""
    return Path(make_bert(request.node.name[:40].replace("/", "_")))


def edit(folder: Path, change) -> Path:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def built(spec, folder, cache=None):
    return build(spec, Store.at(folder), cache or Cache())


def test_a_missing_head_is_drawn_and_listed(finetune, bert, tmp_path):
    made = built(finetune(init=str(bert)), tmp_path)
    assert made.fresh == ["classifier.weight", "classifier.bias"]
    assert made.model.classifier.bias.tolist() == [0, 0]
    assert 0 < made.model.classifier.weight.std() < 0.05
    assert made.redrawn == []


def test_a_missing_pooler_is_drawn_too(finetune, bert, tmp_path):
    """Masked-LM training leaves it out."""
    edit(bert, lambda t: [t.pop(n) for n in list(t) if n.startswith("pooler")])
    made = built(finetune(init=str(bert)), tmp_path)
    assert made.fresh == ["bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"]


def test_another_objective_s_head_is_left_aside(finetune, make_bert, tmp_path):
    made = built(finetune(init=make_bert("mlm", "BertForMaskedLM")), tmp_path)
    assert "classifier.weight" in made.fresh


def test_a_head_for_another_number_of_classes_is_drawn_anew(finetune, make_bert, tmp_path):
    made = built(finetune(init=make_bert("three", "BertForSequenceClassification", num_labels=3)), tmp_path)
    assert made.fresh == ["classifier.weight", "classifier.bias"]
    assert made.model.classifier.weight.shape == (2, 32)


def test_the_rest_is_what_the_file_holds(finetune, bert, tmp_path):
    model = built(finetune(init=str(bert)), tmp_path).model
    stored = load_file(bert / "model.safetensors")
    assert all(torch.equal(model.bert.state_dict()[name], tensor) for name, tensor in stored.items())


def test_only_the_fresh_seed_moves_the_head(finetune, tiny_bert, tmp_path):
    heads = [built(finetune(seed=seed), tmp_path).model.classifier.weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t.pop("encoder.layer.1.output.dense.weight"),
            r"missing \[.*1.output.dense.weight'\], extra nothing",
        ),
        (lambda t: t.pop("embeddings.LayerNorm.bias"), r"missing \[.*LayerNorm.bias'\]"),
        (
            lambda t: t.update({"encoder.layer.2.output.dense.weight": torch.ones(2)}),
            r"missing nothing, extra \[.*layer.2",
        ),
        (lambda t: t.update({"encoder.layer.1.output.dense.bias": torch.ones(3)}), r"extra \[.*output.dense.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused(finetune, bert, tmp_path, change, said):
    spec = finetune(init=str(edit(bert, change)))
    with pytest.raises(Mismatch, match=said):
        built(spec, tmp_path)


def test_a_mismatch_carries_both_lists(finetune, bert, tmp_path):
    edit(bert, lambda t: t.pop("embeddings.LayerNorm.bias"))
    with pytest.raises(Mismatch) as caught:
        built(finetune(init=str(bert)), tmp_path)
    assert len(caught.value.missing) == 1
    assert caught.value.extra == []


def test_a_model_that_changed_after_planning_is_refused(finetune, bert, tmp_path):
    spec = finetune(init=str(bert))
    edit(bert, lambda t: t["embeddings.LayerNorm.bias"].add_(1))
    with pytest.raises(ValueError, match=r"model.safetensors has changed since the plan was made"):
        built(spec, tmp_path)
    (bert / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config.json is missing"):
        verify(spec.init.origin)


def test_a_replaced_tokenizer_is_read_anew(finetune, bert, tmp_path):
    """Same folder, same process, other files."""
    from plm.data import tokenizer

    before = tokenizer.of(finetune(init=str(bert)))
    for name, data in tokenizer.files(tokenizer.word_level(("other", "words"))).items():
        (bert / name).write_bytes(data)
    after = tokenizer.of(finetune(init=str(bert)))
    assert before.token_to_id("other") is None
    assert after.token_to_id("other") == 5


def test_pickled_weights_are_refused(bert):
    torch.save(load_file(bert / "model.safetensors"), bert / "pytorch_model.bin")
    (bert / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"needs config.json and model.safetensors, and holds .*pytorch_model.bin"):
        external(str(bert))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./nowhere", "there is no folder"),
        ("/nowhere/at/all", "there is no folder"),
        ("~/nowhere", "there is no folder"),
        ("nobody/no-such-model", "could not be had from the hub"),
        ("no-such-model", r"unknown model 'no-such-model'"),
    ],
)
def test_a_model_that_is_not_there(name, said):
    with pytest.raises(ValueError, match=said):
        plm.recipes.model(name)


def test_a_model_is_its_files(bert, tmp_path):
    """A copy elsewhere is the same model; a file that bears on no number is no part of it."""
    copy = shutil.copytree(bert, tmp_path / "copy")
    (copy / "README.md").write_text("hello")
    assert external(str(copy)).files == external(str(bert)).files
    assert {name for name, _ in external(str(bert)).files} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


# The cache


def test_the_cached_weights_are_never_trained(finetune, tiny_bert, tmp_path):
    cache, spec = Cache(), finetune()
    first = built(spec, tmp_path, cache).model
    before = weights_sha256(first)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    assert weights_sha256(built(spec, tmp_path, cache).model) == before
    assert len(cache.models) == 1


def test_the_cache_forgets_the_oldest():
    cache, made = Cache(), []
    for key in (1, 2, 1, 3, 1):
        cache.remember(cache.data, (key,), lambda key=key: made.append(key), limit=2)
    assert made == [1, 2, 3, 1]


def test_from_scratch_the_seed_draws_everything(pretrain, tmp_path):
    made = [built(pretrain(seed=seed), tmp_path) for seed in (0, 0, 1)]
    sums = [weights_sha256(m.model) for m in made]
    assert sums[0] == sums[1] != sums[2]
    assert made[0].fresh == [name for name, _ in made[0].model.named_parameters()]


def test_seeded_puts_the_generator_back():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with seeded(1):
        first = torch.rand(2)
    with seeded(1):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_equal_weights_have_equal_hashes(tiny_bert):
    model = transformers.BertForMaskedLM(transformers.BertConfig.from_pretrained(tiny_bert))
    before = weights_sha256(model)
    assert len(before) == 64
    with torch.no_grad():
        model.bert.embeddings.LayerNorm.bias[3] += 1e-3
    assert weights_sha256(model) != before


def test_decoders_read_a_text_alone_as_they_do_in_a_batch(tmp_path, toy_task):
    """They find a text's end by the padding token, which is not 0 in all families."""
    torch.manual_seed(0)
    config = transformers.OPTConfig(
        vocab_size=65,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
        max_position_embeddings=SIZES["max_position_embeddings"],
        word_embed_proj_dim=32,
        pad_token_id=1,
        bos_token_id=2,
        eos_token_id=3,
    )
    folder = save_model(perturbed(transformers.OPTModel(config)), tmp_path / "opt")
    spec = plm.finetune(toy_task, init=folder, dtype="float32")
    objective, store, cache = spec.objective, Store.at(tmp_path / "store"), Cache()
    model = build(spec, store, cache).model.eval()
    batch = next(iter(open_stream(spec, store, cache).evaluation()))
    with torch.no_grad():
        together = objective.losses(model, batch)["classify"].outputs
        shortest = {n: t[-1:] for n, t in batch.items()}
        length = int(shortest["attention_mask"].sum())
        alone = objective.losses(model, {n: t[:, :length] if t.ndim == 2 else t for n, t in shortest.items()})[
            "classify"
        ].outputs
    assert torch.allclose(together[-1:], alone, atol=1e-5)


def test_config_is_written_for_transformers(tmp_path, finetune):
    path = plm.train(finetune(), store=tmp_path, execution=plm.Execution(keep_weights=True)).path
    config = json.loads((path / "checkpoints/step_00000004/config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert (config["num_hidden_layers"], config["vocab_size"]) == (2, 65)
    assert plm.shape(external(str(path / "checkpoints/step_00000004"))).num_hidden_layers == 2
