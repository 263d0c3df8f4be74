"""Tables of labelled text: read parquet, JSON lines, CSV and TSV into columns, and find the splits of a folder.

Only reading happens here; what a column means is decided in `plm.tasks`. pyarrow does the parsing, so that a plan
needs no heavier library.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

EXTENSIONS = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
TRAIN, EVALUATION = ("train",), ("validation", "dev", "validation_matched", "test")
"""Names of the training split and of the evaluation split, in order of preference."""


def read(path: Path) -> pa.Table:
    """Read one file.

    Raises:
        ValueError: not a table of a known format, not UTF-8, or a column whose type changes from row to row.
    """
    if path.suffix not in EXTENSIONS:
        raise ValueError(f"{path} is not a table: the known endings are {', '.join(EXTENSIONS)}.")
    try:
        table = _parsed(path)
        table.column_names  # noqa: B018  # names too must be UTF-8
        return table
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _parsed(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pa.parquet.read_table(path)
    if path.suffix in (".jsonl", ".json"):
        return pa.json.read_json(path)
    # Tab-separated files of the field (GLUE's) hold quotation marks as they are; commas need the quoting rules.
    comma = (
        pa.csv.ParseOptions(newlines_in_values=True)
        if path.suffix == ".csv"
        else pa.csv.ParseOptions(delimiter="\t", quote_char=False)
    )
    text = pa.csv.ConvertOptions(strings_can_be_null=False)
    return pa.csv.read_csv(path, parse_options=comma, convert_options=text)


def splits(path: Path, named: dict[str, str] | None = None) -> tuple[pa.Table, pa.Table]:
    """The training and the evaluation rows of a file or folder.

    A folder has one file a split (`train.parquet`), or shards (`data/train-00000-of-00002.parquet`, as on the hub).
    `named` maps `train` and `validation` to file names where they are called otherwise. A single file is split: every
    fifth row is for evaluation.

    Raises:
        ValueError: nothing there, a split is missing or empty.
    """
    if path.is_file():
        table = read(path)
        every_fifth = pa.array([i % 5 == 4 for i in range(table.num_rows)], pa.bool_())
        train, held_out = table.filter(pc.invert(every_fifth)), table.filter(every_fifth)
    else:
        train, held_out = (_split(path, wanted, (named or {}).get(wanted[0])) for wanted in (TRAIN, EVALUATION))
    for split, table in (("train", train), ("evaluation", held_out)):
        if table.num_rows == 0:
            raise ValueError(f"{path}: the {split} split is empty.")
    return train, held_out


def _split(folder: Path, wanted: tuple[str, ...], given: str | None) -> pa.Table:
    if given is not None:
        return read(folder / given)
    files = sorted(f for f in folder.rglob("*") if f.suffix in EXTENSIONS and f.name != "task.json")
    for split in wanted:
        shards = [f for f in files if f.stem == split or f.stem.startswith(f"{split}-")]
        if len({(f.parent, f.suffix) for f in shards}) > 1:
            there = ", ".join(str(f.relative_to(folder)) for f in shards)
            raise ValueError(f"{folder} has more than one {split} split: {there}. Name a folder with one of them.")
        if shards:
            return pa.concat_tables([read(f) for f in shards])
    raise ValueError(
        f"{folder} has no {' or '.join(wanted)} split: it holds "
        f"{', '.join(str(f.relative_to(folder)) for f in files) or 'no table'}. "
        f'Rename a file, or name it in task.json under "splits".'
    )


def column(table: pa.Table, name: str, where: str) -> list[object]:
    """One column as Python values, none of them null.

    Raises:
        ValueError: a null, or bytes that are not UTF-8; the message gives the row.
    """
    try:
        values = table.column(name).to_pylist()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: column {name!r} is not UTF-8 ({error.reason} at byte {error.start}).") from error
    if None in values:
        raise ValueError(
            f"{where}: column {name!r} is null in row {values.index(None)}. Remove such rows or fill them in."
        )
    return values
