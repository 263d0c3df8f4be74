"""Tasks: what is inferred, what is refused and how it is said, and that a task is its rows wherever they lie."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from tiny import write_rows

from plm import tasks
from plm.metrics import METRICS
from plm.registry import names
from plm.tasks import definitions, load, resolve

SINGLE = [{"sentence": f"text {i}", "label": i % 2} for i in range(8)]


def folder(tmp_path: Path, train=SINGLE, validation=SINGLE[:4], name="toy", **task_json) -> str:
    path = tmp_path / name
    path.mkdir()
    for split, rows in (("train", train), ("validation", validation)):
        if rows is not None:
            write_rows(path / f"{split}.jsonl", rows)
    if task_json:
        (path / "task.json").write_text(json.dumps(task_json))
    return str(path)


def relabelled(labels, **columns):
    return [{"sentence": f"text {i}", "label": label, **columns} for i, label in enumerate(labels)]


# Inference


@pytest.mark.parametrize("columns", [*tasks.PAIRS, *((c,) for c in tasks.SINGLES), ("headline",)])
def test_the_columns_of_text_are_found(tmp_path, columns):
    rows = [{**{c: f"{c} {i}" for c in columns}, "idx": i, "label": i % 2} for i in range(6)]
    task = resolve(folder(tmp_path, rows, rows[:2]))
    assert load(task)[0].texts[1] == tuple(f"{c} 1" for c in columns)
    assert (task.num_labels, task.metrics, task.counts) == (2, ("accuracy",), (6, 2))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 2]),
        (["no", "yes", "maybe", "no", "yes", "no"], [1, 2, 0, 1, 2, 1]),
        ([True, False, True, False, True, True], [1, 0, 1, 0, 1, 1]),
    ],
)
def test_classes_are_counted(tmp_path, labels, classes):
    task = resolve(folder(tmp_path, relabelled(labels), relabelled(labels[:3])))
    assert task.num_labels == len(set(labels))
    assert load(task)[0].labels == tuple(classes)


def test_real_numbers_are_a_regression(tmp_path):
    task = resolve(folder(tmp_path, relabelled([0.0, 2.5, 1.0]), relabelled([1.5, 2.0])))
    assert (task.num_labels, task.metrics) == (1, ("pearson", "spearman"))


def test_whole_numbers_are_a_regression_where_it_says_so(tmp_path):
    task = resolve(folder(tmp_path, relabelled([0, 2, 5]), relabelled([1, 2]), kind="regression"))
    assert (task.num_labels, load(task)[1].labels) == (1, (1.0, 2.0))


@pytest.mark.parametrize(
    ("name", "metrics"), [("cola", ("matthews", "accuracy")), ("sst2", ("accuracy",)), ("mine", ("accuracy",))]
)
def test_a_folder_of_a_known_name_takes_its_metric(tmp_path, name, metrics):
    assert resolve(folder(tmp_path, name=name)).metrics == metrics


def test_what_is_written_beside_the_data_comes_first(tmp_path):
    assert resolve(folder(tmp_path, name="cola", metric="f1")).metrics == ("f1",)


def test_a_task_json_names_columns_label_metric_and_files(tmp_path):
    rows = [{"sentence": "not this", "body": f"text {i}", "gold": i % 3} for i in range(6)]
    path = Path(
        folder(
            tmp_path,
            None,
            None,
            columns=["body"],
            label="gold",
            metric=["f1", "accuracy"],
            kind="classification",
            splits={"train": "a.jsonl", "validation": "b.jsonl"},
        )
    )
    for name in ("a", "b"):
        write_rows(path / f"{name}.jsonl", rows)
    task = resolve(str(path))
    assert (task.num_labels, task.metrics, task.counts) == (3, ("f1", "accuracy"), (6, 6))
    assert load(task)[0].texts[0] == ("text 0",)


# Refusals: each kind of bad input, one clear sentence

BAD_ROWS = {
    "no text": ([{"n": 1, "label": 0}], r"cannot tell the one or two columns of text .* there are \['n', 'label'\]"),
    "no label": ([{"sentence": "a"}], r"missing: \['label'\]; there are \['sentence'\]"),
    "three texts": ([{"a": "x", "b": "y", "c": "z", "label": 0}], "Name them in a task.json"),
    "null text": ([*SINGLE, {"sentence": None, "label": 0}], "column 'sentence' is null in row 8. Remove such rows"),
    "null label": ([*SINGLE, {"sentence": "a", "label": None}], "column 'label' is null in row 8"),
    "numbers for text": ([{"sentence": i, "label": i % 2} for i in range(4)], "holds 0 in row 0, which is not text"),
    "a constant label": (relabelled([1, 1, 1]), "label 1 in row 0 is out of range: the classes are 0 to 0"),
    "a constant zero": (relabelled([0, 0, 0]), "every training row has label 0; a classification needs two classes"),
    "a negative label": (relabelled([0, 1, -1]), r"\(train\): label -1 in row 2 is out of range"),
    "a gap": (relabelled([0, 2, 0]), r"label 2 in row 1 is out of range: the classes are 0 to 1, .* are \[0, 2\]"),
    "words and numbers": (relabelled(["0", "1", "yes"]), "mixes numbers and words"),
    "changing types": (relabelled([0, "yes", 1]), "cannot be read: .*changed from number to string"),
    "lists": (relabelled([[0], [1]]), "holds list values; a label is a whole number, a string or a real number"),
    "no rows": ([], "cannot be read|split is empty"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_are_refused(tmp_path, case):
    rows, said = BAD_ROWS[case]
    with pytest.raises(ValueError, match=said):
        resolve(folder(tmp_path, rows, rows or SINGLE))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (relabelled([0, 3]), r"\(evaluation\): label 3 in row 1 is out of range"),
        ([{"sentence": "a"}], "column 'label' is missing"),
        ([{"text": "a", "label": 1}], "column 'sentence' is missing"),
        (relabelled(["yes"]), "mixes int, str"),
    ],
)
def test_bad_evaluation_rows_are_refused(tmp_path, rows, said):
    with pytest.raises(ValueError, match=said):
        resolve(folder(tmp_path, SINGLE, rows))


def test_a_label_that_is_not_a_number_is_refused(tmp_path):
    path = Path(folder(tmp_path, None, None))
    for split in ("train", "validation"):
        table = pa.table({"sentence": ["a", "b"], "label": [1.0, float("nan")]})
        pa.parquet.write_table(table, path / f"{split}.parquet")
    with pytest.raises(ValueError, match="column 'label' holds nan, which is not a finite number"):
        resolve(str(path))


def test_mixed_labels_of_a_csv_are_refused(tmp_path):
    path = Path(folder(tmp_path, None, None))
    for split in ("train", "validation"):
        (path / f"{split}.csv").write_text("sentence,label\na,0\nb,1\nc,good\n")
    with pytest.raises(ValueError, match="mixes numbers and words"):
        resolve(str(path))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_text_that_is_not_utf8_is_refused(tmp_path, ending):
    path = Path(folder(tmp_path, None, None))
    texts = pa.array([b"caf\xe9", b"b"]).cast(pa.string(), safe=False) if ending == "parquet" else None
    for split in ("train", "validation"):
        if texts is None:
            (path / f"{split}.csv").write_bytes(b"sentence,label\ncaf\xe9,0\nb,1\n")
        else:
            pa.parquet.write_table(pa.table({"sentence": texts, "label": [0, 1]}), path / f"{split}.parquet")
    with pytest.raises(ValueError, match=r"not UTF-8|which is not text"):
        resolve(str(path))


BAD_TASK_JSON = {
    "unknown key": ({"colums": ["a"]}, r"'colums'. Did you mean 'columns'"),
    "unknown metric": ({"metric": "f2"}, "unknown metric in .*'f2'. There are: accuracy, f1"),
    "unknown kind": ({"kind": "ranking"}, "There are: classification, regression"),
    "a number for a metric": ({"metric": 3}, "'metric' is 3; it must be a str or list"),
    "a string for columns": ({"columns": "sentence"}, "'columns' is 'sentence'; it must be a list"),
    "numbers for columns": ({"columns": [1]}, r"'columns' is \[1\]; it must be a list, made of strings"),
    "missing column": ({"columns": ["body"]}, r"missing: \['body'\]; there are \['sentence', 'label'\]"),
    "missing file": ({"splits": {"train": "gone.jsonl"}}, "gone.jsonl cannot be read"),
    "a score of classes for numbers": ({"kind": "regression", "metric": "accuracy"}, "metric 'accuracy' is of classes"),
}


@pytest.mark.parametrize("case", BAD_TASK_JSON)
def test_a_bad_task_json_is_refused(tmp_path, case):
    own, said = BAD_TASK_JSON[case]
    with pytest.raises(ValueError, match=said):
        resolve(folder(tmp_path, **own))


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "\xff"])
def test_a_task_json_that_is_none_is_refused(tmp_path, text):
    path = Path(folder(tmp_path))
    (path / "task.json").write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError, match=r"task.json is not (JSON|a JSON object)"):
        resolve(str(path))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("sst3", r"unknown task 'sst3'. Did you mean 'sst2'"),
        ("glue/sst3", "Did you mean 'glue/sst2'"),
        ("./nowhere", "there is no file or folder"),
        ("/nowhere/at/all", "no train split: it holds no table"),
        ("nobody/no-such-dataset", "could not be had from the hub"),
    ],
)
def test_a_task_that_is_not_there(given, said):
    with pytest.raises(ValueError, match=said):
        resolve(given)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_missing_or_empty_split_is_named(tmp_path, split):
    with pytest.raises(ValueError, match=f"has no .*{split}.* split: it holds"):
        resolve(folder(tmp_path, **{split: None}))
    path = Path(folder(tmp_path, name="empty", **{split: None}))
    (path / f"{split}.csv").write_text("sentence,label\n")
    with pytest.raises(ValueError, match=f"the {'train' if split == 'train' else 'evaluation'} split is empty"):
        resolve(str(path))


# Identity


def test_a_task_is_its_rows_whatever_the_format(tmp_path):
    rows = [{"sentence": f'text, "quoted" {i}', "label": i % 2} for i in range(8)]
    table = pa.Table.from_pylist(rows)
    writers = {
        "parquet": pa.parquet.write_table,
        "csv": pa.csv.write_csv,
        "tsv": lambda t, p: p.write_text(
            "\n".join(["sentence\tlabel", *(f"{r['sentence']}\t{r['label']}" for r in rows)])
        ),
    }
    found = [resolve(folder(tmp_path, rows, rows))]
    for ending, write in writers.items():
        path = Path(folder(tmp_path, None, None, name=ending))
        for split in ("train", "validation"):
            write(table, path / f"{split}.{ending}")
        found.append(resolve(str(path)))
    assert len({replace(task, name="", path="") for task in found}) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r[::-1],
        lambda r: r[:-1],
        lambda r: [*r[:-1], {**r[-1], "sentence": "x"}],
        lambda r: [*r[:-1], {**r[-1], "label": 1 - r[-1]["label"]}],
    ],
)
def test_other_rows_are_another_task(tmp_path, change):
    before = resolve(folder(tmp_path))
    assert resolve(folder(tmp_path, change(SINGLE), name="b")).rows != before.rows
    assert resolve(folder(tmp_path, SINGLE, change(SINGLE[:4]), name="c")).rows != before.rows


def test_columns_that_are_not_read_do_not_matter(tmp_path):
    wider = folder(tmp_path, [{"idx": 7, **row} for row in SINGLE], name="b")
    assert resolve(folder(tmp_path)).rows == resolve(wider).rows


def test_a_folder_as_on_the_hub(tmp_path):
    path = Path(folder(tmp_path, None, None)) / "data"
    path.mkdir()
    table = pa.Table.from_pylist(SINGLE)
    pa.parquet.write_table(table.slice(0, 5), path / "train-00000-of-00002.parquet")
    pa.parquet.write_table(table.slice(5), path / "train-00001-of-00002.parquet")
    pa.parquet.write_table(table.slice(0, 4), path / "validation-00000-of-00001.parquet")
    assert resolve(str(path.parent)).rows == resolve(folder(tmp_path, name="b")).rows


def test_a_single_file_keeps_every_fifth_row_for_evaluation(tmp_path):
    write_rows(tmp_path / "one.jsonl", relabelled([i % 2 for i in range(11)]))
    task = resolve(str(tmp_path / "one.jsonl"))
    train, held_out = load(task)
    assert (task.name, task.counts) == ("one", (9, 2))
    assert held_out.texts == (("text 4",), ("text 9",))
    assert not set(train.texts) & set(held_out.texts)


@pytest.mark.parametrize("other", ["train.csv", "other/train.jsonl"])
def test_two_training_splits_in_one_folder_are_refused(tmp_path, other):
    """A folder of several tasks is not a task."""
    path = Path(folder(tmp_path))
    (path / "other").mkdir()
    (path / other).write_text("sentence,label\na,0\n" if other.endswith("csv") else '{"sentence": "a", "label": 0}\n')
    with pytest.raises(ValueError, match="more than one train split"):
        resolve(str(path))


def test_rows_that_changed_after_planning_are_refused(tmp_path):
    path = folder(tmp_path)
    task = resolve(path)
    write_rows(Path(path) / "train.jsonl", SINGLE[::-1])
    tasks._resolved.cache_clear()  # as another process would find them
    with pytest.raises(ValueError, match=r"task toy: the rows at .* have changed since the plan was made"):
        load(task)


def test_a_relative_path_is_kept_absolute(tmp_path, monkeypatch):
    folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert resolve("toy").path == str(tmp_path / "toy")


# The open folder


@pytest.mark.parametrize("name", definitions())
def test_every_definition_can_be_read_and_scored(name):
    definition = definitions()[name]
    assert 1 <= len(definition.columns) <= 2
    assert set(definition.metrics) <= set(METRICS)
    assert definition.metrics
    assert definition.num_labels is None or definition.num_labels >= 1
    suite = tasks.importlib.import_module(f"plm.tasks.{name.partition('/')[0]}")
    assert (definition.hub is None) == hasattr(suite, "tables")


def test_names_are_one_to_a_task():
    short = [name.partition("/")[2] for name in definitions()]
    assert len(short) == len(set(short))
    assert {name.partition("/")[0] for name in definitions()} == set(names("tasks"))


@pytest.mark.parametrize("name", ["sentiment", "acceptability"])
def test_the_generated_tasks_are_there(name):
    task = resolve(name)
    assert (task.num_labels, task.metrics) == (2, ("accuracy",))
    assert resolve(f"world/{name}") == task


# Real data


@pytest.mark.parametrize(
    ("name", "metric", "num_labels", "columns", "train", "held_out"),
    [
        ("sst2", "accuracy", 2, 1, 67349, 872),
        ("cola", "matthews", 2, 1, 8551, 1043),
        ("mnli_small", "accuracy", 3, 2, 7847, 1968),
        ("stsb", "pearson", 1, 2, 5749, 1500),
    ],
)
def test_real_tasks_are_what_they_are(shared, name, metric, num_labels, columns, train, held_out):
    task = resolve(str(shared / "data" / name))
    assert (task.metrics[0], task.num_labels, task.counts) == (metric, num_labels, (train, held_out))
    assert len(load(task)[0].texts[0]) == columns
