"""N-grams: Kneser-Ney by hand, probabilities that add up, posteriors beside the product of all n-grams."""

from __future__ import annotations

import functools
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plm.ngram import NGrams

V = 7


def text(seed=0, length=600):
    """Random tokens, every third of them a copy of the one before; token 6 does not occur."""
    tokens = np.random.default_rng(seed).choice(6, length, p=np.array([5, 4, 3, 3, 2, 1]) / 18)
    tokens[1::3] = tokens[::3][: len(tokens[1::3])]
    return tokens


@functools.lru_cache(maxsize=64)
def of_seed(seed, n):
    """The n-grams of such a text."""
    return NGrams([text(seed, 200)], V, n)


def test_kneser_ney_by_hand():
    """a b a b a c: after `a` come b (2) and c (1); `a`, `b` and `c` follow 1 kind of token each."""
    a, b, c = 0, 1, 2
    model = NGrams([np.array([a, b, a, b, a, c])], 3, 2)
    # Pairs ab 2, ba 2, ac 1: once 1, twice 2. Kinds before a, b, c: 1 each, so once 3, twice 0.
    pairs, kinds = (1 + 0.5) / (1 + 4 + 1), (3 + 0.5) / (3 + 0 + 1)
    single = (1 - kinds) / 3 + kinds * 3 / 3 / 3
    assert single == pytest.approx(1 / 3)
    assert model.after([a])[b] == pytest.approx((2 - pairs) / 3 + pairs * 2 / 3 * single)
    assert model.after([a])[c] == pytest.approx((1 - pairs) / 3 + pairs * 2 / 3 * single)
    assert model.after([a])[a] == pytest.approx(pairs * 2 / 3 * single)
    assert model.after([c]).tolist() == pytest.approx([single] * 3)  # nothing ever follows c


def test_shorter_n_grams_count_what_they_follow():
    """`f` is frequent, but after `s` only; `v` is rarer and follows everything: elsewhere `v` is the likelier."""
    s, f, v = 0, 1, 2
    tokens = [s, f] * 50 + [x for other in (3, 4, 5, 6) for x in (other, v)] * 2
    model = NGrams([np.array(tokens)], V, 2)
    assert tokens.count(f) > 5 * tokens.count(v)
    unseen = model.after([v])
    assert unseen[f] < unseen[v]
    assert NGrams([np.array(tokens)], V, 1).after([])[f] > 5 * NGrams([np.array(tokens)], V, 1).after([])[v]


@pytest.mark.parametrize("n", [1, 2, 3])
@settings(max_examples=40)
@given(seed=st.integers(0, 20), context=st.lists(st.integers(0, V - 1), max_size=4))
def test_probabilities_add_up_to_one(n, seed, context):
    model = of_seed(seed, n)
    after = model.after(context)
    assert after.sum() == pytest.approx(1)
    assert (after > 0).all()
    grams = np.array([[*context[max(0, len(context) - n + 1) :], w][-n:] for w in range(V)])
    assert model.probability(grams) == pytest.approx(after)


def of_text(model, tokens):
    """The probability of some tokens, each after those before it."""
    grams = [tokens[max(0, i - model.n + 1) : i + 1] for i in range(len(tokens))]
    return np.prod([model.probability(np.array([gram]))[0] for gram in grams])


@pytest.mark.parametrize("n", [1, 2, 3])
@settings(max_examples=40)
@given(
    left=st.lists(st.integers(0, V - 1), max_size=3),
    right=st.lists(st.integers(0, V - 1), max_size=3),
    seed=st.integers(0, 5),
)
def test_a_posterior_is_that_of_the_whole_text(n, left, right, seed):
    model = of_seed(seed, n)
    near = left[max(0, len(left) - n + 1) :]
    each = np.array([of_text(model, [*near, w, *right[: n - 1]]) for w in range(V)])
    assert model.posterior(left, right) == pytest.approx(each / each.sum())


