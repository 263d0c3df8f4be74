"""The generated language is stable, annotated and coherent, and leaves no way round pretraining."""

from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from math import log

import pytest

from plm.data.world import DOMAINS, RATES, STYLES, TASKS, VERSION, Document, Sentence, World
from plm.spec import digest


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=3, num_documents=1_500)


@pytest.fixture(scope="module")
def documents(world: World) -> list[Document]:
    return world.documents("train")


@pytest.fixture(scope="module")
def tasks(world: World) -> dict[str, dict[str, list[dict]]]:
    return {name: world.task(name) for name in TASKS}


@pytest.fixture(scope="module")
def nouns(world: World) -> set[str]:
    bags = world.lexicon.nouns["home"]
    return {form for bag in bags for noun in bag.items for form, _ in noun.forms}


def _naive_bayes(rows: dict[str, list[dict]], features: Callable[[list[str]], list[str]]) -> float:
    """Score a count-based classifier on the validation rows."""
    counts: dict[int, Counter] = defaultdict(Counter)
    for row in rows["train"]:
        counts[row["label"]].update(features(row["sentence"].split()))
    total = {label: sum(c.values()) for label, c in counts.items()}
    size = len(counts[0] | counts[1])

    def score(row: dict, label: int) -> float:
        words = features(row["sentence"].split())
        return sum(log((counts[label][w] + 1) / (total[label] + size)) for w in words)

    guesses = [int(score(row, 1) > score(row, 0)) == row["label"] for row in rows["validation"]]
    return sum(guesses) / len(guesses)


def test_the_seed_decides_everything(documents):
    small = {"num_documents": 40}
    same, again, other = World(seed=3, **small), World(seed=3, **small), World(seed=4, **small)
    assert same.text("train") == again.text("train") != other.text("train")
    assert same.task("sentiment") == again.task("sentiment") != other.task("sentiment")
    assert same.facts() == again.facts() != other.facts()
    # A longer text starts with the shorter one, and the streams do not shift each other.
    assert [str(document) for document in documents[:40]] == same.text("train")
    assert set(same.text("train")).isdisjoint(same.text("validation"))


def test_the_first_document_is_frozen():
    assert VERSION == 1
    assert World(num_documents=1).text("train") == [
        "lezide works for norede .\nlezide vops some retilo .\nthe bigumule mivata rabig the varibe fupobo ."
    ]


def test_every_token_has_a_tag_and_is_in_the_vocabulary(world, documents, tasks):
    vocabulary = world.vocabulary()
    known = set(vocabulary)
    assert 1_800 <= len(vocabulary) == len(known) <= 4_000
    tags = defaultdict(set)
    for document in documents:
        for sentence in document.sentences:
            assert len(sentence.tokens) == len(sentence.tags)
            for token, tag in zip(sentence.tokens, sentence.tags, strict=True):
                tags[token].add(tag)
    assert set(tags) <= known
    assert all(len(of_word) == 1 for of_word in tags.values())
    assert len({tag for t in tags.values() for tag in t}) >= 11
    for task in tasks.values():
        for rows in task.values():
            assert {word for row in rows for word in row["sentence"].split()} <= known


def test_documents_keep_to_their_entities(world, documents):
    people = {name for bag in world.lexicon.people for name, _ in bag.items}
    facts = {(f.subject, *f.relation.split(), f.object) for f in world.facts()}
    for document in documents[:500]:
        assert document.domain in DOMAINS
        assert document.sentences[0].tokens[0] not in ("he", "she")
        subjects = [s.tokens[0] for s in document.sentences if s.tokens[0] in people | {"he", "she"}]
        assert set(subjects) <= {*document.entities, "he", "she"}
        assert len({"he", "she"} & set(subjects)) <= 1  # only the first entity is referred to by a pronoun
        for sentence in document.sentences:
            if sentence.tokens[0] in people and sentence.tokens[1] in ("lives", "comes", "works", "cares"):
                assert sentence.tokens[:-1] in facts


def test_domains_differ_in_their_words(documents):
    use = {domain: Counter() for domain in DOMAINS}
    for document in documents:
        use[document.domain].update(token for sentence in document.sentences for token in sentence.tokens)
    home, field = (use[domain] for domain in DOMAINS)
    common = {word for word, n in (home + field).items() if n > 15}
    tilted = {word for word in common if max(home[word], field[word]) > 2 * min(home[word], field[word])}
    assert 0.3 < len(tilted) / len(common) < 0.7


def test_facts_are_stated_at_their_rates(world, documents):
    stated, about = Counter(), Counter()
    for document in documents:
        about[document.entities[0]] += 1
        stated.update({str(s) for s in document.sentences})
    share = {}
    for rate in RATES:
        facts = [f for f in world.facts() if f.rate == rate]
        times = sum(stated[f"{f.subject} {f.relation} {f.object} ."] for f in facts)
        share[rate] = times / sum(about[f.subject] for f in facts)
    assert share == pytest.approx({rate: rate for rate in RATES}, abs=0.03)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_balanced_and_asks_for_nouns_never_labelled(tasks, nouns, task):
    rows = tasks[task]
    assert {split: len(part) for split, part in rows.items()} == {"train": 2_000, "validation": 500}
    seen = {}
    for split, part in rows.items():
        assert [row["idx"] for row in part] == list(range(len(part)))
        assert sum(row["label"] for row in part) == len(part) / 2
        seen[split] = {word for row in part for word in row["sentence"].split() if word in nouns}
    assert seen["train"].isdisjoint(seen["validation"])
    assert min(map(len, seen.values())) >= 40  # forms


