"""A probe: the head learns, the body stays as it was to the bit and reads without dropout."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import transformers
from families import CAUSAL, FAMILIES
from safetensors.torch import load_file, save_file
from tiny import perturbed, save_model, sentence, write_task

import plm
from plm.build import Cache, build
from plm.frozen import read
from plm.inits.resume import Resume
from plm.objectives.classify import class_scores
from plm.spec import TRAINED
from plm.store import Store
from plm.train import open_stream

KEEP = plm.Execution(keep=(0,), keep_weights=True)


def trained_names(path, last: int) -> set[str]:
    """The tensors that training changed."""
    before, after = (load_file(path / f"checkpoints/step_{step:08}/model.safetensors") for step in (0, last))
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """A "pretrained" body of each family, those that share layers too."""
    torch.manual_seed(0)
    body = perturbed(transformers.AutoModel.from_config(FAMILIES[request.param].config()))
    return save_model(body, tmp_path_factory.mktemp("families") / request.param)


def test_only_the_head_is_trained(family, finetune, tmp_path):
    spec = finetune(init=family, trained="head", duration=plm.steps(2))
    head = set(build(spec, Store.at(tmp_path), Cache()).fresh)
    changed = trained_names(plm.train(spec, store=tmp_path, execution=KEEP).path, 2)
    assert changed == head
    assert not any("layer" in name or "embed" in name for name in changed)


def test_a_pretrained_pooler_is_frozen_and_a_missing_one_is_part_of_the_head(make_bert, finetune, tmp_path):
    source = make_bert("poolerless")
    with_one = build(finetune(init=source, trained="head"), Store.at(tmp_path), Cache()).model
    assert {n for n, p in with_one.named_parameters() if p.requires_grad} == {"classifier.weight", "classifier.bias"}
    tensors = {n: t for n, t in load_file(f"{source}/model.safetensors").items() if "pooler" not in n}
    save_file(tensors, f"{source}/model.safetensors", metadata={"format": "pt"})
    without = build(finetune(init=source, trained="head"), Store.at(tmp_path), Cache()).model
    assert {n.rpartition(".")[0] for n, p in without.named_parameters() if p.requires_grad} == {
        "classifier",
        "bert.pooler.dense",
    }


def test_a_frozen_body_reads_without_dropout(tiny_bert, finetune, tmp_path):
    """In training too, and after an evaluation has put the model back into training mode."""
    store, cache = Store.at(tmp_path), Cache()
    for trained, steady in (("head", True), ("all", False)):
        spec = finetune(init=tiny_bert, trained=trained)
        model = build(spec, store, cache).model
        batch = open_stream(spec, store, cache).batch(0)
        model.eval()
        model.train()
        read = [model.base_model(input_ids=batch["input_ids"])[0] for _ in range(2)]
        assert torch.equal(*read) == steady
        assert model.classifier.training
        assert model.dropout.training


def test_a_probe_of_a_shortened_model(tiny_bert, finetune, tmp_path):
    """The paper's: the first layers, the pretrained pooler on top of them, and a classifier that learns."""
    spec = finetune(init=plm.drop(tiny_bert, "01"), trained="head", duration=plm.epochs(2), lr=1e-2)
    result = plm.train(spec, store=tmp_path, execution=KEEP)
    assert trained_names(result.path, spec.total_steps) == {"classifier.weight", "classifier.bias"}
    pooler = load_file(result.path / f"checkpoints/step_{spec.total_steps:08}/model.safetensors")[
        "bert.pooler.dense.weight"
    ]
    assert torch.equal(pooler, load_file(f"{tiny_bert}/model.safetensors")["pooler.dense.weight"])


@pytest.mark.parametrize("trained", ["head", "probe"])
def test_a_probe_resumes_exactly(tiny_bert, finetune, tmp_path, trained):
    from tiny import stop_after

    spec = finetune(init=tiny_bert, trained=trained)
    plm.train(spec, store=tmp_path / "one")
    with pytest.raises(plm.Stopped):
        plm.train(spec, store=tmp_path / "two", should_stop=stop_after(2))
    plm.train(spec, store=tmp_path / "two")
    one, two = (Store.at(tmp_path / name).run(spec).result() for name in ("one", "two"))
    assert one["weights_sha256"] == two["weights_sha256"]
    assert one["flops"] == two["flops"] > 0


def test_a_frozen_body_costs_a_third(tiny_bert, finetune, tmp_path):
    """Of the FLOPs of training: no gradient passes through it."""
    flops = [
        Store.at(tmp_path).run(spec).result()["flops"]
        for spec in (finetune(init=tiny_bert), finetune(init=tiny_bert, trained="head"))
        if plm.train(spec, store=tmp_path)
    ]
    assert flops[0] == 3 * flops[1] > 0


