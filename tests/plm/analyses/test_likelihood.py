"""Likelihoods of sentences agree with what is computed by hand, one forward pass at a time."""

from __future__ import annotations

import pytest
import torch
from subjects import fast, pieces, subject
from tokenizers import Tokenizer, models, pre_tokenizers

from plm import inference
from plm.inference import by_length, outputs, predictions, symbols_of
from plm.likelihood import likelihoods, word_ends

SENTENCES = ["the cat sat on the mat .", "the unknowables sat .", "the unknown sat", "cats"]


def by_hand(of, ids, position, token):
    """The log-probability of a token at a position of one text, by transformers' own forward."""
    with torch.no_grad():
        return of.model(torch.tensor([ids])).logits[0, position].log_softmax(-1)[token].item()


def test_a_masked_model_hides_a_piece_and_the_later_ones_of_its_word():
    of = subject(tokenizer=pieces())
    # [CLS] the un ##know ##able ##s sat . [SEP]
    cls, sep, mask = 2, 3, 4
    ids = [5, 11, 12, 13, 14, 7, 10]
    hidden = [[0], [1, 2, 3, 4], [2, 3, 4], [3, 4], [4], [5], [6]]
    expected = sum(
        by_hand(of, [cls, *[mask if i in those else ids[i] for i in range(7)], sep], place + 1, ids[place])
        for place, those in enumerate(hidden)
    )
    found = likelihoods(of, ["the unknowables sat ."])[0]
    assert found.nats == pytest.approx(expected, abs=1e-4)
    assert (found.pieces, found.unknown) == (7, 0)


def test_hiding_only_one_piece_would_give_another_number():
    of = subject(tokenizer=pieces())
    ids = [5, 11, 12, 13, 14, 7, 10]
    one_by_one = sum(
        by_hand(of, [2, *[4 if i == place else ids[i] for i in range(7)], 3], place + 1, ids[place])
        for place in range(7)
    )
    assert likelihoods(of, ["the unknowables sat ."])[0].nats != pytest.approx(one_by_one, abs=1e-3)


def test_a_causal_model_follows_the_chain_rule_from_the_token_before_texts():
    of = subject("GPT2LMHeadModel", tokenizer=pieces())
    ids = [2, 5, 6, 7]
    expected = sum(by_hand(of, ids[:t], t - 1, ids[t]) for t in (1, 2, 3))
    found = likelihoods(of, ["the cat sat"])[0]
    assert found.nats == pytest.approx(expected, abs=1e-4)
    assert found.pieces == 3


def test_words_end_before_the_next_and_special_tokens_stand_alone():
    symbols = symbols_of(subject(tokenizer=pieces()))
    assert word_ends(symbols, [5, 11, 12, 1, 13, 14, 6]) == [1, 3, 3, 4, 6, 6, 7]


def test_what_the_tokenizer_does_not_know_is_counted():
    assert likelihoods(subject(tokenizer=pieces()), ["the dog sat"])[0].unknown == 1


@pytest.mark.parametrize("head", ["BertForMaskedLM", "GPT2LMHeadModel", "RobertaForMaskedLM", "AlbertForMaskedLM"])
def test_company_does_not_matter(head, monkeypatch):
    own = {"embedding_size": 8} if head.startswith("Albert") else {}
    of = subject(head, tokenizer=pieces(), max_position_embeddings=60, **own)
    of = of.__class__(of.model, of.tokenizer, 40, of.causal, of.device)
    together = [found.nats for found in likelihoods(of, SENTENCES)]
    monkeypatch.setattr(inference, "SCORED_AT_ONCE", 3)
    alone = [likelihoods(of, [sentence])[0].nats for sentence in SENTENCES]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together)) == len(SENTENCES)


def test_what_cannot_be_read_is_refused():
    of = subject()
    found = likelihoods(of, ["w01 " * 38, "w01 " * 39])
    assert found[0].pieces == 38
    assert found[1] is None
    with pytest.raises(ValueError, match=r"text of 41 tokens: the model reads 40"):
        list(outputs(of, [[7] * 41]))
    with pytest.raises(ValueError, match=r"sentence '' has no token"):
        likelihoods(of, ["w01", ""])


def test_without_a_mask_nothing_can_be_hidden():
    bare = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ValueError, match="has no mask token"):
        likelihoods(subject(tokenizer=fast(bare)), ["a a"])


def test_batches_hold_what_is_allowed_and_every_row_once():
    lengths = [3, 9, 4, 4, 30, 1, 2]
    batches = by_length(lengths, tokens=12)
    assert sorted(row for batch in batches for row in batch) == list(range(7))
    assert batches[0] == [4]
    assert all(len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= 12 for batch in batches)


def test_predictions_come_from_the_rows_they_name():
    of, sequences = subject(), [[2, 7, 8, 3], [2, 9, 3], [2, 10, 11, 12, 3]]
    found = {}
    for at, scores in predictions(of, sequences, [[1, 2], [], [3]]):
        found.update(dict(zip(at, scores, strict=True)))
    assert set(found) == {(0, 1), (0, 2), (2, 3)}
    for (row, position), scores in found.items():
        assert scores[7].item() == pytest.approx(by_hand(of, sequences[row], position, 7), abs=1e-5)


def test_outputs_mask_their_padding():
    for rows, mask, output in outputs(subject(), [[2, 7, 8, 3], [2, 9, 3]]):
        assert mask.sum(1).tolist() == [4, 3]
        assert rows == [0, 1]
        assert output[0].shape[:2] == (2, 4)
