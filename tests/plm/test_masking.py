"""Masking: shares within five standard deviations of a binomial, whole words whole, spans as long as they should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from plm.data.tokenizer import Symbols
from plm.masking import NGRAM, SELECTIONS, hide, select, spans, word_starts
from plm.objectives import IGNORED
from plm.objectives.mlm import MaskedLM
from plm.objectives.rtd import ReplacedTokens

SIZE, MASK = 65, 4
SYMBOLS = Symbols(
    size=SIZE,
    special=np.arange(SIZE) < 5,
    pad=0,
    cls=2,
    sep=3,
    mask=MASK,
    bos=None,
    eos=None,
    continues=np.arange(SIZE) >= 40,  # five of twelve tokens continue a word
)


def text(shape=(300, 100), seed=0):
    """Random tokens, every tenth of them a special one."""
    draw = np.random.default_rng(seed)
    return np.where(draw.random(shape) < 0.1, 3, draw.integers(5, SIZE, shape))


def corrupted(objective=None, shape=(300, 100), seed=0):
    ids = text(shape, seed)
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return ids, (objective or MaskedLM()).corrupt(batch, SYMBOLS, np.random.default_rng(seed + 1))


def within(found: float, share: float, n: float) -> bool:
    """Five standard deviations of a mean of n draws."""
    return abs(found - share) <= 5 * (share * (1 - share) / n) ** 0.5


# What is chosen


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_a_share_of_the_tokens_is_chosen(selection, rate):
    ids, batch = corrupted(MaskedLM(rate, selection=selection), (2000, 60))
    text_tokens = ids >= 5
    together = {"token": 1, "word": 1 / (1 - 5 / 12), "ngram": 3 / (1 - 5 / 12)}[selection]  # tokens of a draw, at most
    assert within((batch["labels"] != IGNORED)[text_tokens].mean(), rate, text_tokens.sum() / together)
    assert not (batch["labels"] != IGNORED)[~text_tokens].any()


def test_tokens_are_chosen_one_by_one():
    _, batch = corrupted(shape=(3000, 100))
    chosen = batch["labels"] != IGNORED
    ids = np.where(chosen, batch["labels"], batch["input_ids"])
    both = (ids[:, 1:] >= 5) & (ids[:, :-1] >= 5)
    assert within((chosen[:, 1:] & chosen[:, :-1])[both].mean(), 0.15**2, both.sum() / 2)


def words_of(ids):
    """The words as lists of positions, counted naively."""
    words = []
    for r, row in enumerate(ids):
        current = None
        for t, token in enumerate(row):
            if SYMBOLS.special[token]:
                current = None
            elif SYMBOLS.continues[token] and current is not None:
                current.append((r, t))
            else:
                current = [(r, t)]
                words.append(current)
    return words


@pytest.mark.parametrize("selection", ["word", "ngram"])
@given(seed=st.integers(0, 50))
def test_words_are_chosen_whole(selection, seed):
    ids, batch = corrupted(MaskedLM(0.3, selection=selection), (6, 30), seed)
    chosen = batch["labels"] != IGNORED
    words = words_of(ids)
    assert {len({chosen[p] for p in word}) for word in words} <= {1}
    assert sum(map(len, words)) == (ids >= 5).sum()


def test_pieces_are_not_chosen_as_words_where_tokens_are():
    ids, batch = corrupted()
    chosen = batch["labels"] != IGNORED
    assert any(len({chosen[p] for p in word}) == 2 for word in words_of(ids))


def test_words_are_chosen_one_by_one():
    """The next word is chosen no more often after a chosen one."""
    ids, batch = corrupted(MaskedLM(selection="word"), (2000, 60))
    heads = [word[0] for word in words_of(ids)]
    chosen = (batch["labels"] != IGNORED)[tuple(np.array(heads).T)]
    assert within(chosen.mean(), 0.15, len(chosen))
    assert within((chosen[1:] & chosen[:-1]).mean(), 0.15**2, len(chosen) / 2)


def lengths(rate, shape=(3000, 60), seed=0):
    """Words of each span that begins in its sequence and has room for three words before its end."""
    ids = text(shape, seed)
    begins = word_starts(SYMBOLS.special[ids], SYMBOLS.continues[ids])
    numbers = spans(begins, SYMBOLS.special[ids], np.random.default_rng(seed + 1), rate=rate)
    found = []
    for row, starts in zip(numbers, begins, strict=True):
        words = row[starts]
        new = 1 + np.flatnonzero(words[1:-2] * (words[1:-2] != words[:-3]))
        found += [int((words == words[w]).sum()) for w in new]
    return np.array(found)


@pytest.mark.parametrize("rate", [0.15, 0.5])
def test_spans_are_as_long_as_they_should_be(rate):
    """6/11, 3/11 and 2/11 (PAPERS: ALBERT); their mean is 18/11."""
    found = lengths(rate)
    assert len(found) > 3000
    for n, share in enumerate(NGRAM, 1):
        assert within((found == n).mean(), share, len(found)), n
    assert set(found.tolist()) == {1, 2, 3}
    assert NGRAM.tolist() == [6 / 11, 3 / 11, 2 / 11]


def test_chosen_words_of_spans_stand_together():
    """A word after a chosen one is chosen more often than any word: that is what spans are."""
    ids, batch = corrupted(MaskedLM(selection="ngram"), (1000, 60))
    heads = [word[0] for word in words_of(ids)]
    chosen = (batch["labels"] != IGNORED)[tuple(np.array(heads).T)]
    assert chosen[1:][chosen[:-1]].mean() > 0.3


@pytest.mark.parametrize("t", [0, 1, 30, 59])
def test_spans_cover_every_place_alike(t):
    """No fewer at the beginning of a sequence, which would be so if no span came in from the left."""
    shape = (20_000, 60)
    begins, none = np.ones(shape, bool), np.zeros(shape, bool)
    covered = spans(begins, none, np.random.default_rng(t), rate=0.3)[:, t] > 0
    assert within(covered.mean(), 0.3, shape[0])


# What is shown


@pytest.mark.parametrize(("mask_share", "random_share"), [(0.8, 0.1), (0.85, 0.0), (1.0, 0.0), (0.0, 1.0)])
def test_chosen_tokens_are_shown_in_their_shares(mask_share, random_share):
    ids, batch = corrupted(MaskedLM(0.5, mask_share=mask_share, random_share=random_share))
    chosen = batch["labels"] != IGNORED
    shown, n = batch["input_ids"][chosen], chosen.sum()
    by_chance = random_share / SIZE
    assert within((shown == MASK).mean(), mask_share + by_chance, n)
    assert within((shown == ids[chosen]).mean(), 1 - mask_share - random_share + by_chance, n)


@pytest.mark.parametrize(("strangers", "first"), [("any", 0), ("text", 5)])
def test_random_tokens_are_drawn_from_what_is_said(strangers, first):
    """Each alike: from the whole vocabulary, or from what is no special token."""
    ids, batch = corrupted(MaskedLM(0.9, mask_share=0.0, random_share=1.0, strangers=strangers))
    shown = batch["input_ids"][batch["labels"] != IGNORED]
    assert set(np.unique(shown).tolist()) == set(range(first, SIZE))
    for token in (first, 30, SIZE - 1):
        assert within((shown == token).mean(), 1 / (SIZE - first), len(shown))
    assert len(shown) > 20_000
    assert ids.shape == batch["input_ids"].shape


def test_a_generator_is_shown_the_mask_at_85_percent():
    ids, batch = corrupted(ReplacedTokens())
    chosen = batch["labels"] != IGNORED
    shown = batch["input_ids"][chosen]
    assert within(chosen[ids >= 5].mean(), 0.15, (ids >= 5).sum())
    assert within((shown == MASK).mean(), 0.85, chosen.sum())
    assert set(np.unique(shown[shown != ids[chosen]])) == {MASK}


@pytest.mark.parametrize("selection", SELECTIONS)
@given(rate=st.floats(0.01, 1), seed=st.integers(0, 100))
def test_the_rest_is_left_alone(selection, rate, seed):
    ids, batch = corrupted(MaskedLM(rate, selection=selection), (4, 12), seed)
    chosen = batch["labels"] != IGNORED
    assert (batch["input_ids"][~chosen] == ids[~chosen]).all()
    assert (batch["labels"][chosen] == ids[chosen]).all()
    assert not chosen[ids < 5].any()


def test_selection_by_token_is_what_it_was():
    """The numbers that every stored masked-LM run was trained with."""
    ids = np.arange(5, 65).reshape(5, 12)
    draw = np.random.default_rng(7)
    chosen = select(ids, SYMBOLS, draw, rate=0.5, by="token")
    shown = hide(ids, chosen, draw, mask_id=MASK, strangers=np.arange(SIZE))
    assert np.flatnonzero(chosen).tolist() == GOLDEN_CHOSEN
    assert shown[chosen].tolist() == GOLDEN_SHOWN


GOLDEN_CHOSEN = [
    3,
    4,
    6,
    9,
    10,
    11,
    12,
    13,
    20,
    21,
    23,
    24,
    26,
    30,
    31,
    32,
    33,
    35,
    36,
    37,
    39,
    40,
    46,
    50,
    52,
    53,
    54,
    55,
    57,
]
GOLDEN_SHOWN = [4, 4, 4, 4, 4, 4, 12, 4, 4, 26, 4, 64, 4, 4, 28, 4, 4, 4, 4, 4, 4, 45, 4, 4, 4, 58, 4, 4, 4]


def test_shapes_are_checked_while_the_tests_run():
    """Annotations are only as good as the checker behind them: a batch of one dimension must be refused."""
    with pytest.raises(TypeCheckError, match="Type-check error"):
        select(np.arange(5, 9), SYMBOLS, np.random.default_rng(0), rate=0.15, by="token")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 0.0}, "a rate of 0.0"),
        ({"rate": 1.5}, "a rate of 1.5"),
        ({"selection": "words"}, "'words': there are token, word, ngram"),
        ({"mask_share": 0.95}, "add up to 1"),
        ({"random_share": -0.1}, "add up to 1"),
        ({"strangers": "words"}, "strangers 'words': there are any, text"),
    ],
)
def test_what_makes_no_sense_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        MaskedLM(**given)


def test_without_random_tokens_there_is_one_spelling():
    assert MaskedLM(random_share=0.0, strangers="text") == MaskedLM(random_share=0.0)
    assert MaskedLM(strangers="text") != MaskedLM()


def test_a_tokenizer_without_a_mask_is_refused():
    ids = text((2, 5))
    symbols = Symbols(**{**vars(SYMBOLS), "mask": None})
    with pytest.raises(ValueError, match="no mask token"):
        MaskedLM().corrupt({"input_ids": ids}, symbols, np.random.default_rng(0))
