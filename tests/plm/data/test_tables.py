"""Tables: every format reads alike, and what is no table is said to be none."""

from __future__ import annotations

import pytest

from plm.data.tables import EXTENSIONS, column, read, splits


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", b'text,n\n"one, two",1\n"two\nlines",2\n'),
        ("a.jsonl", b'{"text": "one, two", "n": 1}\n{"text": "two\\nlines", "n": 2}\n'),
    ],
)
def test_formats_read_alike(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    table = read(tmp_path / name)
    assert column(table, "text", "") == ["one, two", "two\nlines"]
    assert column(table, "n", "") == [1, 2]


def test_quotation_marks_of_a_tab_separated_file_are_text(tmp_path):
    (tmp_path / "a.tsv").write_text('text\tn\n"half a quote\t1\nsaid "so", he\t2\n')
    assert column(read(tmp_path / "a.tsv"), "text", "") == ['"half a quote', 'said "so", he']


def test_words_that_look_like_nothing_stay_words(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nnull,0\nNA,1\n,0\nword,1\n")
    assert column(read(tmp_path / "a.csv"), "text", "") == ["null", "NA", "", "word"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.parquet", b"PAR1"),
        ("a.parquet", b""),
        ("a.jsonl", b"{"),
        ("a.jsonl", b""),
        ("a.json", b"[1, 2]"),
        ("a.csv", b""),
        ("a.csv", b"a,b\n1\n"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} cannot be read: "):
        read(tmp_path / name)


def test_unknown_endings_are_refused(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is not a table: the known endings are .parquet, .jsonl"):
        read(tmp_path / "a.xlsx")
    assert ".csv" in EXTENSIONS


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (("train", "validation", "test"), "validation"),
        (("train", "dev", "test"), "dev"),
        (("train", "test"), "test"),
        (("train", "validation_matched", "validation_mismatched"), "validation_matched"),
    ],
)
def test_the_evaluation_split_is_chosen_by_name(tmp_path, names, taken):
    for name in names:
        (tmp_path / f"{name}.csv").write_text(f"text\n{name}\n")
    train, held_out = splits(tmp_path)
    assert column(train, "text", "") == ["train"]
    assert column(held_out, "text", "") == [taken]


def test_nulls_are_found_by_row(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": null}\n')
    with pytest.raises(ValueError, match="here: column 'text' is null in row 1"):
        column(read(tmp_path / "a.jsonl"), "text", "here")
