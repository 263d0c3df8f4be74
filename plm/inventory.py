"""What lies at the places of a trajectory: hashes, headers and samples of weights, checkpoint by checkpoint.

Files are read one after the other and tensors one at a time; what stays in memory is a hash a tensor and a bounded sample.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from plm.external import download
from plm.shards import Damaged, Stored, digest, sample, stored
from plm.spec import Checkpoint
from plm.store import step_name
from plm.trajectory import Place, Revision, Trajectory
from plm.verdict import Notes, modules

SAMPLES, LEAST, MOST = 1 << 17, 256, 1 << 14
"""Elements kept of a checkpoint's matrices, about, and the limits of one matrix: half a megabyte a checkpoint."""
JUDGED = 64
"""Elements that a matrix must have to be compared by itself."""
IRRELEVANT = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "_commit_hash")
"""What configurations may differ in."""


@dataclass(eq=False)
class Seen:
    """What was read of a checkpoint."""

    step: int
    units: dict[str, str] = field(default_factory=dict)
    """Name of a tensor, or of a file where only files were listed -> its hash."""
    layout: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    """Name of a tensor -> its type and shape."""
    config: dict[str, Any] | None = None
    samples: dict[str, Float[np.ndarray, " _"]] = field(default_factory=dict)
    """Name of a matrix -> some of its elements."""


def look(trajectory: Trajectory, step: int, place: Place, notes: Notes, fetch: bool) -> Seen | None:
    """What a place holds; None if nothing can be compared."""
    if isinstance(place, Revision):
        listed = _listed(step, place, notes)
        if listed is None or not fetch or not listed.units:
            return listed
        folder = download(place.repo, place.revision)
    else:
        folder = place if isinstance(place, Path) else _of_run(trajectory, place)
    if not folder.is_dir():
        notes.add(step, "missing", "the schedule has it" if isinstance(place, Checkpoint) else f"no folder {folder}")
        return None
    whole = _manifest(trajectory, step, folder, notes)
    _counters(step, folder, notes)
    try:
        config = {k: v for k, v in json.loads((folder / "config.json").read_text()).items() if k not in IRRELEVANT}
    except (OSError, ValueError, AttributeError) as error:
        notes.add(step, "damaged", f"config.json cannot be read ({type(error).__name__})")
        config = None
    try:
        tensors = stored(folder)
        seen = _read(step, tensors, config)
    except Damaged as error:
        if whole:
            notes.add(step, "damaged", str(error))
        return None
    _final(trajectory, seen, tensors, notes)
    wild = [name for name, values in seen.samples.items() if not np.isfinite(values).all()]
    if wild:
        notes.add(step, "damaged", f"it has weights that are not finite numbers ({modules(wild)})")
        seen.samples.clear()
    return seen


def _of_run(trajectory: Trajectory, place: Checkpoint) -> Path:
    assert trajectory.run is not None
    return trajectory.run.checkpoint(step_name(place.step))


def _manifest(trajectory: Trajectory, step: int, folder: Path, notes: Notes) -> bool:
    """Whether a checkpoint's files are those that were written, as far as it says which they were."""
    if not (folder / "manifest.json").is_file():
        if trajectory.run is not None:
            notes.add(step, "damaged", "it has no manifest.json: it was not written to its end")
        return trajectory.run is None
    try:
        sums = json.loads((folder / "manifest.json").read_text())
        changed = [name for name, expected in sums.items() if _sha256(folder / name) != expected]
    except (ValueError, AttributeError):
        sums, changed = {}, ["manifest.json"]
    if changed or not sums:
        gone = [name for name in changed if not (folder / name).exists()]
        said = [f"{name} is {'missing' if name in gone else 'not as it was written'}" for name in changed]
        notes.add(step, "damaged", ", ".join(said) or "its manifest.json is empty")
    return not changed


def _sha256(file: Path) -> str | None:
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _counters(step: int, folder: Path, notes: Notes) -> None:
    """The step that a trainer wrote beside the weights, ours or transformers' own."""
    for name, key in (("progress.json", "step"), ("trainer_state.json", "global_step")):
        try:
            counted = json.loads((folder / name).read_text())[key]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if counted != step:
            notes.add(step, "misnamed", f"its {name} says step {counted}")


def _read(step: int, tensors: dict[str, Stored], config: dict[str, Any] | None) -> Seen:
    """Hash every tensor and sample the matrices, one at a time."""
    matrices = [t for t in tensors.values() if t.real and len(t.shape) > 1 and t.size >= JUDGED]
    limit = min(MOST, max(LEAST, SAMPLES // max(1, len(matrices))))
    return Seen(
        step,
        units={name: digest(tensor) for name, tensor in tensors.items()},
        layout={name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()},
        config=config,
        samples={tensor.name: sample(tensor, limit) for tensor in matrices},
    )


def _final(trajectory: Trajectory, seen: Seen, tensors: dict[str, Stored], notes: Notes) -> None:
    """A finished run of ours says what its last weights hash to."""
    if trajectory.run is None or trajectory.run.get("result.json") is None:
        return
    result = trajectory.run.result()
    if seen.step != result.get("steps"):
        return
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode())
        digest(tensors[name], total)
    if total.hexdigest() != result.get("weights_sha256"):
        notes.add(seen.step, "misnamed", "its weights are not those that the run ended with (result.json)")


def _listed(step: int, place: Revision, notes: Notes) -> Seen | None:
    """The hashes that the hub keeps of a revision's weights; nothing is downloaded."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        files = HfApi().model_info(place.repo, revision=place.revision, files_metadata=True).siblings or []
    except (RepositoryNotFoundError, RevisionNotFoundError):
        notes.add(step, "missing", f"the hub has no {place}")
        return None
    except Exception as error:  # the hub's client raises a different type for each way of not being there
        raise ValueError(
            f"{place} could not be looked up on the hub ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "Without a network, give local folders."
        ) from error
    names = {f.rfilename: str(f.lfs.sha256 if f.lfs else f.blob_id) for f in files if "/" not in f.rfilename}
    weights = {name: sha for name, sha in names.items() if name.endswith(".safetensors")}
    if weights:
        return Seen(step, units=weights)
    pickled = {name: sha for name, sha in names.items() if name.endswith(".bin")}
    notes.add(step, "damaged", f"no safetensors at {place}{' (pickled weights are never read)' if pickled else ''}")
    return Seen(step, units=pickled) if pickled else None
