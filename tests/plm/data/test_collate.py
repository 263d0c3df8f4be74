"""Streams: any batch of any step, without those before it; every evaluated row once."""

from __future__ import annotations

import pytest
import torch

import plm
from plm.build import Cache
from plm.data.collate import pad
from plm.objectives.mlm import MaskedLM
from plm.store import Store
from plm.train import open_stream


@pytest.fixture(params=["finetune", "pretrain"])
def opened(request, tmp_path):
    def again():
        return open_stream(spec, Store.at(tmp_path), Cache())

    spec = request.getfixturevalue(request.param)(duration=plm.steps(40))
    return again


def equal(one, two) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one | two)


def test_a_batch_is_a_function_of_its_step(opened):
    onwards, backwards = opened(), opened()
    forth = [onwards.batch(step) for step in range(40)]
    back = [backwards.batch(step) for step in reversed(range(40))][::-1]
    assert all(equal(a, b) for a, b in zip(forth, back, strict=True))


def test_an_epoch_shows_every_example_once(finetune, tmp_path):
    stream = open_stream(finetune(batch_size=7, size=30), Store.at(tmp_path), Cache())
    epochs = [torch.cat([stream.batch(step)["ids"] for step in range(start, start + 5)]).tolist() for start in (0, 5)]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert len(set(epochs[0])) == 30
    assert epochs[0] != epochs[1]


def test_an_epoch_shows_every_block_once(pretrain, tmp_path):
    spec = pretrain(batch_size=3)
    stream = open_stream(spec, Store.at(tmp_path), Cache())
    blocks = stream.notes()["train_tokens"] // spec.seq_len
    seen = torch.cat([stream.batch(step)["ids"] for step in range(2 * blocks // 3 + 1)]).tolist()
    assert sorted(seen[:blocks]) == sorted(seen[blocks : 2 * blocks]) == list(range(blocks))


def test_evaluation_shows_every_row_once_and_the_longest_first(finetune, tmp_path):
    shown = list(open_stream(finetune(), Store.at(tmp_path), Cache()).evaluation())
    assert [len(b["ids"]) for b in shown] == [64, 6]
    assert sorted(torch.cat([b["ids"] for b in shown]).tolist()) == list(range(70))
    widths = [w for b in shown for w in b["attention_mask"].sum(1).tolist()]
    assert widths == sorted(widths, reverse=True)


def test_padding_is_marked():
    batch = pad([([2, 7, 3], [0, 0, 0]), ([2, 3], [0, 1])], pad_id=9)
    assert batch["input_ids"].tolist() == [[2, 7, 3], [2, 3, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0], [0, 1, 0]]


def test_labels_belong_to_their_rows(finetune, tmp_path):
    batch = open_stream(finetune(), Store.at(tmp_path), Cache()).batch(0)
    assert batch["labels"].tolist() == [i % 2 for i in batch["ids"].tolist()]


def test_classes_are_counted_in_the_notes(finetune, tmp_path, toy_regression):
    assert open_stream(finetune(), Store.at(tmp_path), Cache()).notes() == {
        "examples": 40,
        "class_counts": {"0": 20, "1": 20},
    }
    assert open_stream(finetune(toy_regression), Store.at(tmp_path), Cache()).notes() == {"examples": 40}


@pytest.mark.parametrize(("segments", "there"), [(1, False), (2, True)])
def test_segments_are_given_to_models_that_read_them(finetune, make_bert, toy_regression, tmp_path, segments, there):
    init = make_bert(f"segments{segments}", type_vocab_size=segments)
    batch = open_stream(finetune(toy_regression, init=init), Store.at(tmp_path), Cache()).batch(0)
    assert ("token_type_ids" in batch) == there
    if there:
        assert batch["token_type_ids"].max() == 1


def test_static_masks_are_those_of_the_row(pretrain, tmp_path, toy_corpus):
    """The same in each epoch and in each batch; dynamic ones differ."""

    def masks(objective) -> dict[int, list[list[int]]]:
        stream = open_stream(pretrain(objective=objective, batch_size=3), Store.at(tmp_path), Cache())
        count = stream.notes()["train_tokens"] // 16
        found: dict[int, list[list[int]]] = {}
        for step in range(2 * count // 3):
            batch = stream.batch(step)
            for row, ids in zip(batch["ids"].tolist(), batch["input_ids"].tolist(), strict=True):
                found.setdefault(row, []).append(ids)
        return {row: seen for row, seen in found.items() if len(seen) > 1}

    static, dynamic = masks(MaskedLM(static=True)), masks(MaskedLM())
    assert all(a == b for a, b in static.values())
    assert sum(a != b for a, b in dynamic.values()) > 0.9 * len(dynamic) > 0
    assert len({tuple(a) for a, _ in static.values()}) > 0.9 * len(static)


def test_evaluation_is_masked_alike_for_all(pretrain, tmp_path):
    """Whatever the seed is and however training masks."""
    specs = (pretrain(), pretrain(seed=5), pretrain(objective=MaskedLM(static=True)))
    first, *others = (list(open_stream(spec, Store.at(tmp_path), Cache()).evaluation()) for spec in specs)
    assert all(equal(a, b) for other in others for a, b in zip(first, other, strict=True))
