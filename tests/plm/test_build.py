"""Building a model: what a checkpoint lacks is drawn and said, anything else that does not fit is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from families import CAUSAL, FAMILIES, SHARED
from safetensors.torch import load_file, save_file
from tiny import perturbed, save_model

import plm
from plm.build import Cache, Mismatch, build, num_parameters, seeded
from plm.checkpoint import weights_sha256
from plm.external import external, verify
from plm.modeling.electra import ElectraForJointPreTraining
from plm.objectives.clm import CausalLM
from plm.objectives.mlm import MaskedLM
from plm.objectives.rtd import ReplacedTokens
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

    before = tokenizer.of(finetune(init=str(bert)), bert)
    for name, data in tokenizer.files(tokenizer.word_level(("other", "words"))).items():
        (bert / name).write_bytes(data)
    after = tokenizer.of(finetune(init=str(bert)), bert)
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


# Every family


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """A folder with a "pretrained" body of each family."""
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(FAMILIES[request.param].config())
    return save_model(perturbed(model), tmp_path_factory.mktemp("families") / request.param)


def test_every_family_is_fine_tuned(family, finetune, tmp_path):
    """The body as it was read, a head of its own drawn anew, and all of it trained."""
    spec = finetune(init=family, duration=plm.steps(2))
    made = built(spec, tmp_path)
    head = {n.rpartition(".")[0] for n in made.fresh}
    body = {n for n, p in made.model.named_parameters() if any(p is q for q in made.model.base_model.parameters())}
    assert head
    assert not any(n.startswith(tuple(head)) for n in body)
    result = plm.train(spec, store=tmp_path, execution=plm.Execution(keep_weights=True))
    assert result.metrics["val/loss"] > 0
    trained = load_file(result.path / "checkpoints/step_00000002/model.safetensors")
    still = {n for n, t in made.model.state_dict().items() if n in trained and torch.equal(t, trained[n])}
    assert not still


@pytest.mark.parametrize("family", FAMILIES, indirect=True)
def test_every_family_s_layers_are_redrawn(family, finetune, tmp_path):
    """Where they share weights, planning says so."""
    if Path(family).name in SHARED:
        with pytest.raises(ValueError, match=r"shares one .* among its 2 layers"):
            plm.reinit(family, "01")
        return
    still, made = (built(finetune(init=init), tmp_path) for init in (family, plm.reinit(family, "01")))
    before = dict(still.model.named_parameters())
    assert {n for n, p in made.model.named_parameters() if not torch.equal(p, before[n])} == set(made.redrawn)
    assert len(made.redrawn) >= 8


@pytest.mark.parametrize("name", ["albert-attention", "configured", "electra", "gpt", "gpt2", "roberta"])
def test_what_was_pretrained_here_is_fine_tuned(name, pretrain, finetune, tmp_path):
    """From the run's own folder: the body's weights to the bit, heads and ELECTRA's generator left behind."""
    objective = CausalLM() if name in CAUSAL else ReplacedTokens() if name == "electra" else MaskedLM()
    parent = pretrain(architecture=FAMILIES[name], objective=objective, duration=plm.steps(2))
    path = plm.train(parent, store=tmp_path).path / "checkpoints/step_00000002"
    stored = load_file(path / "model.safetensors")
    made = built(finetune(init=parent.final), tmp_path)
    read = {n: t for n, t in made.model.state_dict().items() if n in stored}
    assert len(read) == len(made.model.state_dict()) - len(made.fresh)
    assert all(torch.equal(t, stored[n]) for n, t in read.items())
    plain, info = transformers.AutoModel.from_pretrained(path, output_loading_info=True)
    assert not {n for n in info["missing_keys"] if "pooler" not in n}
    body = {n: t for n, t in plain.state_dict().items() if "pooler" not in n}
    assert all(torch.equal(t, stored[f"{plain.base_model_prefix}.{n}"]) for n, t in body.items())


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_are_counted_before_there_are_any(name):
    """The head's with them, tied ones once."""
    value = FAMILIES[name]
    objective = CausalLM() if name in CAUSAL else MaskedLM()
    assert num_parameters(objective, value) == sum(
        p.numel() for p in objective.auto().from_config(value.config()).parameters()
    )


