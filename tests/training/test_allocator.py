"""Memory that the process frees is kept for its next use."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from caffe2torch.training.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    keep_freed_memory()
print([faults() for _ in range(40)][-1])
"""
PAGES = (1 << 26) // 4096
"""Of the script's tensor, where a page has 4 KiB."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_memory_is_taken_from_the_system_once() -> None:
    """The first uses find no gap of the right size; without being kept, the last neither."""
    faults = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("keep", "leave")
    }
    assert faults["keep"] < PAGES / 100
    assert faults["leave"] > faults["keep"]
