"""NaN and infinities among the weights: converted as they are, and named where one looks."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import wire_bytes as w
from click.testing import CliRunner

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.compare import BlobDifference

NET = (
    'input: "x" input_shape { dim: 1 dim: 3 }\n'
    'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"\n'
    "  inner_product_param { num_output: 2 bias_term: false } }"
)
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    values = [1.0, NAN, 3.0, INF, -INF, 6.0]
    (tmp_path / "n.prototxt").write_text(NET)
    blob = w.shape(2, 3) + w.packed(5, values)
    (tmp_path / "n.caffemodel").write_bytes(w.layer("fc", blob, type="InnerProduct"))
    return tmp_path / "n.caffemodel", tmp_path / "n.prototxt"


def test_they_are_converted_bit_for_bit(files: tuple[Path, Path], tmp_path: Path) -> None:
    for suffix in (".pt", ".safetensors"):
        path = caffe2torch.convert(files[0], tmp_path / f"o{suffix}", files[1])
        (array,) = caffe2torch.read(path).params.values()
        expected = struct.pack("<6f", 1.0, NAN, 3.0, INF, -INF, 6.0)
        assert np.ascontiguousarray(array).tobytes() == expected


@pytest.mark.filterwarnings("default::caffe2torch.errors.Caffe2TorchWarning")
@pytest.mark.parametrize("command", ["inspect", "parity"])
def test_they_are_named(files: tuple[Path, Path], command: str) -> None:
    result = CliRunner().invoke(main, [command, str(files[0]), "--prototxt", str(files[1])])
    assert result.exit_code == 0, result.output
    assert "layer 'fc' (InnerProduct): its weight holds 1 NaN and 2 infinite values of 6" in (
        " ".join(result.output.split())
    )


@pytest.mark.parametrize(
    ("first", "second", "agree"),
    [
        ([NAN, 1], [NAN, 1], True),
        ([INF, -INF], [INF, -INF], True),
        ([NAN, 1], [1, 1], False),
        ([1, 1], [NAN, 1], False),
        ([INF, 1], [-INF, 1], False),
        ([INF, 1], [1e30, 1], False),
        ([INF, 1], [NAN, 1], False),
        ([NAN, NAN], [0, 0], False),
        ([NAN, 1], [NAN, 2], False),
    ],
)
def test_engines_agree_about_them_or_differ(
    first: list[float], second: list[float], agree: bool
) -> None:
    difference = BlobDifference("y")
    difference.add(np.float32(first), np.float32(second))
    difference.add(np.float32([1, 1]), np.float32([1, 1]))
    assert difference.exceeds(None) is not agree
    assert difference.exceeds(0.5) is not agree
