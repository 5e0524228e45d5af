"""The ONNX forms that every reader reads: what the recorded nets are written with, and without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
import pytest
from golden import Case
from onnx import numpy_helper
from support import CASE_NAMES, CASES, onnx_session, run_onnx

from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.passes.draft import State
from caffe2torch.pipeline import build_graph

ELSEWHERE_WRONG = {
    "Compress": "tract and TensorRT have none",
    "GatherND": "OpenCV 5.0 makes something else of it",
    "ReduceL1": "OpenVINO keeps the axis",
}


def test_no_form_that_a_reader_is_known_to_read_otherwise() -> None:
    found = []
    for name in CASE_NAMES:
        case = Case(CASES / name)
        if not case.refused_by_caffe and (graph := case.read()).outputs:
            found += [f"{name}: {line}" for line in doubts(to_onnx(graph).skeleton)]
    assert not found, "\n".join(found)


def doubts(model: onnx.ModelProto) -> Iterator[str]:
    constants = {i.name: i for i in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        given = {a.name: a for a in node.attribute}
        if node.op_type in ELSEWHERE_WRONG:
            yield f"{node.name}: {ELSEWHERE_WRONG[node.op_type]}"
        if node.input and not node.input[-1]:
            yield f"{node.name}: its last input is empty"
        if node.op_type.startswith(("Reduce", "ArgM")) and "keepdims" not in given:
            yield f"{node.name}: no keepdims"
        if (
            node.op_type == "NonMaxSuppression"
            and numpy_helper.to_array(constants[node.input[4]]) < 0
        ):
            yield f"{node.name}: a negative threshold"
        if node.op_type == "LRN" and 0 < given["bias"].f != int(given["bias"].f):
            yield f"{node.name}: a fraction, of which OpenVINO takes the whole part"
        if node.op_type == "Conv" and any(
            d > 1 == k
            for k, d in zip(given["kernel_shape"].ints, given["dilations"].ints, strict=True)
        ):
            yield f"{node.name}: a kernel of one pixel that is dilated, where OpenVINO crashes"
        if node.op_type == "Conv" and set(given["kernel_shape"].ints) == {1}:
            before = made_by.get(node.input[0])
            if any(given["pads"].ints) or (before is not None and before.op_type == "Pad"):
                yield f"{node.name}: a padded 1x1 convolution"
    for info in model.graph.value_info:
        if any(not dim.HasField("dim_value") for dim in info.type.tensor_type.shape.dim):
            yield f"{info.name}: declared with a free size"
    if not (model.graph.name and model.producer_version and model.doc_string):
        yield "it does not say what it is"


def built(text: str, *shape: int) -> onnx.ModelProto:
    dims = "".join(f"dim: {n} " for n in shape)
    net = f'layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}'
    graph = build_graph(parse_prototxt(net + text, "net"), None, State("TEST"))
    rng = np.random.default_rng(3)
    params = {k: rng.standard_normal(a.shape).astype(np.float32) for k, a in graph.params.items()}
    return complete(to_onnx(replace(graph, params=params)))


def test_a_size_that_no_input_changes_is_a_constant() -> None:
    model = built(
        'layer { name: "a" type: "ArgMax" bottom: "x" top: "y" argmax_param { axis: 1 } }', 2, 5
    )
    assert {node.op_type for node in model.graph.node} == {"ReduceMax", "Equal", "Where"}
    values = [numpy_helper.to_array(i) for i in model.graph.initializer]
    assert any(np.array_equal(value, [[0, 1, 2, 3, 4]]) for value in values)


def test_a_size_of_the_batch_is_computed() -> None:
    model = built(
        'layer { name: "a" type: "ArgMax" bottom: "x" top: "y" argmax_param { axis: 0 } }', 2, 5
    )
    assert "Shape" in {node.op_type for node in model.graph.node}
    x = np.array([[1, 0, 3], [1, 2, 3], [0, 2, 1], [-1, 2, 4]], np.float32)
    np.testing.assert_array_equal(run_onnx(model, x[:, [0, 1, 2, 0, 0]])["y"], [[1, 3, 3, 1, 1]])


@pytest.mark.parametrize("top_k", [1, 3, 8, 9])
def test_of_equal_values_the_last_comes_first(top_k: int) -> None:
    x = np.random.default_rng(5).integers(0, 4, (2, 12, 3)).astype(np.float32)
    model = built(
        'layer { name: "a" type: "ArgMax" bottom: "x" top: "y" '
        f"argmax_param {{ axis: 1 top_k: {top_k} }} }}",
        *x.shape,
    )
    best = np.lexsort((np.arange(12)[None, :, None] + 0 * x, x), axis=1)[:, ::-1][:, :top_k]
    np.testing.assert_array_equal(run_onnx(model, x)["y"], best)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_a_padded_convolution_of_single_pixels(stride: int, bias: bool) -> None:
    text = f"""layer {{ name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param {{
        num_output: 4 kernel_size: 1 pad_h: 1 pad_w: 2 stride: {stride}
        bias_term: {str(bias).lower()} }} }}"""
    model = built(text, 2, 3, 5, 7)
    assert onnx_session(model).get_outputs()[0].shape[0] == "N"
    x = np.random.default_rng(7).standard_normal((2, 3, 5, 7)).astype(np.float32)
    arrays = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (2, 2)])[:, :, ::stride, ::stride]
    expected = np.einsum("oc,nchw->nohw", arrays["c.weight"][:, :, 0, 0], padded)
    if bias:
        expected += arrays["c.bias"][:, None, None]
    np.testing.assert_allclose(run_onnx(model, x)["y"], expected, atol=1e-6)


def test_one_column_by_a_stride_of_one_channel() -> None:
    text = """layer { name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param {
        num_output: 4 kernel_h: 3 kernel_w: 4 stride_h: 1 stride_w: 3 pad_h: 0 pad_w: 1
        bias_term: false } }"""
    model = built(text, 2, 1, 5, 3)
    (conv,) = (node for node in model.graph.node if node.op_type == "Conv")
    assert [1, 1] in [list(a.ints) for a in conv.attribute if a.name == "strides"]
    x = np.random.default_rng(7).standard_normal((2, 1, 5, 3)).astype(np.float32)
    (weight,) = (numpy_helper.to_array(i) for i in model.graph.initializer if i.name == "c.weight")
    padded = np.pad(x, [(0, 0), (0, 0), (0, 0), (1, 1)])[..., :4]
    rows = np.stack([padded[:, 0, i : i + 3] for i in range(3)], axis=1)
    expected = np.einsum("okl,nikl->noi", weight[:, 0], rows)[..., None]
    np.testing.assert_allclose(run_onnx(model, x)["y"], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 5, 4)])
def test_a_slope_a_channel(shape: tuple[int, ...]) -> None:
    text = 'layer { name: "slope" type: "PReLU" bottom: "x" top: "y" }'
    model = built(text, *shape)
    assert ("PRelu" in {node.op_type for node in model.graph.node}) == (len(shape) == 4)
    x = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
    (slope,) = (
        numpy_helper.to_array(i) for i in model.graph.initializer if i.name == "slope.weight"
    )
    slope = slope.reshape(-1, *[1] * (len(shape) - 2))
    np.testing.assert_allclose(run_onnx(model, x)["y"], np.where(x > 0, x, slope * x), atol=1e-6)