def test_both_sides_say_more_than_one():
    """Where every token says what comes before it and after it in part."""
    tokens = text(0, 6000)
    model, nats = NGrams([tokens[:5000]], V, 3), {}
    for name, reach in (("none", (0, 0)), ("left", (2, 0)), ("both", (2, 2))):
        found = [
            model.posterior(tokens[i - reach[0] : i].tolist(), tokens[i + 1 : i + 1 + reach[1]].tolist())[tokens[i]]
            for i in range(5000, 5900)
        ]
        nats[name] = -np.log(found).mean()
    assert nats["both"] < nats["left"] - 0.05 < nats["none"] - 0.1


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 600), max_size=4), n=st.integers(1, 3))
def test_a_text_in_pieces_is_the_text(cuts, n):
    tokens = text()
    edges = [0, *sorted(cuts), len(tokens)]
    pieces = NGrams([tokens[a:b] for a, b in pairwise(edges)], V, n)
    whole = NGrams([tokens], V, n)
    assert (pieces.levels[-1].keys == whole.levels[-1].keys).all()
    assert (pieces.levels[-1].counts == whole.levels[-1].counts).all()


def test_a_long_text_is_counted_in_parts(monkeypatch):
    whole = NGrams([text()], V, 3)
    monkeypatch.setattr("plm.ngram.AT_ONCE", 50)
    parts = NGrams([text()[i : i + 10] for i in range(0, 600, 10)], V, 3)
    assert (parts.levels[-1].keys == whole.levels[-1].keys).all()
    assert (parts.levels[-1].counts == whole.levels[-1].counts).all()


def test_random_text_is_worth_its_entropy():
    tokens = np.random.default_rng(0).integers(0, 64, 40_000)
    for n, excess in ((1, 0.01), (2, 0.1)):  # pairs occur seven times each
        model = NGrams([tokens[:30_000]], 64, n)
        grams = np.lib.stride_tricks.sliding_window_view(tokens[30_000:], n)
        assert -np.log(model.probability(grams)).mean() == pytest.approx(np.log(64), abs=excess)


@pytest.mark.parametrize("n", [0, 4])
def test_other_lengths_are_refused(n):
    with pytest.raises(ValueError, match=f"n-grams of {n} tokens: 1 to 3"):
        NGrams([text()], V, n)


def test_a_text_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="fewer than 3 tokens"):
        NGrams([np.array([1, 2])], V, 3)


# Mixtures


def test_a_text_counts_by_its_share_however_long_it_is():
    """One says `s a`, the other, nine times as long, `s b`."""
    s, a, b = 0, 1, 2
    short, long = np.array([s, a] * 50), np.array([s, b] * 450)
    for shares, wanted in (((1, 1), 1.0), ((3, 1), 3.0), ((1, 9), 1 / 9)):
        single, pairs = (NGrams.mixed([[short], [long]], shares, V, n) for n in (1, 2))
        assert single.after([])[a] / single.after([])[b] == pytest.approx(wanted, rel=0.05)
        assert single.after([])[s] == pytest.approx(0.5, abs=0.05)
        assert pairs.after([s])[a] / pairs.after([s])[b] == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_by_their_lengths_two_texts_are_one(n):
    """But for the n-grams where they meet."""
    halves = [text(0, 600), text(1, 300)]
    mixed, whole = NGrams.mixed([[h] for h in halves], (2, 1), V, n), NGrams([np.concatenate(halves)], V, n)
    for context in ([], [3], [1, 2]):
        assert mixed.after(context) == pytest.approx(whole.after(context), abs=0.02)
    assert (
        NGrams.mixed([[halves[0]]], (0.3,), V, n).after([1]).tolist() == NGrams([halves[0]], V, n).after([1]).tolist()
    )


@settings(max_examples=20)
@given(st.integers(0, 10), st.floats(0.05, 20), st.lists(st.integers(0, V - 1), max_size=3))
def test_a_mixture_is_a_distribution_too(seed, odds, context):
    model = NGrams.mixed([[text(seed, 300)], [text(seed + 1, 60)]], (odds, 1), V, 3)
    after = model.after(context)
    assert after.sum() == pytest.approx(1)
    assert (after > 0).all()
    grams = np.array([[*context[-2:], token] for token in range(V)])
    assert model.probability(grams) == pytest.approx(after)
    right = [2, 4]
    brute = np.array([chain(model, [*context, token, *right], len(context)) for token in range(V)])
    assert model.posterior(context, right) == pytest.approx(brute / brute.sum())


def chain(model, tokens, start):
    """Probability of what stands from `start` on."""
    return np.prod([model.after(tokens[:t])[tokens[t]] for t in range(start, len(tokens))])
