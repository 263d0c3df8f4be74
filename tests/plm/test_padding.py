"""Padding: no token that a text may hold is mistaken for it, neither by embeddings nor by positions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from families import FAMILIES, of_type
from tiny import SIZES, WORDS, perturbed, save_model, sentence, write_task
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import plm
from plm.build import Cache, build
from plm.data import tokenizer as tokenizers
from plm.external import external
from plm.models.roberta import Roberta
from plm.objectives import IGNORED, total
from plm.objectives.clm import CausalLM
from plm.objectives.mlm import MaskedLM
from plm.store import Store
from plm.train import open_stream, prepare

DECODERS = {
    "gpt2": FAMILIES["gpt2"],
    "neox": FAMILIES["neox"],
    "llama": of_type("llama", tie_word_embeddings=False),
    "opt": of_type("opt", ffn_dim=64, word_embed_proj_dim=32),
    "qwen2": of_type("qwen2", num_key_value_heads=4),
}


def write_tokenizer(folder: Path, special: tuple[str, ...], frame: tuple[str, str] | None) -> None:
    """A tokenizer of whole words, which come before its special tokens; texts stand in a frame of two of them."""
    names = ("[UNK]", *WORDS, *special)
    words = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    words.add_special_tokens([*special])
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if frame is not None:
        words.post_processor = processors.TemplateProcessing(
            single=f"{frame[0]} $A {frame[1]}", special_tokens=[(name, names.index(name)) for name in frame]
        )
    words.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def endings(tmp_path_factory):
    """A model's folder whose tokenizer has an end of text, and nothing to pad with."""
    folder = Path(save_model(transformers.BertModel(transformers.BertConfig(**SIZES)), tmp_path_factory.mktemp("end")))
    write_tokenizer(folder, ("<|endoftext|>",), None)
    return str(folder)


def untrained(model, used):
    """The tokens of which the input embedding got no gradient."""
    gradient = model.get_input_embeddings().weight.grad
    return [token for token in sorted(used) if not gradient[token].abs().max() > 0]


@pytest.mark.parametrize("name", DECODERS)
def test_every_token_of_a_text_is_learned(name, endings, pretrain, tmp_path):
    """The end of a text too, with which texts are padded where there is nothing else."""
    spec = pretrain(architecture=DECODERS[name], objective=CausalLM(), vocabulary=endings, batch_size=16)
    store, cache = Store.at(tmp_path), Cache()
    model, batch = build(spec, store, cache).model.train(), open_stream(spec, store, cache).batch(0)
    total(spec.objective, spec.objective.losses(model, batch), spec.objective.counts(batch)).backward()
    used = set(batch["input_ids"][:, :-1].flatten().tolist())  # nothing is predicted from the last
    assert 61 in used  # <|endoftext|>
    assert not untrained(model, used)
    assert model.get_input_embeddings().weight[61].abs().max() > 0  # transformers zeroes what it takes for padding


@pytest.mark.parametrize("name", DECODERS)
def test_every_token_of_a_task_is_learned(name, endings, tmp_path):
    """Of a pretrained decoder without a padding token; its token 0 stands for unknown words."""
    torch.manual_seed(0)
    config = DECODERS[name].config()
    config.pad_token_id = None
    folder = save_model(perturbed(transformers.AutoModel.from_config(config)), tmp_path / "model")
    write_tokenizer(tmp_path / "model", ("<|endoftext|>",), None)
    task = write_task(tmp_path / "task", lambda i: {"sentence": f"{sentence(i)} strange", "label": i % 2})
    spec = plm.finetune(task, init=folder, batch_size=8, seq_len=16, dtype="float32")
    store, cache = Store.at(tmp_path / "store"), Cache()
    stream, model = open_stream(spec, store, cache), build(spec, store, cache).model.train()
    batch = stream.batch(0)
    total(spec.objective, spec.objective.losses(model, batch), spec.objective.counts(batch)).backward()
    used = set(batch["input_ids"][batch["attention_mask"] > 0].tolist())
    assert 0 in used
    assert not untrained(model, used)
    prepare(model, spec, stream)  # as it is trained: rows of the data alone
    model.zero_grad()
    total(spec.objective, spec.objective.losses(model, batch), spec.objective.counts(batch)).backward()
    rows = model.get_input_embeddings()
    assert (rows.weight.grad[rows._position[sorted(used)]].abs().amax(1) > 0).all()


