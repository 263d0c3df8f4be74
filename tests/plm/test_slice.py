"""Slices to select by: cut from the training data, the same for every seed, and never trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import plm
from plm.data.sources import corpus
from plm.spec import digest
from plm.tasks import load, resolve


def test_a_slice_is_cut_from_the_training_rows(toy_task: str) -> None:
    task = resolve(toy_task)
    (train, held_out), (rest, cut) = load(task), load(task.held_back())
    assert (len(rest.texts), len(cut.texts)) == task.held_back().counts == (32, 8)
    rows = [*zip(train.texts, train.labels, strict=True)]
    there = [*zip(rest.texts, rest.labels, strict=True)], [*zip(cut.texts, cut.labels, strict=True)]
    assert sorted([*there[0], *there[1]]) == sorted(rows)
    assert there[0] == [row for row in rows if row in there[0]]  # in their order
    assert len(held_out.texts) == 70
    assert load(task.held_back()) == (rest, cut)


def test_a_slice_is_part_of_the_identity_and_its_absence_is_not(toy_task: str, finetune: Callable[..., Any]) -> None:
    task = resolve(toy_task)
    assert digest(task.held_back()) != digest(task)
    assert digest(replace(task, slice=0)) == digest(task)
    spec = finetune()
    cut = replace(spec, data=spec.data.held_back())
    assert cut.run_id != spec.run_id
    assert plm.RunSpec.from_json(cut.to_json()) == cut


def test_a_run_on_a_slice_is_evaluated_on_it(finetune: Callable[..., Any], tmp_path: Path) -> None:
    from plm.predictions import from_parquet

    spec = finetune()
    result = plm.train(replace(spec, data=spec.data.held_back()), store=tmp_path)
    records = from_parquet((result.path / "predictions.parquet").read_bytes())
    assert [r["label"] for r in records] == list(load(resolve(spec.data.task.path).held_back())[1].labels)


@pytest.mark.parametrize(("size", "then"), [(None, None), (30, 30), (32, None), (39, None)])
def test_a_size_that_the_slice_leaves_no_room_for_is_all_there_is(
    finetune: Callable[..., Any], size: int | None, then: int | None
) -> None:
    assert finetune(size=size).data.held_back().size == then


def test_too_few_rows_cannot_be_cut(toy_task: str) -> None:
    with pytest.raises(ValueError, match="no slice can be cut"):
        replace(resolve(toy_task), counts=(1, 5)).held_back()


def test_a_slice_of_a_corpus_is_cut_from_its_training_documents(toy_corpus: str, tiny_bert: str) -> None:
    whole = corpus(toy_corpus, tiny_bert)
    cut = whole.held_back()
    train, validation = list(cut.documents("train")), list(cut.documents("validation"))
    assert sorted([*train, *validation]) == sorted(whole.documents("train"))
    assert len(validation) == len(list(whole.documents("train"))) // 20
    assert digest(cut) != digest(whole)
    assert [part.slice for part in cut.parts] == [True]
    assert list(whole.documents("validation")) == list(whole.text.text("validation"))


def test_pretraining_on_a_slice_does_not_see_the_validation_documents(
    pretrain: Callable[..., Any], tmp_path: Path
) -> None:
    spec = pretrain()
    cut = replace(spec, data=spec.data.held_back())
    found = [plm.train(s, store=tmp_path).metrics["val/loss"] for s in (spec, cut)]
    assert found[0] != found[1]
