"""What is free goes back to the system, and training sees to it."""

from __future__ import annotations

import ctypes
import platform
import re
import resource
from pathlib import Path

import pytest
import torch

import plm
from plm import memory


def resident() -> int:
    """Bytes of this process that are in memory."""
    return 1024 * int(re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[0])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_what_is_free_goes_back(monkeypatch):
    """Blocks between others that stay: the allocator keeps them, unless it is told."""
    monkeypatch.setattr(memory, "EVERY_SECONDS", 0.0)
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [libc.malloc(64_000) for _ in range(1000)]
    for block in blocks:
        ctypes.memset(block, 1, 64_000)
    stay = blocks[::10]
    for block in set(blocks) - set(stay):
        libc.free(block)
    before = resident()
    memory.Keeper().give_back()
    assert before - resident() > 30_000_000
    for block in stay:
        libc.free(block)


def test_training_gives_back_but_not_at_every_step(pretrain, tmp_path, monkeypatch):
    given: list[int] = []
    monkeypatch.setattr(memory, "give_back", lambda: given.append(1))
    plm.train(pretrain(), store=tmp_path)
    assert not given
    monkeypatch.setattr(memory, "EVERY_SECONDS", 0.0)
    plm.train(pretrain(lr=2e-3), store=tmp_path)
    assert len(given) == 4


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_large_blocks_are_not_mapped_anew_at_each_step(pretrain, tmp_path):
    """Once a run was trained here; the pages of the first block serve those after it."""

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(10_000_000)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    plm.train(pretrain(), store=tmp_path)
    faults()
    assert faults() < 10_000_000 * 4 // 4096, "of ten blocks, fewer than the pages of one"
