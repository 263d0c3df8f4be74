"""Edge probing: spans, their vectors, probes of all layers at once, and what they are held against."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from subjects import pieces, subject, words
from tiny import SIZES, WORDS

from plm import inference, linear_probes
from plm.analyses.probing import Control, Example, Probing, TypeGuess
from plm.data.phrases import coreference, parse
from plm.data.spans import Item, Passage, Probed, Task, probed, subset
from plm.data.world import Document, Sentence, World
from plm.linear_probes import fit
from plm.models import shape
from plm.models.bert import Bert
from plm.pooling import pooled, window
from plm.spec import decode, digest, encode

WORLD = World(seed=4, num_documents=1200)


def tagged(rows, labels, draw):
    """Passages of six words each; the label of a word is a function of it."""
    found = []
    for _ in range(rows):
        chosen = draw.integers(0, len(WORDS), 6)
        items = tuple(Item(labels[w], ((4 * i, 4 * i + 3),)) for i, w in enumerate(chosen))
        found.append(Passage(" ".join(WORDS[w] for w in chosen), items))
    return tuple(found)


@pytest.fixture
def of_words(monkeypatch):
    """Makes an analysis of a task whose labels are given by word."""

    def make(labels, train=60, test=40, **fields):
        draw = np.random.default_rng(0)
        task = Task("upos", tagged(train, labels, draw), tagged(test, labels, draw))
        monkeypatch.setattr(Probed, "tasks", lambda self: (task,))
        return Probing((Probed(WORLD),), **fields)

    return make


# Vectors


def test_a_span_is_the_mean_of_its_pieces_at_every_layer():
    of, text = subject("BertModel", tokenizer=pieces()), "the unknowable cat sat"
    found = pooled(of, [(text, [(4, 14), (0, 18)]), (text, [(15, 18), (4, 14)])])
    assert found.number[text] == {(4, 14): 0, (0, 18): 1, (15, 18): 2}
    with torch.no_grad():
        states = of.model(torch.tensor([[2, 5, 11, 12, 13, 6, 7, 3]]), output_hidden_states=True).hidden_states
    assert found.vectors.shape == (3, 3, 16)
    for layer, state in enumerate(states):
        for vector, (start, stop) in zip(found.vectors[layer], [(2, 5), (1, 6), (5, 6)], strict=True):
            assert torch.allclose(vector, state[0, start:stop].mean(0), atol=1e-6)


def test_company_and_choice_of_layers_do_not_matter(monkeypatch):
    of = subject("BertModel", tokenizer=pieces())
    wanted = [("the cat", [(4, 7)]), ("the unknowable cat sat on the mat .", [(4, 14), (15, 22)]), ("cats", [(0, 4)])]
    together = pooled(of, wanted).vectors
    monkeypatch.setattr(inference, "BATCH_TOKENS", 1)
    monkeypatch.setattr(inference.by_length, "__defaults__", (1,))
    assert torch.allclose(pooled(of, wanted).vectors, together, atol=1e-5)
    assert torch.equal(pooled(of, wanted, [2]).vectors[0], pooled(of, wanted).vectors[2])
    with pytest.raises(ValueError, match=r"layer 3: the model has layers 0 \(embeddings\) to 2"):
        pooled(of, wanted, [0, 3])


def test_long_texts_are_cut_around_what_is_asked():
    assert [window(10, 12, 3), window(20, 8, 3), window(20, 8, 15)] == [(0, 10), (0, 8), (7, 15)]
    of = dataclasses.replace(subject("BertModel"), seq_len=6)
    text = " ".join(WORDS[:9])
    found = pooled(of, [(text, [(0, 3), (16, 19), (20, 23)])])
    assert found.number[text] == {(16, 19): 0, (20, 23): 1}  # four words are read, the last of them asked for
    ids = of.tokenizer.convert_tokens_to_ids(list(WORDS[2:6]))
    with torch.no_grad():
        state = of.model(torch.tensor([[2, *ids, 3]])).last_hidden_state
    assert torch.allclose(found.vectors[-1], state[0, 3:5], atol=1e-6)


def test_lines_are_framed_as_in_pretraining():
    of = subject("BertModel")
    found = pooled(of, [("w01 w02\nw03", [(8, 11)])])
    a, b, c = of.tokenizer.convert_tokens_to_ids(["w01", "w02", "w03"])
    with torch.no_grad():
        state = of.model(torch.tensor([[2, a, b, 3, c, 3]])).last_hidden_state
    assert torch.allclose(found.vectors[-1][0], state[0, 4], atol=1e-6)


# Probes


def features(layers=3, count=600, width=12, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(layers, count, width, generator=draw) * 3 + 5


def test_a_planted_linear_label_is_found_at_its_layer_alone():
    vectors = features()
    labels = ((vectors[1] - 5) @ torch.randn(12, 4, generator=torch.Generator().manual_seed(1))).argmax(1)
    probe = fit(vectors[:, :400], [labels[:400]], [4], seed=0)
    right = (probe.predict(vectors[:, 400:])[0] == labels[400:].numpy()).mean(1)
    assert right[1] > 0.85
    assert max(right[0], right[2]) < 0.5


def test_all_layers_at_once_are_fitted_as_if_alone():
    vectors = features()
    labels = [(vectors[1, :, 0] > 5).long(), (vectors[0, :, 1:4].argmax(1))]
    together = fit(vectors, labels, [2, 3], seed=3, steps=100)
    for layer in range(3):
        for own, one, count in ((0, labels[0], 2), (1, labels[1], 3)):
            alone = fit(vectors[layer : layer + 1], [one], [count], seed=3, steps=100)
            first = slice(0, 2) if own == 0 else slice(2, 5)
            assert torch.allclose(alone.weight[0], together.weight[layer, :, first], atol=1e-5)
            assert torch.allclose(alone.bias[0], together.bias[layer, :, first], atol=1e-5)


def test_probes_are_about_what_a_fit_to_the_end_with_the_same_prior_gives():
    vectors = features(1, 900)
    noise = torch.randn(900, 3, generator=torch.Generator().manual_seed(2))
    labels = ((vectors[0] - 5) @ torch.randn(12, 3, generator=torch.Generator().manual_seed(1)) / 2 + 2 * noise).argmax(
        1
    )
    ours = (
        fit(vectors[:, :600], [labels[:600]], [3], seed=0).predict(vectors[:, 600:])[0][0] == labels[600:].numpy()
    ).mean()
    scaler = StandardScaler().fit(vectors[0, :600])
    theirs = LogisticRegression(C=1 / linear_probes.PRECISION).fit(scaler.transform(vectors[0, :600]), labels[:600])
    assert ours == pytest.approx(theirs.score(scaler.transform(vectors[0, 600:]), labels[600:]), abs=0.01)
    probe = fit(vectors[:, :600], [labels[:600]], [3], seed=0)
    assert np.allclose(probe.weight[0].T.numpy(), theirs.coef_, atol=0.1)


def test_the_gradient_is_that_of_the_loss_it_is_written_out_from():
    """One step of Adam from zero goes by signs alone: so three, of which two see weights and the prior."""
    vectors, steps = features(2, 50), 3
    labels, classes = [(vectors[1, :, 0] > 5).long(), vectors[0, :, 1:4].argmax(1)], [2, 3]
    standard = (vectors - vectors.mean(1, keepdim=True)) / vectors.std(1, keepdim=True, correction=0)
    weight = torch.zeros(2, vectors.shape[2], 5, requires_grad=True)
    bias = torch.zeros(2, 1, 5, requires_grad=True)
    adam = torch.optim.Adam([weight, bias])
    for step in range(steps):
        adam.param_groups[0]["lr"] = linear_probes.LR * (1 - step / steps)
        loss = linear_probes.PRECISION / (2 * 50) * weight.square().sum()
        for own, one in zip((standard @ weight + bias).split(classes, dim=-1), labels, strict=True):
            loss = loss + sum(torch.nn.functional.cross_entropy(layer, one) for layer in own)
        adam.zero_grad()
        loss.backward()
        adam.step()
    found = fit(vectors, labels, classes, seed=0, steps=steps)
    assert torch.allclose(found.weight, weight, atol=1e-5)
    assert torch.allclose(found.bias, bias, atol=1e-5)


def test_predictions_do_not_depend_on_how_many_are_scored_at_once(monkeypatch):
    vectors = features()
    labels = (vectors[0, :, 0] > 5).long()
    probe = fit(vectors, [labels], [2], seed=0, steps=20)
    said, bits = probe.predict(vectors)[0], probe.bits(vectors, labels)
    monkeypatch.setattr(linear_probes, "AT_ONCE", 7)
    assert (probe.predict(vectors)[0] == said).all()
    assert probe.bits(vectors, labels) == pytest.approx(bits, rel=1e-5)
    by_hand = -probe.log_probabilities(vectors)[0][2, torch.arange(600), labels].sum() / np.log(2)
    assert bits[2] == pytest.approx(by_hand.item(), rel=1e-5)


# The analysis


def test_every_test_item_counts_not_only_the_last_batch(of_words, monkeypatch):
    labels = ["A" if i % 3 else "B" for i in range(60)]
    analysis = of_words(labels, train=10)
    monkeypatch.setattr(linear_probes, "AT_ONCE", 64)
    rows = analysis.rows(subject("BertModel"))
    found = analysis.summary(rows)
    for layer in range(3):
        own = [row for row in rows if row["layer"] == layer]
        assert len(own) == 40 * 6 == len({row["id"] for row in own})
        gold, predicted = ([row[name] for row in own] for name in ("gold", "predicted"))
        assert found[f"f1/upos/layer_{layer}"] == pytest.approx(f1_score(gold, predicted, average="micro"))
        assert found[f"macro_f1/upos/layer_{layer}"] == pytest.approx(f1_score(gold, predicted, average="macro"))
        trap = np.mean([row["correct"] for row in own[len(own) // 64 * 64 :]])
        assert found[f"f1/upos/layer_{layer}"] != pytest.approx(trap)
    assert found["items/upos"] == 240


def test_labels_of_word_types_at_random_have_no_selectivity(of_words):
    draw = np.random.default_rng(1)
    analysis = of_words([f"c{k}" for k in draw.integers(0, 3, 60)], train=150, layers=(0,))
    found = analysis.summary(analysis.rows(subject("BertModel", hidden_size=64)))
    assert found["f1/upos/layer_0"] > 0.9
    assert abs(found["selectivity/upos/layer_0"]) < 0.08
    assert found["type_guess/upos/layer_0"] == 1


def test_what_only_the_company_of_a_word_shows_is_selective(monkeypatch):
    """The label is the number of the place; a word type says nothing of it, and a probe of types cannot learn it."""
    draw = np.random.default_rng(0)

    def passages(count):
        return tuple(
            Passage(p.text, tuple(Item(str(i % 2), item.stretches) for i, item in enumerate(p.items)))
            for p in tagged(count, ["x"] * 60, draw)
        )

    task = Task("places", passages(120), passages(40))
    monkeypatch.setattr(Probed, "tasks", lambda self: (task,))
    analysis = Probing((Probed(WORLD),), layers=(0,))
    found = analysis.summary(analysis.rows(subject("BertModel", hidden_size=32, seed=1)))
    assert found["f1/places/layer_0"] > 0.85
    assert found["type_guess/places/layer_0"] < 0.7


def test_controls_and_guesses_by_hand():
    passage = Passage("w01 w02 w01", tuple(Item(label, ((4 * i, 4 * i + 3),)) for i, label in enumerate("ABC")))
    train = [Example(0, passage.text, item) for item in passage.items]
    guess = TypeGuess([*train, train[0]])
    assert [guess.label(name) for name in ("w01", "w02", "w77")] == ["A", "B", "A"]
    control = Control(["A"] * 90 + ["B"] * 10, 0, "t")
    drawn = [control.label(f"w{i}") for i in range(2000)]
    assert drawn.count("B") == pytest.approx(200, abs=45)
    assert [Control(["A"] * 90 + ["B"] * 10, 0, "t").label(f"w{i}") for i in range(2000)] == drawn
    assert [Control(["A"] * 90 + ["B"] * 10, 1, "t").label(f"w{i}") for i in range(2000)] != drawn


def test_labels_that_training_has_not_shown_are_missed(monkeypatch):
    draw = np.random.default_rng(0)
    task = Task("upos", tagged(20, ["A"] * 30 + ["B"] * 30, draw), tagged(10, ["C"] * 60, draw))
    monkeypatch.setattr(Probed, "tasks", lambda self: (task,))
    analysis = Probing((Probed(WORLD),))
    found = analysis.summary(analysis.rows(subject("BertModel")))
    assert found["f1/upos/layer_1"] == found["macro_f1/upos/layer_1"] == found["majority/upos/layer_1"] == 0


def test_what_is_learned_sooner_has_a_shorter_description(of_words, monkeypatch):
    labels = ["A" if i < 30 else "B" for i in range(60)]
    monkeypatch.setattr(linear_probes, "STEPS", 100)
    analysis = of_words(labels, train=80, layers=(0, 2), description_length=True)
    rows = analysis.rows(subject("BertModel"))
    coded = [row for row in rows if row["portion"] is not None and row["layer"] == 2]
    assert sum(row["items"] for row in coded) == 80 * 6
    assert coded[0]["bits"] == coded[0]["items"]  # before anything is known, a bit a label of two
    found = analysis.summary(rows)
    assert found["compression/upos/layer_0"] > 1.1
    assert found["description_length/upos/layer_0"] == pytest.approx(1 / found["compression/upos/layer_0"])
    assert {row["layer"] for row in rows} == {0, 2}
    assert found["f1/upos/layer_0"] == dataclasses.replace(analysis, description_length=False).summary(
        [row for row in rows if row["portion"] is None]
    )["f1/upos/layer_0"]  # fmt: skip


def test_two_spans_stand_end_to_end_and_layers_are_checked(monkeypatch):
    monkeypatch.setattr(linear_probes, "STEPS", 5)
    analysis = Probing((Probed(WORLD),), size=30, test_size=10)
    found = analysis.summary(analysis.rows(subject("BertModel", tokenizer=words(WORLD.vocabulary()))))
    assert {name.split("/")[1] for name in found} == {"upos", "constituents", "roles", "coreference"}
    assert all(np.isfinite(value) for value in found.values())
    model = shape(Bert(**SIZES, dropout=0.0))
    assert analysis.flops(model) > 0
    with pytest.raises(ValueError, match=r"layers \[3\]: the model has layers 0 \(embeddings\) to 2"):
        dataclasses.replace(analysis, layers=(1, 3)).check(model)
    assert analysis.fewer(5).size == analysis.fewer(5).test_size == 5


# Where spans come from


def test_the_structure_of_a_sentence():
    said = "the ruke kona near the vopo does not mok every diga ."
    tags = "DET ADJ NOUN ADP DET NOUN AUX PART VERB DET NOUN PUNCT"
    found = parse(Sentence(tuple(said.split()), tuple(tags.split())))
    assert {(c.label, " ".join(said.split()[slice(*c.span)])) for c in found.constituents} == {
        ("S", said), ("S", said[:-2]), ("NP", "the ruke kona near the vopo"), ("NP", "the ruke kona"),
        ("PP", "near the vopo"), ("NP", "the vopo"), ("VP", "does not mok every diga"), ("NP", "every diga"),
    }  # fmt: skip
    assert {(r.label, " ".join(said.split()[slice(*r.span)])) for r in found.roles} == {
        ("ARG0", "the ruke kona near the vopo"), ("ARG1", "every diga"), ("ARGM-NEG", "not"),
    }  # fmt: skip
    assert {r.predicate for r in found.roles} == {(8, 9)}


@pytest.mark.parametrize("style", ["notes", "stories"])
def test_every_sentence_of_the_language_has_a_structure(style):
    world = World(seed=1, num_documents=300, style=style)
    labels = set()
    for document in world.documents("train"):
        for sentence in document.sentences:
            found = parse(sentence)
            labels |= {c.label for c in found.constituents} | {r.label for r in found.roles}
            verbs = [i for i, tag in enumerate(sentence.tags) if tag == "VERB"]
            assert {(i, i + 1) for i in verbs} <= {r.predicate for r in found.roles}
            for role in found.roles:
                if role.label == "ARG0":
                    assert sentence.tags[role.span[1] - 1] in ("NOUN", "PROPN", "PRON", "VERB")
            assert found.constituents[0] == ("S", (0, len(sentence.tokens)))
    assert labels >= {"NP", "VP", "PP", "S", "ARG0", "ARG1", "ARGM-NEG"} | ({"SBAR"} if style == "notes" else set())
    with pytest.raises(ValueError, match="no AUX or VERB at word 1"):
        parse(Sentence(("he", "the"), ("PRON", "DET")))


def test_a_pronoun_means_the_first_person():
    first = Sentence(("ana", "helps", "bob", "."), ("PROPN", "VERB", "PROPN", "PUNCT"))
    then = Sentence(("he", "sees", "ana", "."), ("PRON", "VERB", "PROPN", "PUNCT"))
    document = Document((then, first, then), "home", ("bob", "ana"))
    found = coreference(document)  # the first pronoun has nobody before it
    assert [(tuple(c.pronoun), tuple(c.name), c.same) for c in found] == [
        ((2, 0), (1, 2), True),
        ((2, 0), (1, 0), False),
    ]


def test_spans_are_the_words_they_name():
    tasks = {task.name: task for task in Probed(WORLD).tasks()}
    for passage in tasks["upos"].train[:50]:
        assert [passage.text[slice(*item.stretches[0])] for item in passage.items] == passage.text.split()
    pairs = [(p, item) for p in tasks["coreference"].train for item in p.items]
    people = {name for bag in WORLD.lexicon.people for name, _ in bag.items}
    assert len(pairs) > 1
    for passage, item in pairs:
        pronoun, name = (passage.text[slice(*stretch)] for stretch in item.stretches)
        assert pronoun in ("he", "she")
        assert name in people


def write(folder, name, rows):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folders(tmp_path):
    row = {"tokens": ["We", "saw", "him", "."]}
    gap = {"text": "Al saw Bo; he left.", "pronoun": "he", "pronoun_offset": 11}
    gap |= {"a": "Al", "a_offset": 0, "a_coref": False, "b": "Bo", "b_offset": 7, "b_coref": True}
    for split in ("train", "test"):
        write(tmp_path / "ud", split, [row | {"upos": ["PRON", "VERB", "PRON", "PUNCT"], "tag": split}])
        spans = [{"label": "NP", "start": 0, "end": 1}, {"label": "VP", "start": 1, "end": 3}]
        verbs = [{"index": 1, "arguments": [{"label": "ARG1", "start": 2, "end": 3}]}]
        write(tmp_path / "prop", split, [row | {"constituents": spans, "predicates": verbs, "tag": split}])
        write(tmp_path / "gap", split, [gap | {"tag": split}])
    return tmp_path


def test_tables_are_read_by_their_columns(folders):
    names = "+".join(str(folders / name) for name in ("ud", "prop", "gap"))
    sources = probed(names)
    tasks = {task.name: task.test[0] for source in sources for task in source.tasks()}
    shown = {
        name: [(item.label, *(p.text[slice(*s)] for s in item.stretches)) for item in p.items]
        for name, p in tasks.items()
    }
    assert shown == {
        "upos": [("PRON", "We"), ("VERB", "saw"), ("PRON", "him"), ("PUNCT", ".")],
        "constituents": [("NP", "We"), ("VP", "saw him")],
        "roles": [("ARG1", "saw", "him")],
        "coreference": [("false", "he", "Al"), ("true", "he", "Bo")],
    }
    assert len({digest(source) for source in sources}) == 3
    assert decode(json.loads(json.dumps(encode(sources[0], identity=False)))) == sources[0]
    write(folders / "ud", "train", [{"tokens": ["a"], "upos": ["DET"]}])
    with pytest.raises(ValueError, match=r"train\.jsonl has changed"):
        sources[0].tasks()


def test_what_is_no_folder_of_spans_is_refused(folders):
    with pytest.raises(ValueError, match="there is no folder"):
        probed(str(folders / "nothing"))
    with pytest.raises(ValueError, match="upos would be probed twice"):
        probed(f"{folders / 'ud'}+{folders / 'ud'}")
    write(folders / "one", "train", [{"tokens": ["a"], "upos": ["DET"]}])
    with pytest.raises(ValueError, match="has one table only"):
        probed(str(folders / "one"))
    for split in ("train", "test"):
        write(folders / "odd", split, [{"tokens": ["a"], "split": split}])
    with pytest.raises(ValueError, match=r"have the columns tokens, upos, or .*; there are \['split', 'tokens'\]"):
        probed(str(folders / "odd"))
    for split in ("train", "test"):
        spans = [{"label": "NP", "start": 0, "end": 2}]
        write(folders / "far", split, [{"tokens": ["a"], "constituents": spans, "tag": split}])
    with pytest.raises(ValueError, match="'a' has 1 words, and a span from 0 to 2"):
        probed(str(folders / "far"))


def test_subsets_are_nested():
    passages = [Passage(str(i), ()) for i in range(20)]
    few, more = ({p.text for p in subset(passages, size, 0, "train")} for size in (5, 12))
    assert few < more
    assert subset(passages, None, 3, "train") == passages
