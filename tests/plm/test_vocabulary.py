"""Training the named rows alone gives the numbers of training them all."""

from __future__ import annotations

import copy
import importlib

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

from plm import Execution, Store, finetune, optim, steps, train
from plm.build import Cache, build
from plm.parallel import Scorer
from plm.step import train_step
from plm.train import open_stream
from plm.vocabulary import NamedRows, restrict


def both(still_bert, toy_task, tmp_path, restricted):
    """A model after four steps, its rows restricted or not."""
    spec = finetune(toy_task, init=still_bert, size=16, batch_size=4, duration=steps(4), lr=1e-3, dtype="float32")
    store, cache = Store.at(tmp_path), Cache()
    stream, model = open_stream(spec, store, cache), build(spec, store, cache).model.train()
    if restricted:
        restrict(model, stream.vocabulary())
    optimizer = optim.build(model, spec.optim)
    for step in range(4):
        train_step(Scorer(model, spec.objective), optimizer, spec, stream.batch(step), step, 1e-3, Execution())
    return model, stream.vocabulary()


def test_the_numbers_are_the_same(still_bert, toy_task, tmp_path):
    whole, _ = both(still_bert, toy_task, tmp_path, restricted=False)
    rows, _ = both(still_bert, toy_task, tmp_path, restricted=True)
    assert rows.state_dict().keys() == whole.state_dict().keys()
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(rows.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)


def test_unnamed_rows_stay_and_named_ones_move(still_bert, toy_task, tmp_path):
    model, named = both(still_bert, toy_task, tmp_path, restricted=True)
    before = AutoModelForSequenceClassification.from_pretrained(still_bert).get_input_embeddings().weight
    after = model.state_dict()["bert.embeddings.word_embeddings.weight"]
    others = torch.tensor([i for i in range(len(before)) if i not in set(named.tolist())])
    assert len(others)
    assert torch.equal(after[others], before[others])
    assert (after[named] != before[named]).any(1).sum() > 1
    assert model.get_input_embeddings().weight.shape == (len(named), before.shape[1])


def test_a_state_is_loaded_back(still_bert, toy_task, tmp_path):
    model, named = both(still_bert, toy_task, tmp_path, restricted=True)
    other = AutoModelForSequenceClassification.from_pretrained(still_bert, num_labels=2)
    restrict(other, named)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(other.get_input_embeddings().weight, model.get_input_embeddings().weight)


def test_an_unnamed_token_is_an_error_not_another_row(still_bert):
    model = AutoModelForSequenceClassification.from_pretrained(still_bert)
    restrict(model, torch.tensor([0, 2, 3]))
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[2, 5, 3]]))


def test_a_padding_row_that_is_not_named_hides_no_other():
    rows = NamedRows(torch.nn.Embedding(10, 4, padding_idx=7), torch.tensor([0, 1, 2]))
    rows(torch.tensor([[0, 1, 2]])).sum().backward()
    assert rows.weight.grad.sum(1).tolist() == [4, 4, 4]


def test_a_model_that_predicts_tokens_is_refused(still_bert):
    with pytest.raises(ValueError, match="predicts tokens"):
        restrict(AutoModelForMaskedLM.from_pretrained(still_bert), torch.tensor([0, 1]))


def test_a_finetuning_run_is_restricted_and_its_weights_are_whole(still_bert, toy_task, tmp_path, monkeypatch):
    seen = []
    loop = importlib.import_module("plm.train")
    monkeypatch.setattr(loop, "restrict", lambda model, named: seen.append(len(named)) or restrict(model, named))
    spec = finetune(toy_task, init=still_bert, size=16, batch_size=4, duration=steps(2), dtype="float32")
    path = train(spec, store=tmp_path, execution=Execution(keep_weights=True)).path
    kept = AutoModelForSequenceClassification.from_pretrained(path / "checkpoints/step_00000002")
    assert seen
    assert not any(isinstance(m, NamedRows) for m in kept.modules())
    assert len(kept.get_input_embeddings().weight) == kept.config.vocab_size
