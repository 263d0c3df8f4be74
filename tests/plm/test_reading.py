"""Readings: values with an identity, executed once, refused before anything is spent."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import SIZES, perturbed, save_model, sentence

import plm
from plm import Checkpoint, External, Reading, Store, read
from plm.analyses.prediction import Prediction
from plm.analyses.reconstruction import Reconstruction
from plm.build import Cache
from plm.data.files import files
from plm.data.gold import aligned, tagged
from plm.reading import _training_text, rows_of, subject_of, to_parquet
from plm.spec import RunSpec, from_json
from plm.word_statistics import statistics


@pytest.fixture(scope="module")
def gold(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight tagged sentences of the toy words."""
    folder = tmp_path_factory.mktemp("gold")
    lines = []
    for number in range(8):
        words = sentence(number).split()
        lines += ["\t".join([str(i), w, "_", "NOUN", "_", "_", "0", "_", "_", "_"]) for i, w in enumerate(words, 1)]
        lines.append("")
    (folder / "test.conllu").write_text("\n".join(lines))
    return str(folder)


@pytest.fixture(scope="module")
def analysis(gold: str) -> Reconstruction:
    return Reconstruction(tagged(gold))


@pytest.fixture(scope="module")
def masked(make_bert: Callable[..., str]) -> External:
    return plm.external(make_bert("masked", head="BertForMaskedLM"))


def discriminator(folder: Path, **config: object) -> External:
    import transformers

    model = transformers.ElectraForPreTraining(transformers.ElectraConfig(**SIZES, embedding_size=32))
    where = Path(save_model(perturbed(model), folder / "electra"))
    written = json.loads((where / "config.json").read_text())
    (where / "config.json").write_text(json.dumps(written | config))
    return plm.external(str(where))


# Identity


def test_a_reading_says_what_it_reads(analysis: Reconstruction, masked: External) -> None:
    reading = Reading(analysis, masked)
    assert reading.run_id.startswith("reconstruction-")
    assert reading.parents() == ()
    assert from_json(reading.to_json()) == reading
    other = dataclasses.replace(analysis, size=3)
    ids = {Reading(one, masked).run_id for one in (analysis, other, Prediction(analysis.data))}
    assert len(ids) == 3
    with pytest.raises(ValueError, match="is no training, but a reading"):
        RunSpec.from_json(reading.to_json())
    changed = json.loads(reading.to_json())
    changed["spec"]["analysis"]["size"] = 3
    with pytest.raises(ValueError, match="it was changed"):
        from_json(json.dumps(changed))


def test_another_source_is_another_reading(analysis: Reconstruction, masked: External, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(masked.path, copied)
    assert Reading(analysis, plm.external(str(copied))).run_id == Reading(analysis, masked).run_id
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-5}))
    assert Reading(analysis, plm.external(str(copied))).run_id != Reading(analysis, masked).run_id


def test_a_checkpoint_is_a_parent(analysis: Reconstruction, pretrain: Callable[..., RunSpec]) -> None:
    run = pretrain()
    assert Reading(analysis, run.at(2)).parents() == (run.at(2),)
    assert len({Reading(analysis, source).run_id for source in (run.at(2), run.final)}) == 2


# Execution


