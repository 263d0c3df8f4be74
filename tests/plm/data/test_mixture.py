"""Mixtures: shares that are kept in every stretch, each part in an order of its own, any position resumable."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import SIZES, WORDS

import plm
from plm.build import Cache
from plm.data.collate import CorpusStream
from plm.data.corpus import Corpus, blocks
from plm.data.files import files
from plm.data.mixture import Mixture, dealt
from plm.data.sources import mixture
from plm.data.trained import Trained
from plm.data.world import World
from plm.evaluate import _by_text, _of_others, _Sums
from plm.spec import digest
from plm.store import Store
from plm.train import open_stream


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[str]:
    """Three texts of different lengths, each of words of its own."""
    made = []
    for number, lines in enumerate((40, 25, 60)):
        folder = tmp_path_factory.mktemp("parts") / f"part{number}"
        folder.mkdir()
        for split in ("train", "validation"):
            words = WORDS[20 * number : 20 * number + 20]
            (folder / f"{split}.txt").write_text("\n".join(" ".join(words) for _ in range(lines)))
        made.append(str(folder))
    return made


@pytest.fixture
def make(folders, tiny_bert):
    def spec(*weights: float, **changes):
        return plm.pretrain(
            plm.Bert(**SIZES, dropout=0.0),
            mixture(dict(zip(folders, weights, strict=False))),
            **{"vocabulary": tiny_bert, "duration": plm.steps(200), "batch_size": 12, "seq_len": 16, **changes},
        )

    return spec


def part_of(ids: torch.Tensor) -> int:
    """Which text a block is from."""
    words = ids[ids > 4] - 5
    (part,) = set((words // 20).tolist())
    return part


WEIGHTS = st.lists(st.floats(0.01, 1), min_size=2, max_size=5).map(lambda w: tuple(x / sum(w) for x in w))


@given(WEIGHTS, st.integers(0, 3), st.integers(0, 10_000), st.integers(1, 400))
def test_shares_are_kept_in_every_stretch(weights, seed, start, length):
    parts, _ = dealt(np.arange(start, start + length), weights, seed)
    counts = np.bincount(parts, minlength=len(weights))
    assert (np.abs(counts - length * np.array(weights)) <= len(weights)).all()


@given(WEIGHTS, st.integers(0, 3))
def test_each_part_is_read_on_from_where_it_was(weights, seed):
    parts, turns = dealt(np.arange(500), weights, seed)
    for part in range(len(weights)):
        assert turns[parts == part].tolist() == list(range((parts == part).sum()))


def test_positions_stand_alone():
    parts, turns = dealt(np.arange(1000), (0.5, 0.3, 0.2), 7)
    for position in (0, 1, 17, 999):
        part, turn = dealt(np.array([position]), (0.5, 0.3, 0.2), 7)
        assert (part[0], turn[0]) == (parts[position], turns[position])
    assert any((dealt(np.arange(1000), (0.5, 0.3, 0.2), seed)[0] != parts).any() for seed in range(8))


def test_batches_hold_the_parts_in_proportion(make, tmp_path):
    stream = open_stream(make(3, 2, 1), Store.at(tmp_path), Cache())
    for step in range(10):
        batch = stream.batch(step)
        clean = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
        # A random token may stand in a block; its label does not say which were replaced, so the labels are put back.
        counts = Counter(map(part_of, clean))
        assert all(abs(counts[part] - share) <= 2 for part, share in enumerate((6, 4, 2)))


def test_each_part_goes_through_its_own_epochs(make, tmp_path):
    spec = make(1, 2)
    sizes = [len(blocks(part, "train", 16, tmp_path / "data")) for part in spec.data.parts]
    stream = open_stream(spec, Store.at(tmp_path), Cache())
    seen = torch.cat([stream.batch(step)["ids"] for step in range(40)]).tolist()
    for number, (first, size) in enumerate(zip((0, sizes[0]), sizes, strict=True)):
        mine = [row - first for row in seen if first <= row < first + size]
        assert len(mine) == 480 * (1 + number) // 3
        epochs = [mine[i : i + size] for i in range(0, len(mine) // size * size, size)]
        assert len(epochs) >= 2
        assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
        assert epochs[0] != epochs[1]


def test_a_batch_is_a_function_of_its_step(make, tmp_path):
    def opened():
        return open_stream(make(3, 1), Store.at(tmp_path), Cache())

    onwards, backwards = opened(), opened()
    forth = [onwards.batch(step) for step in range(20)]
    back = [backwards.batch(step) for step in reversed(range(20))][::-1]
    assert all(torch.equal(a[name], b[name]) for a, b in zip(forth, back, strict=True) for name in a)


def test_evaluation_shows_each_part_its_share(make, tmp_path, monkeypatch):
    monkeypatch.setattr("plm.data.collate.EVALUATION_BLOCKS", 24)
    batches = list(open_stream(make(2, 1), Store.at(tmp_path), Cache()).evaluation())
    clean = torch.cat([torch.where(b["labels"] == -100, b["input_ids"], b["labels"]) for b in batches])
    assert Counter(map(part_of, clean)) == {0: 16, 1: 8}
    ids = torch.cat([b["ids"] for b in batches]).tolist()
    assert len(set(ids)) == 24


def test_one_mixture_has_one_spelling(folders):
    parts = tuple(map(files, folders))
    assert digest(Mixture(parts, (3, 1, 1))) == digest(Mixture(parts, (0.6, 0.2, 0.2)))
    assert digest(Mixture(parts, (3, 1, 1))) != digest(Mixture(parts, (1, 1, 1)))
    spec = plm.pretrain(
        plm.Bert(**{**SIZES, "vocab_size": 400}, dropout=0.0),
        Mixture(parts, (3, 1, 1)),
        vocabulary="wordpiece:400",
        duration=plm.steps(1),
        seq_len=16,
    )
    assert plm.RunSpec.from_json(spec.to_json()).run_id == spec.run_id
    assert isinstance(spec.data.vocabulary, Trained)
    assert {part.vocabulary for part in spec.data.parts} == {spec.data.vocabulary}


def test_parts_share_their_tokens_with_runs_that_do_not_mix(make, folders, tmp_path):
    part = make(1, 1).data.parts[0]
    assert part == Corpus(files(folders[0]), part.vocabulary)


@pytest.mark.parametrize(
    ("weights", "said"),
    [((1,), "a mixture of 1 texts"), ((1, 0), "give each text one that is positive"), ((1, -1), "that is positive")],
)
def test_mixtures_that_cannot_be_are_refused(folders, weights, said):
    with pytest.raises(ValueError, match=said):
        mixture(dict(zip(folders, weights, strict=False)))
    with pytest.raises(ValueError, match="each once"):
        Mixture((World(), World()), (1, 1))
    with pytest.raises(ValueError, match="a mixture of mixtures"):
        mixture({Mixture((World(), World(seed=1)), (1, 1)): 1, "world": 1})


def test_each_text_has_its_own_perplexity(make, tmp_path):
    """The whole is their mean in nats, weighted by what was predicted; a text that the model knows better has less."""
    spec = make(0.7, 0.3, duration=plm.steps(30), lr=1e-2)
    result = plm.train(spec, store=tmp_path / "runs")
    each = {name: value for name, value in result.metrics.items() if name.startswith("val/perplexity/")}
    assert list(each) == ["val/perplexity/part0", "val/perplexity/part1"]
    rows = pq.read_table(tmp_path / "runs" / "runs" / spec.run_id / "predictions.parquet").to_pylist()
    stream = open_stream(spec, Store.at(tmp_path / "runs"), Cache())
    of = {  # most words are not replaced at random
        int(i): int(((ids[ids > 4] - 5) // 20).mode().values)
        for batch in stream.evaluation()
        for ids, i in zip(batch["input_ids"], batch["ids"], strict=True)
    }
    for part in (0, 1):
        own = [row for row in rows if of[row["id"]] == part]
        nats = sum(row["logits"][0] for row in own) / sum(row["label"] for row in own)
        assert np.log(each[f"val/perplexity/part{part}"]) == pytest.approx(nats)
    assert min(each.values()) < result.metrics["val/perplexity"] < max(each.values())
    assert each["val/perplexity/part0"] != pytest.approx(each["val/perplexity/part1"])


def test_one_text_has_no_perplexity_beside_its_own(make, folders, tmp_path):
    spec = plm.pretrain(
        plm.Bert(**SIZES, dropout=0.0),
        folders[0],
        vocabulary=make(1, 1).data.vocabulary,
        duration=plm.steps(1),
        seq_len=16,
    )
    assert not [name for name in plm.train(spec, store=tmp_path).metrics if name.startswith("val/perplexity/")]


def test_a_text_without_a_prediction_has_no_perplexity():
    """Of a short text nothing may be masked, and that is no perplexity of 1."""

    class Two(CorpusStream):
        def texts(self):
            return (("long", 0), ("short", 2))

    stream = Two.__new__(Two)
    records = [{"id": i, "label": n, "logits": [n * 2.0]} for i, n in enumerate((3.0, 1.0, 0.0))]
    assert _by_text(stream, records) == {"val/perplexity/long": pytest.approx(np.exp(2.0))}


def test_a_text_beside_without_a_prediction_has_none_either():
    sums = {"long": (8.0, 4), "short": (0.0, 0)}
    read = {name: [_Sums({"mlm": nats}, {"mlm": count}, {}, {}, {}, [])] for name, (nats, count) in sums.items()}
    assert _of_others("mlm", read) == {"val/perplexity/long": pytest.approx(np.exp(2.0))}