def test_the_padding_token_is_named_where_there_is_one(pretrain, tmp_path):
    spec = pretrain(architecture=DECODERS["llama"], objective=CausalLM())  # [PAD] is 0
    assert build(spec, Store.at(tmp_path), Cache()).model.get_input_embeddings().padding_idx == 0


# Positions that are counted from the padding token

ROBERTA = Roberta(**SIZES, dropout=0.0)


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    """A model's folder whose tokenizer has its padding token at 62."""
    folder = Path(save_model(transformers.BertModel(transformers.BertConfig(**SIZES)), tmp_path_factory.mktemp("late")))
    write_tokenizer(folder, ("<s>", "<pad>", "</s>", "<mask>"), ("<s>", "</s>"))
    return str(folder)


def positions(model, batch):
    """The rows of the position table that a model reads."""
    seen = []
    hook = model.base_model.embeddings.position_embeddings.register_forward_hook(lambda _, ids, __: seen.append(*ids))
    model.base_model(batch["input_ids"], attention_mask=batch["attention_mask"])
    hook.remove()
    return seen[0]


def test_random_tokens_shift_no_position(pretrain, tmp_path):
    """A padding token in the middle of a text would."""
    spec = pretrain(architecture=ROBERTA, objective=MaskedLM(0.9, mask_share=0.0, random_share=1.0), batch_size=64)
    store, cache = Store.at(tmp_path), Cache()
    model, stream = build(spec, store, cache).model.eval(), open_stream(spec, store, cache)
    batch = stream.batch(0)
    assert (batch["labels"] != IGNORED).sum() > 500
    pad = model.config.pad_token_id
    assert torch.equal(positions(model, batch), pad + 1 + torch.arange(16).expand(64, 16))
    careless = MaskedLM(0.9, mask_share=0.0, random_share=1.0)
    draw = np.random.default_rng(0)
    clean = {"input_ids": batch["labels"].where(batch["labels"] != IGNORED, batch["input_ids"]).numpy()}
    shown = careless.corrupt(clean, stream._symbols, draw)["input_ids"]
    assert (shown == pad).any()  # so there is something to go wrong


def test_the_families_that_count_from_padding_are_given_text_alone(pretrain):
    assert pretrain(architecture=ROBERTA).objective == MaskedLM(strangers="text")
    assert pretrain(architecture=of_type("camembert")).objective == MaskedLM(strangers="text")
    assert pretrain().objective == MaskedLM()


def test_positions_beyond_the_table_are_refused(pretrain, late, tmp_path):
    """By the plan; and, where a spec was made by hand, before it is trained."""
    with pytest.raises(ValueError, match=r"padding token, which is 62 here, so that its 40 rows read 0 tokens.* to 79"):
        pretrain(architecture=ROBERTA, vocabulary=late)
    tall = dataclasses.replace(ROBERTA, max_position_embeddings=79)
    spec = pretrain(architecture=tall, vocabulary=late)
    store = Store.at(tmp_path)
    model, stream = build(spec, store, Cache()).model.eval(), open_stream(spec, store, Cache())
    assert positions(model, stream.batch(0)).max() == 78
    longer = dataclasses.replace(spec, seq_len=17)
    with pytest.raises(ValueError, match="its 79 rows read 16 tokens"):
        plm.train(longer, store=store)


def test_a_tokenizer_without_padding_cannot_count_positions(endings, tmp_path):
    with pytest.raises(
        ValueError, match=r"roberta counts positions from the padding token, and the tokenizer has none"
    ):
        tokenizers.agree(ROBERTA.config(), tokenizers.load(external(endings)))