def logits(objective, model, batch):
    with torch.no_grad():
        return objective.losses(model, batch)["classify"].outputs


def test_a_text_alone_is_read_as_in_a_batch(family, toy_task, tmp_path):
    """Padding changes nothing, and a decoder is read at a text's last token, whatever the padding token is."""
    spec = plm.finetune(toy_task, init=family, dtype="float32")
    store, cache = Store.at(tmp_path / "store"), Cache()
    model = build(spec, store, cache).model.eval()
    batch = next(iter(open_stream(spec, store, cache).evaluation()))
    together = logits(spec.objective, model, batch)
    for row in (0, len(together) // 2, len(together) - 1):
        length = int(batch["attention_mask"][row].sum())
        alone = {n: t[row : row + 1, :length] if t.ndim == 2 else t[row : row + 1] for n, t in batch.items()}
        assert torch.allclose(together[row : row + 1], logits(spec.objective, model, alone), atol=1e-5)
        changed = {**alone, "input_ids": alone["input_ids"].clone()}
        changed["input_ids"][0, length - 2] = 60  # the last word
        assert not torch.equal(logits(spec.objective, model, alone), logits(spec.objective, model, changed))


@pytest.mark.parametrize("name", ["configured", "gpt", "gpt2", "neox"])
def test_a_decoder_s_score_is_transformers_own(name, finetune, tmp_path):
    torch.manual_seed(0)
    body = perturbed(transformers.AutoModel.from_config(FAMILIES[name].config()))
    spec = finetune(init=save_model(body, tmp_path / name))
    model = built(spec, tmp_path / "store").model.eval()
    pad = model.config.pad_token_id = 0  # theirs finds the last token by it
    ids = torch.tensor([[7, 8, 9, 10], [11, 12, pad, pad]])
    batch = {"input_ids": ids, "attention_mask": (ids != pad).long(), "labels": torch.zeros(2, dtype=torch.long)}
    with torch.no_grad():
        theirs = model(ids, attention_mask=batch["attention_mask"]).logits
    assert torch.allclose(logits(spec.objective, model, batch), theirs, atol=1e-6)


def test_a_text_may_end_with_the_padding_token(finetune, tmp_path):
    """GPT-2's release has no padding token, and token 0 is an exclamation mark."""
    config = FAMILIES["gpt2"].config()
    config.pad_token_id = None
    torch.manual_seed(0)
    spec = finetune(init=save_model(perturbed(transformers.GPT2Model(config)), tmp_path / "gpt2"))
    model = built(spec, tmp_path / "store").model.eval()
    ids = torch.tensor([[7, 8, 0, 0]])
    said, quiet = (
        logits(
            spec.objective,
            model,
            {"input_ids": ids, "attention_mask": torch.tensor([mask]), "labels": torch.zeros(1, dtype=torch.long)},
        )
        for mask in ([1, 1, 1, 0], [1, 1, 0, 0])
    )
    assert not torch.allclose(said, quiet, atol=1e-4)


def test_a_generator_s_weights_are_no_part_of_a_discriminator(finetune, tmp_path):
    """A run of replaced-token detection leaves both in one folder."""
    model = perturbed(ElectraForJointPreTraining.from_config(FAMILIES["electra"].config()))
    folder = save_model(model, tmp_path / "joint")
    made = built(finetune(init=folder), tmp_path / "store")
    assert {n.partition(".")[0] for n in made.fresh} == {"classifier"}
    assert torch.equal(
        made.model.electra.embeddings.word_embeddings.weight, model.electra.embeddings.word_embeddings.weight
    )
    edit(Path(folder), lambda t: t.pop("electra.embeddings_project.weight"))
    with pytest.raises(Mismatch, match=r"missing \['electra.embeddings_project.weight'\], extra nothing"):
        built(finetune(init=folder), tmp_path / "store")


def test_config_is_written_for_transformers(tmp_path, finetune):
    path = plm.train(finetune(), store=tmp_path, execution=plm.Execution(keep_weights=True)).path
    config = json.loads((path / "checkpoints/step_00000004/config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert (config["num_hidden_layers"], config["vocab_size"]) == (2, 65)
    assert plm.shape(external(str(path / "checkpoints/step_00000004"))).num_hidden_layers == 2
