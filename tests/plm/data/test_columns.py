"""Columns on disk: what was written is read, part by part, and damage is never read as data."""

from __future__ import annotations

import os
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plm.data.columns import Columns, Damaged, Writer, found

TYPES = {"a": np.int64, "b": np.int32}


def write(path, parts, rows=8):
    with Writer(path, TYPES, rows) as file:
        for part in parts:
            file.append(a=np.asarray(part), b=np.asarray(part) * 2)
    return Columns(path, TYPES)


@given(
    st.lists(st.lists(st.integers(-(1 << 20), 1 << 20), max_size=20), max_size=8),
    st.integers(0, 170),
    st.integers(0, 170),
)
def test_any_rows_can_be_read(tmp_path_factory, parts, start, stop):
    whole = [value for part in parts for value in part]
    there = write(tmp_path_factory.mktemp("columns") / "x.arrow", parts)
    assert len(there) == len(whole)
    start, stop = sorted(min(value, len(whole)) for value in (start, stop))
    if start < stop:
        assert there.read("a", start, stop).tolist() == whole[start:stop]
        assert there.read("b", start, stop).tolist() == [2 * value for value in whole[start:stop]]


def test_what_lies_in_one_batch_is_not_copied(tmp_path):
    there = write(tmp_path / "x.arrow", [range(30)])
    assert not there.read("a", 9, 15).flags.owndata
    assert not there.read("a", 9, 15).flags.writeable
    assert there.read("a", 7, 9).tolist() == [7, 8]


def test_nothing_appears_when_writing_fails(tmp_path):
    def fail():
        yield range(20)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write(tmp_path / "x.arrow", fail())
    assert not os.listdir(tmp_path)


def test_a_shorter_file_is_damaged_wherever_it_is_cut(tmp_path):
    path = tmp_path / "x.arrow"
    write(path, [range(30)])
    data = path.read_bytes()
    assert found(path, TYPES)
    for size in range(0, len(data), 37):
        path.write_bytes(data[:size])
        assert found(path, TYPES) is None
        with pytest.raises(Damaged, match="is damaged"):
            Columns(path, TYPES)


def test_a_flipped_bit_is_never_read(tmp_path):
    path = tmp_path / "x.arrow"
    write(path, [range(30)])
    data = path.read_bytes()
    missed = 0
    for at in range(0, len(data), 5):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with suppress(Damaged):
            there = Columns(path, TYPES)
            assert there.read("a", 0, 30).tolist() == list(range(30))
            assert there.read("b", 0, 30).tolist() == [2 * i for i in range(30)]
            missed += 1
    assert missed < len(data) / 4  # padding, and what Arrow says twice
