"""Data files that nobody meant: each is read, or refused before anything starts with its name in the message."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from reliability.conftest import ask
from tiny import sentence

ENDINGS = ("jsonl", "csv", "tsv", "parquet", "txt")
ODD: tuple[Any, ...] = (
    None,
    "",
    " ",
    3,
    -1,
    2.5,
    True,
    10**30,
    [],
    ["w01"],
    {"a": 1},
    "\ud800",
    "\x00",
    "w01 " * 20_000,
)


def rows(count: int) -> list[dict[str, Any]]:
    return [{"sentence": sentence(i), "label": i % 2} for i in range(count)]


def written(table: list[dict[str, Any]], ending: str) -> bytes:
    """Rows as a file; what a format cannot say is said as text."""
    if ending in ("jsonl", "txt"):
        return "".join(json.dumps(row) + "\n" for row in table).encode()
    names = list(dict.fromkeys(name for row in table for name in row))
    columns = {name: [_plain(row.get(name)) for row in table] for name in names}
    try:
        made = pa.table(columns)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        made = pa.table({n: [None if v is None else str(v) for v in column] for n, column in columns.items()})
    out = io.BytesIO()
    if ending == "parquet":
        pq.write_table(made, out)
        return out.getvalue()
    separator = "," if ending == "csv" else "\t"
    lines = [separator.join(names), *(separator.join(str(_plain(r.get(n, ""))) for n in names) for r in table)]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def spoilt(draw: random.Random, ending: str) -> bytes:
    """A good file with up to four things wrong, in its rows or in its bytes."""
    table = rows(draw.choice((0, 1, 2, 30, 30, 30, 30, 30)))
    for _ in range(draw.choice((0, 1, 1, 2))):
        if table:
            row = draw.choice(table)
            change = draw.randrange(4)
            if change == 0:
                row[draw.choice(("sentence", "label"))] = draw.choice(ODD)
            elif change == 1:
                row.pop(draw.choice(("sentence", "label")), None)
            elif change == 2:
                row[draw.choice(("other", "", "idx", "label2"))] = draw.choice(ODD)
            else:
                row["label"] = draw.choice(("yes", 7, -3, 1e9, "0"))
    data = bytearray(written(table, ending))
    for _ in range(draw.choice((0, 1, 1, 2))):
        at = draw.randrange(len(data) + 1)
        change = draw.randrange(4)
        if change == 0 and data:
            data[at % len(data)] ^= 1 << draw.randrange(8)
        elif change == 1:
            del data[at:]
        elif change == 2:
            data[at:at] = draw.choice((b"\xff\xfe", b"\x00", b'"', b"\n\n", b"{", b"\xc3("))
        else:
            data[at:at] = data[: draw.randrange(200)]
    return bytes(data)


def check(folder: Path, model: str, files: int) -> tuple[int, int]:
    """How many of so many spoilt files were read, and how many refused."""
    read = refused = 0
    for number in range(files):
        draw = random.Random(number)
        ending = draw.choice(ENDINGS)
        file = folder / f"task{number}.{ending}"
        file.write_bytes(spoilt(draw, ending))
        words = (f"model={model}", f"task={file}", "size=4", "seed=0", "mask=00", "duration=steps:1")
        status, said = ask(folder / "store", *words, "--table")
        assert status in (0, 2), f"{file}: {said}"
        assert "Traceback" not in said
        if status == 2:
            assert str(file) in said or "size" in said, f"{file}: {said}"
        read, refused = read + (status == 0), refused + (status == 2)
        file.unlink()
    return read, refused


def test_a_malformed_file_is_read_or_refused(tmp_path: Path, tiny_bert: str) -> None:
    read, refused = check(tmp_path, tiny_bert, 120)
    assert read > 10, "were all refused, the files would be no test of reading"
    assert refused > 40


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_malformed_files_are_read_or_refused(tmp_path: Path, tiny_bert: str) -> None:
    assert sum(check(tmp_path, tiny_bert, 1000)) == 1000