def test_a_linear_probe_reads_each_training_text_once(tiny_bert, finetune, monkeypatch, tmp_path):
    """However many epochs it is trained for; and counts that."""
    import transformers.models.bert.modeling_bert as bert

    seen, forward = [], bert.BertModel.forward

    def counted(self, input_ids, **rest):
        seen.append(len(input_ids))
        return forward(self, input_ids, **rest)

    monkeypatch.setattr(bert.BertModel, "forward", counted)
    flops = []
    for epochs in (1, 3):
        seen.clear()
        spec = finetune(init=tiny_bert, trained="probe", duration=plm.epochs(epochs))
        plm.train(spec, store=tmp_path)
        assert sum(seen) == sum(spec.data.task.counts)
        flops.append(Store.at(tmp_path).run(spec).result()["flops"])
    head = finetune(init=tiny_bert, trained="head", duration=plm.epochs(1))
    plm.train(head, store=tmp_path)
    assert flops[0] == flops[1] == pytest.approx(Store.at(tmp_path).run(head).result()["flops"], rel=0.1)


def test_a_linear_probe_learns_from_what_the_body_says(tiny_bert, finetune, tmp_path):
    """What was read before is that of the batch's own texts: asked again, the body says the same."""
    spec = finetune(init=tiny_bert, trained="probe", size=24)
    store, cache = Store.at(tmp_path), Cache()
    model, stream = build(spec, store, cache).model.train(), open_stream(spec, store, cache)
    read(model, stream.examples(), spec.dtype)
    torch.nn.init.normal_(model.probe.linear.weight)
    for step in range(4):
        known, asked = (class_scores(model.train(mode), stream.batch(step)) for mode in (True, False))
        torch.testing.assert_close(known, asked, rtol=1e-3, atol=1e-3)
        assert known.std() > 0.1


def test_a_linear_probe_is_not_handed_on(tiny_bert, finetune, tmp_path):
    """Nor the head that it stands for, which was never trained: whoever goes on from the body draws one of its own."""
    parent = finetune(init=tiny_bert, trained="probe")
    path = plm.train(parent, store=tmp_path, execution=KEEP).path
    kept = set(load_file(path / "checkpoints/step_00000004/model.safetensors"))
    assert {name for name in kept if not name.startswith("bert.")} == {
        f"probe.{name}" for name in ("mean", "scale", "linear.weight", "linear.bias")
    }
    heads = []
    for seed in (0, 1):
        built = build(finetune(init=parent.final, seed=seed), Store.at(tmp_path), Cache())
        assert built.fresh == ["classifier.weight", "classifier.bias"]
        assert not hasattr(built.model, "probe")
        heads.append(built.model.classifier.weight)
    assert not torch.equal(*heads)


def test_a_probe_of_numbers_does_not_depend_on_where_they_begin(tiny_bert, tmp_path):
    """Its training is not spent on the way to their mean."""
    losses = {}
    for shift in (0, 30):
        there = write_task(
            tmp_path / f"shift{shift}",
            lambda i, shift=shift: {"sentence": sentence(i), "label": shift + i % 5 / 5},
        )
        spec = plm.finetune(there, init=tiny_bert, trained="probe", lr=1e-2, duration=plm.epochs(10))
        losses[shift] = plm.train(spec, store=tmp_path).metrics["val/loss"]
    assert losses[30] == pytest.approx(losses[0], rel=0.05)


