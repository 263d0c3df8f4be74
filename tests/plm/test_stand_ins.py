"""Stand-ins: the numbers are those of the real thing, and they are never mistaken for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import plm
from plm import Store, stand_ins
from plm.build import num_parameters
from plm.models import config_of
from plm.tasks import definitions, load, resolve


@pytest.fixture(autouse=True)
def nothing_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plm.stand_ins._is_cached", lambda _: False)
    monkeypatch.setattr("plm.stand_ins._is_prepared", lambda _: False)


def test_a_known_model_has_its_shape() -> None:
    with stand_ins.allowed():
        bert = plm.model("bert-base-uncased")
    built = plm.shape(bert)
    assert (built.num_hidden_layers, built.hidden_size, built.vocab_size) == (12, 768, 30_522)
    assert built == plm.shape(plm.architecture("bert-base"))
    assert num_parameters(None, bert) == 109_482_240  # type: ignore[arg-type]
    assert config_of(bert).num_attention_heads == 12  # type: ignore[arg-type]


def test_none_is_given_unless_allowed() -> None:
    with pytest.raises(ValueError, match="could not be had"):
        plm.model("bert-base-uncased")
    with pytest.raises(ValueError, match="could not be had"):
        resolve("glue/qnli")
    with stand_ins.allowed(), pytest.raises(ValueError, match="could not be had"):
        plm.model("bert-huge-uncased")


def test_a_task_has_its_rows_by_either_name() -> None:
    with stand_ins.allowed():
        task = resolve("glue/sst2")
        assert resolve("sst2") == task
        other = resolve("qnli")
    assert (task.counts, task.num_labels, task.metrics, task.name) == ((67_349, 872), 2, ("accuracy",), "sst2")
    assert task != other
    assert stand_ins.mean_tokens(task) == definitions()["glue/sst2"].tokens


def test_the_rows_are_those_of_the_data(shared: Path) -> None:
    with stand_ins.allowed():
        for name in ("sst2", "cola", "rte", "wnli"):
            assert resolve(name).counts == resolve(str(shared / "data" / name)).counts
        assert resolve("stsb").counts == resolve(str(shared / "data" / "stsb")).counts


def test_what_is_here_is_no_stand_in(toy_task: str, tiny_bert: str) -> None:
    with stand_ins.allowed():
        assert not stand_ins.is_stand_in(plm.model(tiny_bert))
        assert not stand_ins.is_stand_in(resolve(toy_task))
        assert not stand_ins.is_stand_in(resolve("sentiment"))


def test_nothing_is_trained_on_a_stand_in(finetune: Callable[..., plm.RunSpec], tiny_bert: str, tmp_path: Path) -> None:
    with stand_ins.allowed():
        of_model, task = finetune(init="bert-base-uncased"), resolve("sst2")
        of_task = finetune(task="sst2")
    assert of_model.run_id != finetune(init=tiny_bert).run_id
    with pytest.raises(ValueError, match="has not been fetched"):
        load(task)
    for spec in (of_model, of_task):
        with pytest.raises(ValueError, match="has not been fetched"):
            plm.train(spec, store=Store.at(tmp_path))
