"""Subsets are nested, paired and stratified as promised; batches are permutations that can be entered anywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import plm
from plm.data.examples import Examples, batches
from plm.inits.load import Load
from plm.spec import External
from plm.tasks import Task

TASK = Task(rows="ab" * 32, num_labels=2, metrics=("accuracy",), counts=(67_349, 872), name="toy", path="/nowhere")
LABELS = [i % 7 // 4 for i in range(67_349)]


def test_the_first_500_are_among_the_first_5000():
    small, large = (set(Examples(TASK, size, 3).select(LABELS)) for size in (500, 5000))
    assert len(small) == 500
    assert len(large) == 5000
    assert small < large


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5), st.booleans())
def test_subsets_are_nested(one, two, seed, stratified):
    task = replace(TASK, counts=(50, 10))
    small, large = (set(Examples(task, size, seed, stratified).select(LABELS[:50])) for size in sorted((one, two)))
    assert small <= large
    assert len(small) == min(one, two)


def test_rows_come_in_ascending_order_and_once():
    chosen = Examples(TASK, 1000, 0).select(LABELS)
    assert (np.diff(chosen) > 0).all()


def test_seeds_choose_differently():
    one, two = (set(Examples(TASK, 500, seed).select(LABELS)) for seed in (0, 1))
    assert len(one & two) < 50


@pytest.mark.parametrize("mask", ["00", "01", "11"])
def test_every_arm_sees_the_same_examples(finetune, tiny_bert, mask):
    spec = finetune(init=plm.reinit(tiny_bert, mask, seed=2), size=10, seed=2)
    plain = finetune(init=Load(External(spec.init.origin.files, spec.init.origin.path, "x")), size=10, seed=2)
    assert spec.data == plain.data
    assert (spec.data.select(range(40)) == plain.data.select(range(40))).all()


@given(
    st.lists(st.booleans(), min_size=2, max_size=60).filter(lambda v: 0 < sum(v) < len(v)), st.integers(0, 9), st.data()
)
def test_every_stratified_prefix_keeps_the_shares(labels, seed, data):
    size = data.draw(st.integers(1, len(labels)))
    task = replace(TASK, counts=(len(labels), 1))
    chosen = Examples(task, size, seed, stratified=True).select([float(v) for v in labels])
    ones = sum(labels[i] for i in chosen)
    assert abs(ones - size * sum(labels) / len(labels)) <= 1


def test_stratified_shares_at_scale():
    chosen = Examples(TASK, 500, 0, stratified=True).select(LABELS)
    assert abs(np.take(LABELS, chosen).sum() - 500 * np.mean(LABELS)) <= 1
    assert set(chosen) != set(Examples(TASK, 500, 0).select(LABELS))


def test_all_is_all():
    everything = Examples(TASK, 67_349, 5)
    assert (everything.size, everything.seed) == (None, 0)
    assert everything.num_sequences == 67_349
    assert (everything.select(LABELS) == np.arange(67_349)).all()


@pytest.mark.parametrize("size", [0, -1, 67_350])
def test_sizes_that_there_are_not_are_refused(size):
    with pytest.raises(ValueError, match=rf"has 67,349 training examples; {size:,} were asked for. Choose a size"):
        Examples(TASK, size, 0)


def test_a_regression_is_not_stratified():
    with pytest.raises(ValueError, match="no classes to stratify by"):
        Examples(replace(TASK, num_labels=1), 10, 0, stratified=True)


lengths = st.lists(st.integers(1, 50), min_size=1, max_size=300)


@given(lengths, st.integers(1, 17), st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_is_a_permutation(sizes, batch_size, seed, epoch):
    cut = batches(sizes, batch_size, seed, epoch)
    assert sorted(np.concatenate(cut)) == list(range(len(sizes)))
    assert len(cut) == -(-len(sizes) // batch_size)
    assert sorted(map(len, cut))[1:] == [batch_size] * (len(cut) - 1)
    again = batches(sizes, batch_size, seed, epoch)
    assert all((a == b).all() for a, b in zip(cut, again, strict=True))


def test_similar_lengths_share_a_batch():
    sizes = np.random.default_rng(0).integers(1, 100, 5000)
    cut = batches(sizes.tolist(), 16, 0, 0)
    assert np.mean([np.ptp(sizes[b]) for b in cut]) < 5  # at random about 88
    order = [sizes[b].mean() for b in cut]
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.2  # and short ones do not come first


@pytest.mark.parametrize("other", [(1, 0), (0, 1)])
def test_seeds_and_epochs_order_differently(other):
    sizes = [5] * 100
    assert np.concatenate(batches(sizes, 10, 0, 0)).tolist() != np.concatenate(batches(sizes, 10, *other)).tolist()