def test_a_body_that_says_the_same_of_all_texts_cannot_be_probed(make_bert, finetune, tmp_path):
    source = make_bert("mute")
    tensors = load_file(f"{source}/model.safetensors")
    tensors["encoder.layer.1.output.LayerNorm.weight"] *= 0
    save_file(tensors, f"{source}/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="one vector for all training texts"):
        plm.train(finetune(init=source, trained="probe"), store=tmp_path)


def test_a_linear_probe_is_as_wide_as_what_it_reads(finetune, tmp_path):
    """OPT may project its hidden states before it says anything."""
    torch.manual_seed(0)
    sizes = {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "ffn_dim": 32,
        "vocab_size": 64,
        "do_layer_norm_before": False,
    }
    config = transformers.OPTConfig(hidden_size=32, word_embed_proj_dim=16, max_position_embeddings=64, **sizes)
    source = save_model(perturbed(transformers.OPTModel(config)), tmp_path / "opt")
    run = plm.train(finetune(init=source, trained="probe"), store=tmp_path, execution=KEEP)
    assert load_file(run.path / "checkpoints/step_00000004/model.safetensors")["probe.mean"].shape == (16,)


def test_what_is_trained_is_part_of_the_id(tiny_bert, finetune):
    assert finetune(init=tiny_bert, trained="all").run_id == finetune(init=tiny_bert).run_id
    assert finetune(init=tiny_bert, trained="head").run_id != finetune(init=tiny_bert).run_id


@pytest.mark.parametrize("trained", ["head", "probe"])
def test_a_probe_that_cannot_be_is_refused(tiny_bert, finetune, pretrain, trained):
    with pytest.raises(ValueError, match="trained 'body': there are all, head, probe"):
        finetune(init=tiny_bert, trained="body")
    spec = finetune(init=tiny_bert, trained=trained)
    with pytest.raises(ValueError, match="load the checkpoint instead of resuming it"):
        replace(spec, init=Resume(pretrain(schedule="constant").at(2)))
    if trained == "probe":
        with pytest.raises(ValueError, match="objectives/mlm needs its own head"):
            replace(pretrain(), trained=trained)


def test_a_linear_probe_is_all_that_is_trained(family, finetune, tmp_path):
    spec = finetune(init=family, trained="probe", duration=plm.steps(2))
    assert trained_names(plm.train(spec, store=tmp_path, execution=KEEP).path, 2) == {
        "probe.linear.weight",
        "probe.linear.bias",
    }


def test_a_linear_probe_reads_standardised_vectors_of_the_training_texts(family, finetune, tmp_path):
    spec = finetune(init=family, trained="probe", size=24, duration=plm.steps(2))
    path = plm.train(spec, store=tmp_path, execution=KEEP).path
    kept = load_file(path / "checkpoints/step_00000000/model.safetensors")
    body = transformers.AutoModel.from_pretrained(family).eval()
    stream = open_stream(spec, Store.at(tmp_path), Cache())
    vectors, ids = [], []
    for batch in stream.examples():
        states = body(batch["input_ids"], attention_mask=batch["attention_mask"])[0]
        last = (
            batch["attention_mask"].sum(1) - 1
            if family.rpartition("/")[2] in CAUSAL
            else torch.zeros(len(states)).long()
        )
        vectors.append(states[torch.arange(len(states)), last])
        ids += batch["ids"].tolist()
    assert sorted(ids) == sorted(set(ids))
    assert len(ids) == spec.data.size
    said = torch.cat(vectors).detach()
    torch.testing.assert_close(kept["probe.mean"], said.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(kept["probe.scale"], said.std(0, correction=0), rtol=1e-3, atol=1e-5)


def test_a_linear_probe_hears_what_is_said_softly(make_bert, finetune, tmp_path):
    """A body whose vectors say the class in the fourth digit: a head on it is deaf, a probe is not."""
    source = make_bert("soft")
    tensors = load_file(f"{source}/model.safetensors")
    tensors["encoder.layer.1.output.LayerNorm.weight"] *= 1e-2
    save_file(tensors, f"{source}/model.safetensors", metadata={"format": "pt"})
    losses = {}
    for trained in ("head", "probe"):
        spec = finetune(init=source, trained=trained, lr=3e-2, duration=plm.epochs(20))
        lines = (plm.train(spec, store=tmp_path).path / "metrics.jsonl").read_text().splitlines()
        losses[trained] = [json.loads(line)["train/loss"] for line in lines if "train/loss" in line][-1]
    assert losses["probe"] < 0.5 < 0.6 < losses["head"], losses


def test_a_frozen_body_is_read_in_full_precision(tiny_bert, toy_task):
    """Unless somebody wants it otherwise: bfloat16 would round away what tells texts apart."""
    used = {trained: plm.finetune(toy_task, init=tiny_bert, trained=trained).dtype for trained in TRAINED}
    assert used == {"all": "bfloat16", "head": "float32", "probe": "float32"}
    assert plm.finetune(toy_task, init=tiny_bert, trained="probe", dtype="bfloat16").dtype == "bfloat16"


def test_the_time_of_a_probe_is_that_of_a_frozen_body(tiny_bert, finetune, monkeypatch, tmp_path):
    """What is timed has the same parameters to train, though its weights are drawn."""
    from plm import optim
    from plm.probe import probe

    seen = []
    made = optim.build
    monkeypatch.setattr(optim, "build", lambda model, *rest: seen.append(made(model, *rest)) or seen[-1])
    monkeypatch.setattr("plm.probe.PROBE_SECONDS", 0.01)
    for init in (plm.drop(tiny_bert, "01"), plm.reinit(tiny_bert, "01")):
        for options in ({"trained": "head"}, {"trained": "probe"}, {"redrawn_lr": 5.0}):
            if options.get("redrawn_lr") is None or isinstance(init, plm.Reinit):
                probe(finetune(init=init, **options), plm.Execution(), store=Store.at(tmp_path))
    counts = [sum(len(group["params"]) for group in optimizer.param_groups) for optimizer in seen]
    assert counts[0] <= 4  # classifier, and the pooler where the body was drawn
    assert counts[1:4] == [2, 2, 2]
    assert counts[4] > 30
