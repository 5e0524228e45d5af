"""`convert --for opencv4`: a file that the installed OpenCV runs rightly, or none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper
from support import CASES, onnx_session, recorded, run_onnx

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.consumers import consumer

HERE = f"opencv{cv2.__version__.split('.')[0]}"
ELSEWHERE = {"opencv4": "opencv5", "opencv5": "opencv4"}[HERE]


def convert(case: str, output: Path, consumer: str = HERE) -> Result:
    folder = CASES / case
    files = [str(folder / "net.caffemodel"), str(output)]
    net = ["--prototxt", str(folder / "net.prototxt")]
    return CliRunner().invoke(main, ["convert", *files, *net, "--for", consumer])


@pytest.mark.parametrize("case", ["net_squeezenet_v1_0", "net_squeezenet_v1_1", "net_resnet_block"])
def test_a_checked_file_runs_in_opencv(case: str, tmp_path: Path) -> None:
    output = tmp_path / "net.onnx"
    result = convert(case, output)
    assert result.exit_code == 0, result.output
    assert f" {cv2.__version__} runs it as ONNX Runtime does" in result.output
    net = cv2.dnn.readNetFromONNX(str(output))
    arrays = recorded(case)
    (data,), (expected,) = arrays.inputs.values(), arrays.outputs.values()
    net.setInput(data)
    np.testing.assert_allclose(net.forward(), expected, rtol=1e-3, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.skipif(HERE != "opencv4", reason="OpenCV 5 runs SSD nets")
def test_a_net_that_opencv_cannot_run_leaves_no_file(tmp_path: Path) -> None:
    output = tmp_path / "ssd.onnx"
    result = convert("ssd_mini_ssd", output)
    assert result.exit_code == 2
    assert f"OpenCV 4 {cv2.__version__} does not run this net rightly: " in result.output
    assert list(tmp_path.iterdir()) == []
    output.write_bytes(b"before")
    assert convert("ssd_mini_ssd", output).exit_code == 2
    assert output.read_bytes() == b"before"


def test_only_onnx_files_are_for_opencv(tmp_path: Path) -> None:
    result = convert("net_squeezenet_v1_1", tmp_path / "net.pt")
    assert result.exit_code == 2
    assert "is given .onnx files" in result.output


@pytest.mark.skipif(HERE == "opencv4", reason="OpenCV 4 is installed")
def test_what_only_a_run_can_tell_is_refused_without_one(tmp_path: Path) -> None:
    result = convert("net_squeezenet_v1_1", tmp_path / "net.onnx", "opencv4")
    assert result.exit_code == 2
    assert "OpenCV 4 is not installed here" in result.output


def test_inputs_that_are_indices_are_within_the_table(tmp_path: Path) -> None:
    result = convert("embed_bias", tmp_path / "net.onnx")
    assert "indices element out of data bounds" not in result.output


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


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([5, 1, 14], [0, -1], [5, -1]),
        ([-1, 2], [0, -1], [-1, 2]),
        ([5, -1, 2], [0, 0, 2], [5, -1, 2]),
        ([0, -1], [0, 2, -1], [0, 2, -1]),
    ],
)
def test_sizes_that_follow_a_reshape_are_said(
    first: list[int], second: list[int], said: list[int]
) -> None:
    model = two_reshapes(first, second)
    chosen = consumer("opencv5")
    chosen.rewrite(model)
    constants = {i.name: numpy_helper.to_array(i).tolist() for i in model.graph.initializer}
    assert constants[model.graph.node[1].input[1]] == said
    assert not list(chosen.doubts(model))


def test_a_size_that_cannot_be_said_is_refused() -> None:
    model = two_reshapes([0, -1, 2], [0, 0, -1])
    chosen = consumer("opencv5")
    chosen.rewrite(model)
    (doubt,) = chosen.doubts(model)
    assert "leaves out the Reshape before" in doubt.why


def two_reshapes(first: list[int], second: list[int]) -> onnx.ModelProto:
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "first"], ["y"]),
            helper.make_node("Reshape", ["y", "second"], ["z"]),
        ],
        "two",
        [helper.make_tensor_value_info("x", 1, None)],
        [helper.make_tensor_value_info("z", 1, None)],
        [
            numpy_helper.from_array(np.array(first), "first"),
            numpy_helper.from_array(np.array(second), "second"),
        ],
    )
    return helper.make_model(graph)
