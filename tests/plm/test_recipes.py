"""Recipes: what a question file writes becomes the spec that was meant, or is refused while that costs nothing."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import SIZES

import plm
from plm.data.corpus import Corpus
from plm.data.world import World
from plm.objectives.classify import Classify
from plm.objectives.mlm import MaskedLM
from plm.recipes import NAMED
from plm.spec import AdamW, Seeds


def test_a_fine_tuning_as_tamkin_et_al(toy_task, tiny_bert):
    spec = plm.finetune(toy_task, init=tiny_bert, seed=4)
    assert spec.objective == Classify(2)
    assert spec.optim == AdamW(lr=5e-5, weight_decay=0.0)
    assert (spec.duration, spec.batch_size, spec.dtype) == (plm.epochs(3), 16, "bfloat16")
    assert spec.seeds == Seeds(fresh=4, order=4, noise=4)
    assert spec.run_id.startswith("classify-")


def test_a_model_may_be_named_in_four_ways(toy_task, tiny_bert):
    source = plm.external(tiny_bert)
    assert (
        len(
            {
                plm.finetune(toy_task, init=init).run_id
                for init in (tiny_bert, source, plm.Load(source), plm.reinit(tiny_bert, "00"))
            }
        )
        == 1
    )


def test_a_seed_ties_the_streams(toy_task, tiny_bert):
    assert plm.finetune(toy_task, init=tiny_bert, size=10, seed=3).data.seed == 3


def test_a_text_is_never_longer_than_the_model_reads(toy_task, tiny_bert):
    assert plm.finetune(toy_task, init=tiny_bert).seq_len == 40
    assert plm.finetune(toy_task, init=tiny_bert, seq_len=16).seq_len == 16


def test_more_examples_than_there_are_is_refused(toy_task, tiny_bert):
    with pytest.raises(ValueError, match="task toy has 40 training examples; 41 were asked for"):
        plm.finetune(toy_task, init=tiny_bert, size=41)


def test_a_pretraining_on_the_generated_language():
    bert = plm.Bert(**{**SIZES, "vocab_size": 2000}, dropout=0.0)
    spec = plm.pretrain(bert, "world", duration=plm.tokens(1e5), batch_size=8, seq_len=32, warmup_steps=5)
    assert spec.objective == MaskedLM()
    assert spec.data == Corpus(World(), None)
    assert spec.total_steps == 391
    assert spec.optim == AdamW(lr=1e-4, weight_decay=0.01, warmup_steps=5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocab_size": 64}, "the tokenizer has 65 tokens and the model a vocabulary of 64: raise vocab_size"),
        ({"max_position_embeddings": 15}, "seq_len 16: the model reads 15 tokens at most"),
    ],
)
def test_an_architecture_that_is_too_small_is_refused(toy_corpus, tiny_bert, changes, said):
    bert = plm.Bert(**{**SIZES, **changes}, dropout=0.0)
    with pytest.raises(ValueError, match=said):
        plm.pretrain(bert, toy_corpus, vocabulary=tiny_bert, duration=plm.steps(1), seq_len=16)


def test_an_epoch_of_a_corpus_is_counted_by_tokenising_it(pretrain, toy_corpus, tmp_path):
    with pytest.raises(
        ValueError, match=r"epochs:2: how long an epoch is, is known once the text is tokenised\. Say wh"
    ):
        pretrain(duration=plm.epochs(2))
    spec = pretrain(duration=plm.epochs(2), store=str(tmp_path))
    tokens = sum(len(line.split()) + 2 for line in (Path(toy_corpus) / "train.txt").read_text().splitlines())
    assert spec.total_steps == 2 * math.ceil(tokens // 16 / 4)
    assert spec == pretrain(duration=plm.steps(spec.total_steps))


def test_text_needs_a_vocabulary_and_must_be_there(toy_corpus, tmp_path):
    bert = plm.Bert(**SIZES, dropout=0.0)
    with pytest.raises(ValueError, match="a corpus of files needs a tokenizer"):
        plm.pretrain(bert, toy_corpus, duration=plm.steps(1))
    with pytest.raises(ValueError, match="there is no file or folder"):
        plm.pretrain(bert, str(tmp_path / "nowhere"), duration=plm.steps(1))


@pytest.mark.parametrize("name", NAMED)
def test_named_models_are_final_checkpoints_of_ours(name):
    checkpoint = plm.model(name)
    assert checkpoint == NAMED[name]().final
    assert plm.shape(checkpoint).vocab_size >= checkpoint.run.data.vocab_size
    assert checkpoint.run.seq_len <= plm.shape(checkpoint).max_position_embeddings


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(
        ValueError, match=r"unknown model 'world-brt'. Did you mean 'world-bert'.*A local folder or a hub"
    ):
        plm.model("world-brt")


def test_a_step_of_a_run_is_called_by_its_run(tiny_bert, tmp_path):
    """Its folder is called the same in every run; tables and figures would not tell two models apart."""
    folder = tmp_path / "runs" / "mlm-0123456789ab" / "checkpoints" / "step_00000512"
    shutil.copytree(tiny_bert, folder)
    assert plm.external(str(folder)).name == "mlm-0123456789ab@512"
    assert plm.external(tiny_bert).name == Path(tiny_bert).name
    assert plm.external(str(folder)).files == plm.external(tiny_bert).files


def test_a_pretraining_goes_on_from_weights(pretrain, toy_corpus, tiny_bert, tmp_path):
    """With the tokenizer that they were trained with, at whatever they had come to."""
    parent = pretrain(duration=plm.steps(30), lr=1e-2)
    on = plm.pretrain(
        parent.final, toy_corpus, duration=plm.steps(1), lr=1e-30, batch_size=8, seq_len=16, dtype="float32"
    )
    assert on.init == plm.Load(parent.final)
    assert on.data == parent.data
    ended = plm.train(parent, store=tmp_path).metrics["val/loss"]
    fresh = plm.train(replace(on, init=parent.init), store=tmp_path).metrics["val/loss"]
    there = plm.train(on, store=tmp_path).metrics["val/loss"]
    assert abs(there - ended) < 0.2 * abs(fresh - ended)
    with pytest.raises(ValueError, match="vocabulary: weights read with the one that they were trained with"):
        plm.pretrain(parent.final, toy_corpus, vocabulary=tiny_bert, duration=plm.steps(1))
    with pytest.raises(ValueError, match=r"seq_len 4096: the model reads \d+ tokens"):
        plm.pretrain(parent.final, toy_corpus, duration=plm.steps(1), seq_len=4096)


def test_a_pretraining_goes_on_from_an_external_model(toy_corpus, tiny_bert):
    on = plm.pretrain(tiny_bert, toy_corpus, duration=plm.steps(1), seq_len=16)
    assert on.init == plm.Load(plm.model(tiny_bert))
    assert on == plm.pretrain(plm.model(tiny_bert), toy_corpus, duration=plm.steps(1), seq_len=16)
    assert on.data.vocabulary == plm.model(tiny_bert)