def test_a_reading_is_executed_once(
    analysis: Reconstruction, masked: External, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, store = Reading(analysis, masked), Store.at(tmp_path)
    result = read(reading, store=store)
    folder = store.run(reading)
    assert folder.done
    assert result.metrics == analysis.summary(rows_of(folder))
    assert len(rows_of(folder)) == folder.result()["rows"] == analysis.data.counts[1]
    assert {"spec.json", "rows.parquet", "result.json", "environment.json", "DONE"} <= {
        p.name for p in folder.path.iterdir()
    }
    monkeypatch.setattr(Reconstruction, "rows", lambda *_: pytest.fail("it is there already"))
    assert read(reading, store=store) == result
    assert len(folder.attempts()) == 1


def test_a_changed_result_is_noticed(analysis: Reconstruction, masked: External, tmp_path: Path) -> None:
    reading = Reading(dataclasses.replace(analysis, size=1), masked)
    read(reading, store=tmp_path)
    Store.at(tmp_path).run(reading).put("rows.parquet", b"")
    with pytest.raises(ValueError, match=r"rows\.parquet changed after the run was finished"):
        read(reading, store=tmp_path)


def test_a_failure_is_kept_and_tried_again(
    analysis: Reconstruction, masked: External, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, store = Reading(analysis, masked), Store.at(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Reconstruction, "summary", lambda *_: {"accuracy": float("nan")})
        with pytest.raises(ValueError, match=r"not finite: \{'accuracy': nan\}"):
            read(reading, store=store)
    folder = store.run(reading)
    assert folder.status() == "failed"
    assert b"not finite" in (folder.get("error.txt") or b"")
    read(reading, store=store)
    assert folder.status() == "done"
    assert folder.get("error.txt") is None
    assert [attempt["outcome"] for attempt in folder.attempts()] == ["failed", "done"]


def test_a_run_of_ours_is_read_at_a_step(
    analysis: Reconstruction, pretrain: Callable[..., RunSpec], tmp_path: Path
) -> None:
    run = pretrain(seq_len=8)
    with pytest.raises(ValueError, match=r"no complete checkpoint at step 2"):
        read(Reading(analysis, run.at(2)), store=tmp_path)
    plm.train(run, store=tmp_path, execution=plm.Execution(keep=(0, 2)))
    read(Reading(analysis, run.at(2)), store=tmp_path)
    cache, store = Cache(), Store.at(tmp_path)
    first, last = (subject_of(s, "tokens", store, cache, torch.device("cpu")) for s in (run.at(0), run.final))
    assert first.seq_len == 8  # as in pretraining, though there is room for 40
    assert not torch.equal(first.model.get_input_embeddings().weight, last.model.get_input_embeddings().weight)
    assert not first.model.training
    body = subject_of(run.at(0), "body", store, cache, torch.device("cpu"))
    assert type(body.model).__name__ == "BertModel"
    assert torch.equal(body.model.get_input_embeddings().weight, first.model.get_input_embeddings().weight)


@pytest.mark.parametrize(("left_out", "count"), [({"slice": True}, 57), ({"part": (0, 3)}, 20), ({}, 60)])
def test_words_are_held_against_what_a_run_was_trained_on(
    left_out: dict, count: int, pretrain: Callable[..., RunSpec], tmp_path: Path
) -> None:
    """A corpus of a word a document, so that the words that are known are the documents that were read."""
    (tmp_path / "train.txt").write_text("\n".join(f"w{number}" for number in range(60)))
    (tmp_path / "validation.txt").write_text("w")
    run = pretrain(seq_len=8)
    data = dataclasses.replace(run.data, text=files(str(tmp_path)), **left_out)
    text = _training_text(dataclasses.replace(run, data=data).at(0))
    every = [f"w{number}" for number in range(60)]
    found = statistics(text).of([aligned(every, ["X"] * 60, [""] * 60, " ".join(every))])[0]
    read = [word for word, own in zip(every, found, strict=True) if own.frequency]
    assert read == list(data.documents("train"))
    assert len(read) == count


def test_a_tokenizer_is_nobody_elses(analysis: Reconstruction, masked: External, tmp_path: Path) -> None:
    one, other = (subject_of(masked, "tokens", Store.at(tmp_path), Cache(), torch.device("cpu")) for _ in range(2))
    one.tokenizer.backend_tokenizer.enable_truncation(3)
    assert len(other.tokenizer(sentence(5))["input_ids"]) > 3


# Refused


def test_a_discriminator_predicts_no_tokens(analysis: Reconstruction, tmp_path: Path) -> None:
    found = discriminator(tmp_path)
    with pytest.raises(ValueError, match=r"analyses/reconstruction asks .* electra, a discriminator, has no head"):
        Reading(analysis, found).check()
    with pytest.raises(ValueError, match="a discriminator"):
        read(Reading(analysis, found), store=tmp_path / "store")


def test_a_generator_is_used_and_named(
    analysis: Reconstruction, tmp_path: Path, toy_corpus: str, tiny_bert: str
) -> None:
    from plm.objectives.rtd import ReplacedTokens

    sizes = {**SIZES, "embedding_size": 32, "generator_fraction": 0.5, "dropout": 0.0}
    run = plm.pretrain(
        plm.Electra(**sizes), toy_corpus, vocabulary=tiny_bert, duration=plm.steps(2), objective=ReplacedTokens(),
        batch_size=4, seq_len=16, dtype="float32",
    )  # fmt: skip
    Reading(analysis, run.final).check()
    plm.train(run, store=tmp_path)
    reading = Reading(analysis, run.final)
    read(reading, store=tmp_path)
    assert Store.at(tmp_path).run(reading).result()["notes"] == ["tokens are predicted by the generator"]


def test_a_body_or_a_classifier_predicts_no_tokens(
    analysis: Reconstruction, tiny_bert: str, finetune: Callable[..., RunSpec]
) -> None:
    with pytest.raises(ValueError, match="a BertModel, has no head for that"):
        Reading(analysis, plm.external(tiny_bert)).check()
    source: Checkpoint = finetune().final
    with pytest.raises(ValueError, match=r"trained by objectives/classify, has no head"):
        Reading(analysis, source).check()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": 1, "a": 1}, {"id": 2}], "the same columns"),
        ([{"a": 1}], "and an id"),
        ([{"id": 1}, {"id": 1}], "two rows have the same id"),
    ],
)
def test_rows_are_a_table(rows: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_parquet(rows)
