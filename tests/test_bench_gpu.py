"""The GPU benchmark runs with torch, numpy and OpenCV alone, and says what it could not measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[1] / "tools" / "bench_gpu.py"
BLOCKED = """
import runpy, sys

for name in "google.protobuf click rich onnx onnxruntime safetensors".split():
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a program where most of the package's dependencies cannot be imported."""


def test_it_needs_no_more_than_it_says_and_names_what_it_leaves_out(tmp_path: Path) -> None:
    output = tmp_path / "rates.json"
    options = ["--device", "cpu", "--seconds", "1", "--batch-size", "1", "--json", str(output)]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(TOOL), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rates = json.loads(output.read_text())["rates"]
    rate, unit = rates["train fp32"]
    assert rate > 0
    assert unit == "images/s"
    assert rates["train bf16, channels last, compiled"].startswith("left out: ")
    assert not any(str(value).startswith("failed") for value in rates.values()), rates
    assert len(done.stdout.splitlines()) == len(rates) + 4  # Title, a blank line, the head.
