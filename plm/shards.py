"""The tensors of a folder of safetensors, read where they lie: one at a time, never a whole model.

What a file says of itself (names, shapes, offsets) is in its header and costs nothing; bytes are read only to be hashed
or sampled. Pickled weights are never read.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
}
"""Bytes of an element, by safetensors' name of its type."""
CHUNK = 1 << 23
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class Damaged(ValueError):
    """The weights of a folder cannot be read, or are not whole."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    begin: int
    """Its first byte in the file."""

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def real(self) -> bool:
        """Whether its elements are real numbers that can be compared."""
        return self.dtype in ("F16", "BF16", "F32", "F64")


def stored(folder: Path) -> dict[str, Stored]:
    """The tensors of a model's folder, by name; of a model in several files, what its index names.

    Raises:
        Damaged: there are no safetensors, a file is cut or has a broken header, or a file lacks what the index names.
    """
    if (folder / SINGLE).is_file():
        return _header(folder / SINGLE)
    if not (folder / INDEX).is_file():
        there = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) or "nothing"
        raise Damaged(f"no {SINGLE} (pickled weights are never read); it holds {there}")
    try:
        placed: dict[str, str] = json.loads((folder / INDEX).read_text())["weight_map"]
        files = {name: _header(folder / name) for name in sorted(set(placed.values()))}
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Damaged(f"{INDEX} cannot be read ({type(error).__name__}: {error})") from error
    absent = sorted(name for name, file in placed.items() if name not in files[file])
    unnamed = sorted(name for file, inside in files.items() for name in inside if placed.get(name) != file)
    if absent or unnamed:
        what = f"lack {absent[0]} ({len(absent)} tensors)" if absent else f"hold {unnamed[0]} ({len(unnamed)} tensors)"
        raise Damaged(f"its files {what}, unlike their index says")
    return {name: files[file][name] for name, file in placed.items()}


def _header(file: Path) -> dict[str, Stored]:
    """The tensors of one file.

    Raises:
        Damaged: cut, or a header that does not describe the bytes that follow.
    """
    if not file.is_file():
        raise Damaged(f"{file.name} is missing")
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > size - 8:
            raise Damaged(f"{file.name} is cut at {size:,} bytes, within its header")
        text = opened.read(length)
    try:
        tensors = {n: _entry(n, e, file, 8 + length) for n, e in json.loads(text).items() if n != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{file.name} has a broken header ({type(error).__name__}: {error})") from error
    end = 8 + length
    for tensor in sorted(tensors.values(), key=lambda t: (t.begin, t.size)):
        if tensor.begin != end:
            raise Damaged(f"{file.name} has a broken header ({tensor.name} begins at byte {tensor.begin}, not {end})")
        end += tensor.size * BYTES[tensor.dtype]
    if end != size:
        raise Damaged(f"{file.name} has {size:,} bytes where its header names {end:,}")
    return tensors


def _entry(name: str, entry: dict[str, Any], file: Path, offset: int) -> Stored:
    begin, end = (int(at) for at in entry["data_offsets"])
    tensor = Stored(name, str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), file, offset + begin)
    if min((begin, *tensor.shape)) < 0 or end - begin != tensor.size * BYTES[tensor.dtype]:
        raise ValueError(f"{name} does not fill its bytes")
    return tensor


def digest(tensor: Stored, *more: Any) -> str:
    """SHA-256 over type, shape and bytes, in hex; the bytes go to the other hashes too."""
    found = hashlib.sha256(f"{tensor.dtype}{tensor.shape}".encode())
    left = tensor.size * BYTES[tensor.dtype]
    with tensor.file.open("rb") as opened:
        opened.seek(tensor.begin)
        while left > 0:
            chunk = opened.read(min(CHUNK, left))
            if not chunk:
                raise Damaged(f"{tensor.file.name} ended within {tensor.name}")
            left -= len(chunk)
            for hashed in (found, *more):
                hashed.update(chunk)
    return found.hexdigest()


def sample(tensor: Stored, limit: int) -> Float[np.ndarray, " n"]:
    """At most `limit` elements; the same ones of all tensors of one name and shape."""
    kind = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}[tensor.dtype]
    mapped = np.memmap(tensor.file, dtype=kind, mode="r", offset=tensor.begin, shape=(tensor.size,))
    draw = np.random.default_rng(zlib.crc32(tensor.name.encode()))
    at = np.sort(draw.integers(tensor.size, size=limit)) if tensor.size > limit else slice(None)
    values = np.array(mapped[at])
    if tensor.dtype == "BF16":  # the upper half of a float32
        return (values.astype("<u4") << 16).view("<f4")
    return values.astype("<f4")
