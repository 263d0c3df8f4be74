"""What an id cannot hold and bits depend on: device, threads, library versions. Recorded beside every run."""

from __future__ import annotations

import contextlib
import functools
import json
import platform
import subprocess
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from plm.store import RunFolder

if TYPE_CHECKING:
    from plm.train import Execution

RECORDED = ("torch", "transformers", "tokenizers", "numpy", "plm-sweeps")

PEAK_FLOPS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10G": 70e12,
    "V100": 125e12,
}
"""Dense half-precision FLOP/s that vendors' data sheets give, by a part of the device's name."""


def environment(execution: Execution, workers: int = 1) -> dict[str, Any]:
    """Where this process computes."""
    device = torch.device(execution.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_model()
    return {
        "device": f"{device.type}: {name}",
        "threads": execution.threads,
        "workers": workers,
        "micro_batch": execution.micro_batch,
        **({"teacher": execution.teacher, "lessons": execution.lessons} if execution.teacher != "live" else {}),
        "python": platform.python_version(),
        "versions": {package: version for package in RECORDED if (version := _version(package))},
        "commit": _commit(),
    }


def note(folder: RunFolder, execution: Execution, workers: int) -> None:
    """Write `environment.json`; a change of environment between the attempts of a run is added, never overwritten."""
    now = environment(execution, workers)
    before = json.loads(folder.get("environment.json") or b"[]")
    if now not in before:
        folder.put("environment.json", json.dumps([*before, now], indent=1).encode())


def began(folder: RunFolder, execution: Execution) -> Execution:
    """The execution with the teacher that the run was begun with, live or stored, and with the very lessons.

    Whoever goes on stays with them: wider lessons say the same to the last bit but rounding.
    """
    noted = json.loads(folder.get("environment.json") or b"[]")
    if not noted:
        return execution
    return replace(execution, teacher=noted[-1].get("teacher", "live"), lessons=noted[-1].get("lessons"))


def peak_flops(device: torch.device) -> float | None:
    """FLOP/s of the device at best; None where no data sheet says."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)


@functools.lru_cache(maxsize=1)
def _commit() -> str | None:
    """The project's commit, where it runs from a checkout."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        git = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude", "*"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
