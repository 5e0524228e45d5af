"""`convert --for opencv5`: a file that OpenCV runs rightly, or none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from support import CASES, onnx_session, recorded, run_onnx

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.opencv.check import check_onnx


def arguments(case: str, output: Path) -> list[str]:
    folder = CASES / case
    files = ["--prototxt", str(folder / "net.prototxt")]
    return ["convert", str(folder / "net.caffemodel"), str(output), *files, "--for", "opencv5"]


@pytest.mark.parametrize("case", ["net_squeezenet_v1_0", "net_squeezenet_v1_1", "net_resnet_block"])
def test_a_checked_file_runs_in_opencv(case: str, tmp_path: Path) -> None:
    output = tmp_path / "net.onnx"
    result = CliRunner().invoke(main, arguments(case, output))
    assert result.exit_code == 0, result.output
    assert f"OpenCV {cv2.__version__} runs it as ONNX Runtime does" in result.output
    net = cv2.dnn.readNetFromONNX(str(output))
    arrays = recorded(case)
    (data,), (expected,) = arrays.inputs.values(), arrays.outputs.values()
    net.setInput(data)
    np.testing.assert_allclose(net.forward(), expected, rtol=1e-3, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_net_that_opencv_cannot_run_leaves_no_file(tmp_path: Path) -> None:
    output = tmp_path / "ssd.onnx"
    result = CliRunner().invoke(main, arguments("ssd_mini_ssd", output))
    assert result.exit_code == 2
    assert f"OpenCV {cv2.__version__} does not run this net rightly as ONNX: " in result.output
    assert "caffe2torch.opencv.readNetFromCaffe" in result.output
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_stays_if_the_check_fails(tmp_path: Path) -> None:
    output = tmp_path / "ssd.onnx"
    output.write_bytes(b"before")
    assert CliRunner().invoke(main, arguments("ssd_mini_ssd", output)).exit_code == 2
    assert output.read_bytes() == b"before"


def test_only_onnx_files_are_for_opencv(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, arguments("net_squeezenet_v1_1", tmp_path / "net.pt"))
    assert result.exit_code == 2
    assert "OpenCV reads .onnx files" in result.output


def test_inputs_that_are_indices_cannot_be_checked(tmp_path: Path) -> None:
    case = CASES / "embed_bias"
    path = caffe2torch.convert(
        case / "net.caffemodel", tmp_path / "net.onnx", case / "net.prototxt"
    )
    with pytest.raises(caffe2torch.ArtefactError, match="cannot be checked on random numbers"):
        check_onnx(path)


@pytest.mark.parametrize("case", ["tanh", "bnll"])
def test_large_values_stay_finite(case: str, tmp_path: Path) -> None:
    # OpenCV 5.0 has NaN for tanh above 44, and both have infinity for log(1 + exp(x)) above 89.
    path = caffe2torch.convert(None, tmp_path / "net.onnx", CASES / case / "net.prototxt")
    session = onnx_session(path)
    (data,) = session.get_inputs()
    shape = [3 if isinstance(size, str) else size for size in data.shape]
    x = np.linspace(-200, 200, int(np.prod(shape))).astype(np.float32).reshape(shape)
    expected = np.tanh(x) if case == "tanh" else np.logaddexp(x, 0)
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(x)
    for value in (net.forward(), *run_onnx(session, x).values()):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
