"""Kills, interrupts, full disks and crowds, with real processes.

CAFFE2TORCH_TEST_KILLS sets the number of kills of each kind (3); tools/crash_test.py does the
same a hundred times and prints where they landed.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashing.cases import Case, Convert, Pair, Snapshot, downloads, write_net
from crashing.kills import run_kills
from crashing.races import cold_loads, killed_holder, same_destination

import caffe2torch
from caffe2torch.io.write_caffemodel import write_caffemodel

KILLS = int(os.environ.get("CAFFE2TORCH_TEST_KILLS", "3"))
MEGABYTES = 16


def kill(case: Case) -> None:
    outcome = run_kills(case, KILLS, seed=1)
    assert outcome.faults == []
    assert outcome.kills == KILLS
    # Fewer can miss; of many, kills that never meet a write prove nothing.
    assert KILLS < 20 or outcome.during >= KILLS // 4


CASES: dict[str, Callable[[Path], Case]] = {
    "safetensors": lambda root: Convert(root, ".safetensors", MEGABYTES),
    "onnx": lambda root: Convert(root, ".onnx", MEGABYTES),
    "pt": lambda root: Convert(root, ".pt", MEGABYTES),
    "pair": Pair,
    "snapshot": Snapshot,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_kill_and_run_again(name: str, tmp_path: Path) -> None:
    kill(CASES[name](tmp_path / "case"))


@pytest.mark.slow
def test_killed_download(tmp_path: Path) -> None:
    with downloads(tmp_path / "case", seconds=0.5) as case:
        kill(case)


@pytest.mark.slow
def test_many_loads_download_once(tmp_path: Path) -> None:
    with downloads(tmp_path / "case", seconds=0.5) as case:
        assert cold_loads(case, 4) == 1
        assert killed_holder(case, 3) == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["safetensors", "pair"])
def test_many_writers_of_one_destination(kind: str, tmp_path: Path) -> None:
    case = CASES[kind](tmp_path / "case")
    assert isinstance(case, (Convert, Pair))
    assert same_destination(case, 4) in ("old", "new")


# The real command line, interrupted or without room.


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # So large that writing it takes long enough to be interrupted: 16 MB take 5 ms.
    return write_net(tmp_path_factory.mktemp("net") / "net.caffemodel", 1, 8 * MEGABYTES)


def command(net: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "caffe2torch", "convert", str(net), str(out)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def heed_interrupts() -> None:
    # A shell starts what it runs in the background with interrupts ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupt_leaves_nothing(net: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    out.write_bytes(b"old")
    for _ in range(10):
        process = subprocess.Popen(
            command(net, out), stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
        )
        while process.poll() is None and names(tmp_path) == [out.name]:
            time.sleep(0.0002)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
        assert names(tmp_path) == [out.name]
        if process.returncode:
            assert (process.returncode, said.strip()) == (1, "Aborted!")
            assert out.read_bytes() == b"old"
            return
    pytest.fail("ten conversions were over before their interrupts")


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


FULL = "free some space there, or choose another folder"
LARGE = (
    "raise the limit on the size of a file (ulimit -f), or choose a file system that holds "
    "larger files"
)


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx", ".pt"])
def test_limit_on_the_size_of_a_file(suffix: str, net: Path, tmp_path: Path) -> None:
    out = tmp_path / f"net{suffix}"
    out.write_bytes(b"old")
    done = subprocess.run(
        command(net, out), capture_output=True, text=True, preexec_fn=limit_file_size
    )
    assert done.stderr == (
        f"Error: {out}: cannot be written: File too large; the file that was there is "
        f"unchanged; {LARGE}\n"
    )
    assert done.returncode == 2
    assert out.read_bytes() == b"old"
    assert names(tmp_path) == [out.name]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx", ".pt"])
def test_full_disk(suffix: str, net: Path, small_disk: Path) -> None:
    out = small_disk / f"net{suffix}"
    out.write_bytes(b"old")
    with pytest.raises(caffe2torch.Caffe2TorchError) as caught:
        caffe2torch.convert(net, out)
    assert str(caught.value) == (
        f"{out}: cannot be written: No space left on device; the file that was there is "
        f"unchanged; {FULL}"
    )
    assert out.read_bytes() == b"old"
    assert names(small_disk) == [out.name]


def test_temporary_of_a_killed_run_is_what_fills_the_disk(net: Path, small_disk: Path) -> None:
    small = small_disk.parent / "small.prototxt"
    small.write_text('input: "x" input_shape { dim: 2 dim: 3 }')
    (small_disk / "net.pt.0123abcd.caffe2torch-part").write_bytes(bytes((1 << 20) - 4096))
    out = small_disk / "small.safetensors"
    write_and_read = caffe2torch.convert(None, out, small)
    assert names(small_disk) == [write_and_read.name]


def test_full_disk_for_a_pair(net: Path, small_disk: Path) -> None:
    pair = [small_disk / "net.caffemodel", small_disk / "net.prototxt"]
    for path in pair:
        path.write_bytes(b"old")
    with pytest.raises(
        caffe2torch.Caffe2TorchError, match=r"net\.caffemodel: cannot be written: N"
    ):
        write_caffemodel(caffe2torch.read(net), *pair)
    assert [path.read_bytes() for path in pair] == [b"old", b"old"]
    assert names(small_disk) == ["net.caffemodel", "net.prototxt"]