@pytest.mark.parametrize("task", TASKS)
def test_neither_the_frame_nor_the_letters_give_the_label_away(tasks, nouns, task):
    def frame(words: list[str]) -> list[str]:
        context = [w for w in words if w not in nouns]
        return context + [" ".join(pair) for pair in pairwise(context)]

    def letters(words: list[str]) -> list[str]:
        context = "-".join(w for w in words if w in ("not", "is", "are", "does", "do"))
        return [f"{context} {w[i:]}" for w in words if w in nouns for i in (-1, -2, -3)]

    assert 0.4 < _naive_bayes(tasks[task], frame) < 0.6
    assert 0.4 < _naive_bayes(tasks[task], letters) < 0.6


def test_what_does_not_exist_is_refused_with_what_does(world):
    with pytest.raises(ValueError, match="'mood' is not one of sentiment"):
        world.task("mood")
    with pytest.raises(ValueError, match="'test' is not one of train, validation"):
        world.text("test")


# Styles and domains


@pytest.fixture(scope="module")
def stories() -> list[Document]:
    return World(seed=3, num_documents=400, style="stories").documents("train")


def test_every_variety_has_the_same_words(world):
    """So that a model of one reads the others."""
    known = set(world.vocabulary())
    for style in STYLES:
        for domain in (None, *DOMAINS):
            variety = World(seed=3, num_documents=40, style=style, domain=domain)
            assert variety.vocabulary() == world.vocabulary()
            assert {word for text in variety.text("train") for word in text.split()} <= known


def test_varieties_are_other_texts_and_other_values(world):
    varieties = [World(seed=3, num_documents=10, style=s, domain=d) for s in STYLES for d in (None, *DOMAINS)]
    assert len({tuple(variety.text("train")) for variety in varieties}) == len(varieties)
    assert len({digest(variety) for variety in varieties}) == len(varieties)
    assert digest(World()) == "fe795da95bd480898a659575bb40c0d0b24e1ff9a38b3035efb57bea320396ce"
    for options, said in (
        ({"style": "verse"}, "style 'verse' is not one of notes, stories"),
        ({"domain": "sea"}, "domain 'sea'"),
    ):
        with pytest.raises(ValueError, match=said):
            World(**options)


def test_stories_agree_and_are_long(stories, nouns):
    assert min(len(story.sentences) for story in stories) >= 5
    assert 6 < sum(len(story.sentences) for story in stories) / len(stories) < 10
    for story in stories:
        for sentence in story.sentences:
            assert sentence.tokens[-1] == "."
            for (word, tag), (_, following) in pairwise(zip(sentence.tokens, sentence.tags, strict=True)):
                assert word not in ("a", "the", "this", "some", "these") or following in ("NOUN", "ADJ"), tag


def _links(sentences: list[Sentence], nouns: set[str]) -> list[bool]:
    """Of each sentence that speaks of a known thing (`the`, `this`, `these`): whether a sentence before named it."""
    named, linked = set[str](), []
    for sentence in sentences:
        words = sentence.tokens
        known = {word for before, word in pairwise(words) if before in ("the", "this", "these")}
        linked += [word in named for word in known]
        named |= nouns & set(words)
    return linked


def test_the_order_of_a_story_can_be_told(stories, nouns):
    """What is known was named before; in reverse it mostly was not. In the notes both are about as likely."""
    forth = [link for story in stories for link in _links(list(story.sentences), nouns)]
    back = [link for story in stories for link in _links(list(reversed(story.sentences)), nouns)]
    assert all(forth)
    assert sum(back) / len(back) < 0.75


def test_sentences_of_two_stories_do_not_belong_together(stories, nouns):
    own = [_links(list(s.sentences), nouns)[-1] for s in stories if _links(list(s.sentences), nouns)]
    mixed = [
        link
        for one, other in pairwise(stories)
        for link in _links([*one.sentences[:3], *other.sentences[-1:]], nouns)[
            len(_links(list(one.sentences[:3]), nouns)) :
        ]
    ]
    assert all(own)
    assert sum(mixed) / len(mixed) < 0.2


@pytest.mark.parametrize("style", ["notes", "stories"])
def test_domains_speak_of_other_things_in_the_same_way(nouns, style):
    counts = {
        d: Counter(
            t for text in World(seed=3, num_documents=600, style=style, domain=d).text("train") for t in text.split()
        )
        for d in DOMAINS
    }
    shares = {d: {w: n / count.total() for w, n in count.items()} for d, count in counts.items()}
    home, field = (shares[d] for d in DOMAINS)
    assert {d.domain for d in World(seed=3, num_documents=10, style=style, domain="field").documents("train")} == {
        "field"
    }
    frequent = sorted(nouns, key=lambda word: -counts["home"][word])[:60]
    assert sum(field.get(word, 0) < home[word] / 3 for word in frequent) > 50
    for word in ("the", ".", "does", "not"):
        assert home[word] == pytest.approx(field[word], rel=0.2)
