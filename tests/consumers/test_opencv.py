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


@pytest.mark.parametrize(("case", "told"), [("ssd_mini_ssd", True), ("net_resnet_block", False)])
def test_advice_on_boxes_is_for_nets_with_boxes(case: str, told: bool, tmp_path: Path) -> None:
    result = convert(case, tmp_path / "net.onnx", "opencv5")
    assert result.exit_code == 0, result.output
    assert ("keeps the number of boxes" in result.output) is told


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


def test_slopes_that_a_node_makes_are_parts(tmp_path: Path) -> None:
    # OpenCV 5.0 computes such a PRelu over the mean of another branch.
    x = np.random.default_rng(0).normal(size=(3, 3, 4, 7)).astype(np.float32)
    model = one_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2, 3]),
            helper.make_node("Reshape", ["slopes", "sizes"], ["s"]),
            helper.make_node("PRelu", ["x", "s"], ["y"]),
        ],
        x.shape,
        {"slopes": np.array([0.25, 0.5, -2], np.float32), "sizes": np.array([-1, 1, 1])},
        ["m", "y"],
    )
    assert_same_after_rewrite(model, x, tmp_path)
    assert "PRelu" not in {node.op_type for node in model.graph.node}


def test_several_axes_are_added_one_by_one(tmp_path: Path) -> None:
    x = np.array([1, 2, 3], np.float32)
    axes = {"axes": np.array([1, 2])}
    nodes = [helper.make_node("Unsqueeze", ["x", "axes"], ["y"])]
    model = one_graph(nodes, x.shape, axes, ["y"])
    assert_same_after_rewrite(model, x, tmp_path)
    assert len(model.graph.node) == 2


def test_a_window_over_a_constant_is_refused() -> None:
    nodes = [
        helper.make_node("Expand", ["one", "sizes"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["y"], kernel_shape=[2, 2]),
    ]
    constants = {"one": np.array(1, np.float32), "sizes": np.array([1, 2, 3, 4])}
    model = one_graph(nodes, (1,), constants, ["y"])
    (doubt,) = consumer("opencv5").doubts(model)
    assert doubt.node.op_type == "MaxPool"
    assert "of a constant" in doubt.why


@pytest.mark.parametrize(
    ("name", "refused"), [("opencv5", 1), ("openvino", 1), ("tvm", 1), ("tract", 0), ("web", 0)]
)
def test_a_convolution_over_four_axes(name: str, refused: int) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 1, 1, 1])]
    weights = {"w": np.ones((2, 2, 1, 1, 1, 1), np.float32)}
    model = one_graph(nodes, (1, 2, 3, 4, 5, 6), weights, ["y"])
    assert len(list(consumer(name).doubts(model))) == refused


def one_graph(
    nodes: list[onnx.NodeProto],
    shape: tuple[int, ...],
    constants: dict[str, np.ndarray],
    outputs: list[str],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def assert_same_after_rewrite(model: onnx.ModelProto, x: np.ndarray, folder: Path) -> None:
    path = folder / "net.onnx"
    onnx.save(model, path)
    expected = run_onnx(onnx_session(path), x)
    consumer("opencv5").rewrite(model)
    onnx.save(model, path)
    assert not list(consumer("opencv5").doubts(model))
    for name, value in run_onnx(onnx_session(path), x).items():
        np.testing.assert_array_equal(value, expected[name])
