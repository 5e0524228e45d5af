"""A slice of the fuzz run, and what longer runs found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("h5py", reason="h5py, the extra 'hdf5', is not installed")

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from fuzzing.seeds import OTHER_KINDS  # noqa: E402
from fuzzing.targets import TARGETS, Corpus, feed  # noqa: E402

FINDINGS = sorted((Path(__file__).parent / "findings").iterdir())
ALONE = [name for name in TARGETS if name not in ("weights", "hdf5", "compressed")]
"""Readers that take one file."""


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("deep", [False, True])
def test_what_was_found(tmp_path: Path, path: Path, deep: bool) -> None:
    name = path.stem.split("-")[0]
    feed(name, path.read_bytes(), None, deep, tmp_path / f"x{path.suffix}")


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_sound_and_inputs_are_the_same_each_time(tmp_path: Path, name: str) -> None:
    target = TARGETS[name]
    accepted = 0
    for seed in target.load(tmp_path):
        data, extra = (seed[1].read_bytes(), seed[0]) if isinstance(seed, tuple) else (seed, None)
        accepted += feed(name, data, extra, False, tmp_path / f"x{target.suffix}")
        if accepted == 3:
            break
    assert accepted
    first, second = (Corpus(7, [name], tmp_path) for _ in range(2))
    assert [first.input(n) for n in range(20)] == [second.input(n) for n in range(20)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(ALONE), st.sampled_from(OTHER_KINDS), st.binary(max_size=200), st.booleans())
def test_any_bytes_to_any_reader(
    tmp_path_factory: pytest.TempPathFactory, name: str, head: bytes, tail: bytes, deep: bool
) -> None:
    path = tmp_path_factory.mktemp("any") / f"x{TARGETS[name].suffix}"
    feed(name, head + tail, None, deep, path)


def run(count: int, folder: Path, *more: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "tools/fuzz.py",
            "--seed",
            "11",
            f"--count={count}",
            f"--findings={folder}",
            *more,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are those of Linux")
def test_a_slice_of_the_run(tmp_path: Path) -> None:
    output = run(2000, tmp_path / "findings")
    assert "2,000 inputs, seed 11," in output
    assert "\n0 findings" in output
    counts = [int(n.replace(",", "")) for n in re.findall(r"([\d,]+) run", output)]
    assert len(counts) >= len(TARGETS)
    assert sum(counts[-len(TARGETS) :]) == 2000
    assert not (tmp_path / "findings").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are those of Linux")
def test_optimised_nets_compute_the_same(tmp_path: Path) -> None:
    output = run(300, tmp_path / "findings", "--reader=optimize")
    assert "\n0 findings" in output
    accepted = re.search(r"optimize +300 run +(\d+) accepted", output)
    assert accepted is not None
    assert int(accepted[1]) > 280  # The others are files that no net is in.
