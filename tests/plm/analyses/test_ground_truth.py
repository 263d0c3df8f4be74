"""Ground truth: of languages whose making is known, and models whose abilities are planted, analyses find what was put in."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import crossed
import numpy as np
import pytest
import torch
from subjects import subject, words
from tiny import SIZES
from torch import Tensor

import plm
from plm import Reading, Store, read
from plm.analyses import analysis
from plm.analyses.knowledge import Knowledge
from plm.analyses.probing import Probing
from plm.analyses.reconstruction import Reconstruction
from plm.data.cloze import Cloze
from plm.data.files import files
from plm.data.gold import tagged
from plm.data.spans import Item, Passage, Probed, Task
from plm.data.world import RATES, World
from plm.models.bert import Bert
from plm.reading import rows_of

MASK = 4


class Planted(torch.nn.Module):
    """A body whose states are the scores that a function gives for each place of a sequence."""

    def __init__(self, says: Callable[[Sequence[int]], Tensor]) -> None:
        super().__init__()
        self.says = says

    def forward(self, input_ids: Tensor, **_: Any) -> tuple[Tensor]:
        return (torch.stack([self.says(row) for row in input_ids.tolist()]),)


def planted(vocabulary: Sequence[str], says: Callable[[Any], Callable[[Sequence[int]], Tensor]]) -> Any:
    """A subject that says what a function of its tokenizer makes of each sequence."""
    of = subject(tokenizer=words(vocabulary))
    of.model.bert, of.model.cls.predictions = Planted(says(of.tokenizer)), torch.nn.Identity()
    return of


# Facts that are stated more often are known earlier

WORLD = World(seed=5, num_documents=1500)
STEPS = (15, 60, 250, 1000, 1500)


@pytest.fixture(scope="module")
def stated() -> dict[int, Counter[tuple[str, ...]]]:
    """How often the first so many documents state each fact, and each object of each relation."""
    relations, seen, found = {fact.relation for fact in WORLD.facts()}, Counter[tuple[str, ...]](), {}
    for number, document in enumerate(WORLD.documents("train"), 1):
        for sentence in document.sentences:
            x, relation, y = sentence.tokens[0], " ".join(sentence.tokens[1:3]), sentence.tokens[3]
            if len(sentence.tokens) == 5 and relation in relations:
                seen[x, relation, y] += 1
                seen[relation, y] += 1
        if number in STEPS:
            found[number] = seen.copy()
    return found


def remembers(seen: Counter[tuple[str, ...]]) -> Any:
    """A model that has counted what it read, as a guess for the relation and as a memory of the subject."""

    def says(tokenizer: Any) -> Callable[[Sequence[int]], Tensor]:
        number = tokenizer.convert_tokens_to_ids
        about: dict[tuple[int, ...], list[tuple[int, float]]] = {}
        for key, count in seen.items():
            *given, y = key
            x = (number(given[0]),) if len(given) == 2 else ()
            verb = tuple(map(number, given[-1].split()))
            about.setdefault((*x, *verb), []).append((number(y), math.log1p(count) * (10 if x else 0.1)))

        def scores(ids: Sequence[int]) -> Tensor:
            found = torch.zeros(len(ids), len(tokenizer))
            for place, piece in enumerate(ids):
                if piece == MASK and place > 2:
                    for context in (ids[place - 3 : place], ids[place - 2 : place]):
                        for y, score in about.get(tuple(context), ()):
                            found[place, y] += score
            return found

        return scores

    return planted(WORLD.vocabulary(), says)


def test_facts_that_are_stated_more_often_are_known_earlier(stated: dict[int, Counter[tuple[str, ...]]]) -> None:
    asked = Knowledge(Cloze(WORLD))
    found = {step: asked.summary(asked.rows(remembers(stated[step]))) for step in STEPS}
    curves = {rate: [found[step][f"typed_accuracy/rate_{rate:g}"] for step in STEPS] for rate in RATES}
    guess = max(found[step][f"prior_typed_accuracy/rate_{rate:g}"] for step in STEPS for rate in RATES)
    assert guess < 0.1
    first = {
        rate: next((s for s, v in zip(STEPS, curve, strict=True) if v > 0.3), None) for rate, curve in curves.items()
    }
    assert first == {0.4: 250, 0.1: 1000, 0.02: None}, curves
    for step in STEPS:
        by_rate = [found[step][f"typed_accuracy/rate_{rate:g}"] for rate in RATES]
        assert by_rate == sorted(by_rate)
    last = found[STEPS[-1]]
    assert last["typed_accuracy/support_0"] < 0.1
    assert last["typed_accuracy/support_1"] > 0.9


# Frequency, class size and predictability

CLASSES = crossed.classes()
OWN = {word: own for own in CLASSES for word in own.words}
VOCABULARY = sorted({word for own in CLASSES for word in (*own.words, *own.cues)} | {"."})


def surprise(cue: str, word: str) -> float:
    """Of a word after its cue, by the making of the language."""
    own = OWN[word]
    i, c, n = own.words.index(word), own.cues.index(cue), len(own.words)
    joint = np.array(own.weights) * ((1 - own.bound) / n + own.bound * (np.arange(n) == c))
    return float(-np.log(joint[i] / joint.sum()))


ABILITIES: dict[str, Callable[[str, str], float]] = {
    "frequency": lambda _, word: 0.3 + 0.17 * math.log(OWN[word].weights[OWN[word].words.index(word)]),
    "types": lambda _, word: 1.2 - 0.3 * math.log(len(OWN[word].words)),
    "before": lambda cue, word: 1.0 - 0.17 * surprise(cue, word),
    "none": lambda *_: 0.6,
}
"""The chance that a word is right, by what alone it follows."""


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return crossed.write(tmp_path_factory.mktemp("crossed"), 8000)


def says_by(ability: Callable[[str, str], float]) -> Any:
    """A model that says a word again with a chance that follows an ability, and cues always."""

    def says(tokenizer: Any) -> Callable[[Sequence[int]], Tensor]:
        name = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))

        def scores(ids: Sequence[int]) -> Tensor:
            found = torch.nn.functional.one_hot(torch.tensor(ids), len(tokenizer)).float()
            draw = np.random.default_rng(sum(piece * 31**i for i, piece in enumerate(ids)) % 2**32)
            for place, chance in enumerate(draw.random(len(ids))):
                word = name[ids[place]]
                if word in OWN and chance > ability(name[ids[place - 1]], word):
                    found[place] = 0
            return found

        return scores

    return planted(VOCABULARY, says)


@pytest.mark.parametrize("built_in", ABILITIES)
def test_frequency_class_size_and_predictability_are_told_apart(built_in: str, language: tuple[str, str]) -> None:
    text, gold = language
    of = dataclasses.replace(says_by(ABILITIES[built_in]), text=files(text))
    asked = Reconstruction(tagged(gold))
    found = asked.summary([row for row in asked.rows(of) if row["word"] in OWN])
    effects = {name: found[f"effect/{name}"] for name in ("frequency", "types", "before", "after")}
    for name, effect in effects.items():
        if name == built_in:
            assert effect * (1 if name == "frequency" else -1) > 0.1, effects
        else:
            assert abs(effect) < 0.045, (name, effects)
    names = [own.name for own in CLASSES]
    raw, left = (np.std([found[f"{family}/{name}"] for name in names]) for family in ("accuracy", "adjusted"))
    if built_in != "none":
        assert raw > 0.1
        assert left < raw / 2


# Labels of word types


def tasks(label: Callable[[str, str], str]) -> Task:
    """Tagged words of the generated language, labelled anew."""
    task = next(task for task in Probed(World(seed=4, num_documents=1200)).tasks() if task.name == "upos")

    def again(passages: Sequence[Passage], count: int) -> tuple[Passage, ...]:
        return tuple(
            Passage(
                p.text,
                tuple(Item(label(p.text[slice(*item.stretches[0])], item.label), item.stretches) for item in p.items),
            )
            for p in passages[:count]
        )

    return Task("upos", again(task.train, 200), again(task.test, 120))


def selectivity(task: Task, of: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    monkeypatch.setattr(Probed, "tasks", lambda self: (task,))
    asked = Probing((Probed(World()),), layers=(0,))
    found = asked.summary(asked.rows(of))
    return {name: found[f"{name}/upos/layer_0"] for name in ("f1", "selectivity")}


def test_a_label_of_word_types_at_random_has_no_selectivity(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(1)
    drawn: dict[str, str] = {}
    task = tasks(lambda word, _: drawn.setdefault(word, "abc"[draw.integers(3)]))
    of = subject("BertModel", words(World(seed=4).vocabulary()), hidden_size=64)
    found = selectivity(task, of, monkeypatch)
    assert found["f1"] > 0.65
    assert abs(found["selectivity"]) < 0.1


def test_what_vectors_hold_of_words_is_selective(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of parts of speech: a probe finds these, and has nothing to tell words of one part apart by."""
    task = tasks(lambda _, tag: tag)
    tags = {p.text[slice(*i.stretches[0])]: i.label for p in (*task.train, *task.test) for i in p.items}
    names = sorted(set(tags.values()))
    of = subject("BertModel", words(World(seed=4).vocabulary()), hidden_size=64)
    table = of.model.embeddings.word_embeddings.weight
    with torch.no_grad():
        for word, tag in tags.items():
            vector = torch.nn.functional.one_hot(torch.tensor(names.index(tag)), table.shape[1])
            table[of.tokenizer.convert_tokens_to_ids(word)] = vector * 5.0
    found = selectivity(task, of, monkeypatch)
    assert found["f1"] > 0.95
    assert found["selectivity"] > 0.3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_that_is_really_pretrained_learns_by_frequency_and_predicts_by_predictability(tmp_path: Path) -> None:
    """Saying a word again takes having seen it often, whatever its class; filling it in takes a cue that tells it."""
    text, gold = crossed.write(tmp_path, 8000)
    model = Bert(**SIZES | {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 128}, dropout=0.0)
    spec = plm.pretrain(
        model, text, vocabulary="wordpiece:300", duration=plm.steps(600), batch_size=64, seq_len=24, lr=3e-3,
        warmup_steps=30, schedule="constant", dtype="float32",
    )  # fmt: skip
    store = Store.at(tmp_path / "store")
    plm.train(spec, store=store, execution=plm.Execution(keep=(200, 600)))

    def numbers(name: str, step: int) -> dict[str, float]:
        asked = analysis(name, gold, size=300)
        reading = Reading(asked, spec.at(step))
        read(reading, store=store)
        return asked.summary([row for row in rows_of(store.run(reading)) if row["word"] in OWN])

    def mean(found: dict[str, float], *parts: str) -> float:
        names = [own.name for own in CLASSES if {*parts} <= {*own.name.split("-")}]
        return float(np.mean([found[f"accuracy/{name}"] for name in names]))

    said = numbers("reconstruction", 200)
    assert mean(said, "FREQUENT") > mean(said, "RARE") + 0.5
    for one, other in (("FEW", "MANY"), ("BOUND", "FREE")):
        assert abs(mean(said, one) - mean(said, other)) < 0.15
    effects = {name: said[f"effect/{name}"] for name in ("frequency", "types", "before", "after")}
    assert effects["frequency"] > 0.1, effects  # within classes, where most words are all right or all wrong
    assert all(abs(effects[name]) < effects["frequency"] / 2 for name in ("types", "before", "after")), effects
    filled = numbers("prediction", 600)
    assert mean(filled, "FREQUENT", "BOUND") > mean(filled, "FREQUENT", "FREE") + 0.4
    assert mean(filled, "FREQUENT", "FREE", "FEW") > mean(filled, "FREQUENT", "FREE", "MANY")
    assert filled["effect/before"] < -0.1
