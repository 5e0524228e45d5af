"""The GPU benchmark runs with torch, numpy and OpenCV alone, and says what it could not measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
    options = ["--device", "cpu", "--seconds", "8", "--batch-size", "1", "--json", str(output)]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(TOOL), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rates = json.loads(output.read_text())["rates"]
    measured = [value for value in rates.values() if isinstance(value, list)]
    assert all(rate > 0 for rate, _ in measured)
    # On a machine with much to do, the time may be over before the first row is.
    assert measured or any("left out: not done after" in value for value in rates.values())
    assert not any(str(value).startswith("failed") for value in rates.values()), rates
    # Title, a blank line, the head, a row each, a blank line, the advice.
    advised = json.loads(output.read_text())["advice"]
    assert len(done.stdout.splitlines()) == 4 + len(rates) + 1 + len(advised)
    assert done.stdout.splitlines()[-len(advised) :] == advised


FAULTS = """
import ctypes, sys, time
import torch
sys.path.insert(0, TOOLS)
import bench_gpu
from gpu.rows import Bench, MissingError

def memory():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\\nMore of it")

def compiler():
    raise RuntimeError()

def decoder():
    raise MissingError("torchvision is not installed")

def endless():
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            pass

def deaf():
    mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)

def good():
    return lambda: 1.0

def broken(*_):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

ROWS = [memory, compiler, decoder, endless, good, *([deaf] if sys.argv.pop(1) == "deaf" else [])]
Bench.rows = lambda self: iter([(row.__name__, "images/s", row) for row in ROWS])
torch.cuda.empty_cache = broken
made = Bench.__init__

def init(self, *arguments):
    made(self, *arguments)
    self.on_gpu, self.wait = True, lambda: None

Bench.__init__ = init
bench_gpu.GRACE = 1.0
bench_gpu.main()
"""
"""Runs the benchmark on rows that fail in all ways that a machine may have."""


@pytest.mark.skipif(sys.platform != "linux", reason="its faults are those of Linux")
@pytest.mark.parametrize("last", ["none", "deaf"])
def test_what_fails_costs_its_row_alone(tmp_path: Path, last: str) -> None:
    """A row that hears no alarm ends the program, after all others are printed and written."""
    output = tmp_path / "rates.json"
    options = ["--device", "cpu", "--seconds", "6", "--most", "1", "--batch-size", "1"]
    script = FAULTS.replace("TOOLS", repr(str(TOOL.parent)))
    done = subprocess.run(
        [sys.executable, "-c", script, last, *options, "--json", str(output)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == (1 if last == "deaf" else 0), done.stderr
    rates = json.loads(output.read_text())["rates"]
    rate, unit = rates.pop("good")
    assert rate > 0
    assert unit == "images/s"
    assert rates == {
        "memory": "failed: CUDA out of memory. Tried to allocate 20 GiB.",
        "compiler": "failed: RuntimeError()",
        "decoder": "left out: torchvision is not installed",
        "endless": "left out: not done after 1 s",
    }
    for name, why in rates.items():
        assert f"| {name} | - | {why} | |" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("not measured")


def test_the_advice_follows_from_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOL.parent))
    import bench_gpu

    best = bench_gpu.BEST
    rates = {best: 300.0, "train bf16": 200.0, f"{best}, compiled": 303.0, "decode, one core": 60.0}
    found = {name: (value, "images/s") for name, value in rates.items()}
    advice = list(bench_gpu.advice(found))
    assert "- --channels-last in bf16 (default: yes): yes, 1.50 times as fast" in advice
    assert "- --compile: no, 1.01 times as fast" in advice
    assert "- --precision bf16: not measured" in advice
    assert advice[-1].startswith(f"- Cores that decode what '{best}, compiled' takes: 5.")
