"""Folding into convolutions and inner products: fewer layers, the same blobs, in both lowerings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import assert_close, run_onnx

import caffe2torch
from caffe2torch.graph import FloatArray, Graph
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.passes.draft import BlobSource, Options, State
from caffe2torch.pipeline import build_graph, restore_graph, with_params
from caffe2torch.rewrites.fuse import fuse

HEAD = 'layer { name: "data" type: "Input" top: "data" input_param { shape { %s } } }\n'
IMAGE = HEAD % "dim: 2 dim: 4 dim: 7 dim: 6"
ROW = HEAD % "dim: 2 dim: 4"


def layer(name: str, kind: str, bottom: str, top: str, param: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {param} }}\n'


def conv(bottom: str, top: str, more: str = "", kind: str = "Convolution") -> str:
    parameters = f"convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 {more} }}"
    return layer(top, kind, bottom, top, parameters)


def linear(bottom: str, top: str, more: str = "") -> str:
    return layer(
        top, "InnerProduct", bottom, top, f"inner_product_param {{ num_output: 4 {more} }}"
    )


NORM = layer("bn", "BatchNorm", "c", "c")
SCALE = layer("scale", "Scale", "c", "c", "scale_param { bias_term: true }")
RELU = layer("relu", "ReLU", "c", "c")
OTHER_PATH = layer("abs", "AbsVal", "c", "abs")

FOLDED = {
    "batch_norm_and_scale_in_place": IMAGE + conv("data", "c") + NORM + SCALE + RELU,
    "no_bias": IMAGE + conv("data", "c", "bias_term: false") + NORM + SCALE,
    "tops_of_their_own": IMAGE
    + conv("data", "a")
    + layer("b", "BatchNorm", "a", "b")
    + layer("c", "Scale", "b", "c", "scale_param { bias_term: false }")
    + RELU,
    "grouped": IMAGE + conv("data", "c", "group: 2") + NORM,
    "depthwise": IMAGE + conv("data", "c", kind="DepthwiseConvolution") + NORM + SCALE,
    "inner_product": ROW + linear("data", "c") + NORM + SCALE,
    "inner_product_transposed": ROW
    + linear("data", "c", "transpose: true bias_term: false")
    + NORM,
    "bias_and_power": IMAGE
    + conv("data", "c")
    + layer("bias", "Bias", "c", "c")
    + layer("power", "Power", "c", "c", "power_param { scale: -1.5 shift: 0.25 }"),
    "fork_bn": IMAGE + conv("data", "c") + layer("bn", "BN", "c", "c", "bn_param { frozen: true }"),
    "dropout": IMAGE + conv("data", "c") + layer("drop", "Dropout", "c", "d"),
    "dropout_after_a_pool": IMAGE
    + layer("c", "Pooling", "data", "c", "pooling_param { kernel_size: 2 }")
    + layer("drop", "Dropout", "c", "d"),
    "dropout_that_scales": IMAGE
    + conv("data", "c")
    + layer("drop", "Dropout", "c", "d", "dropout_param { scale_train: false }"),
    "nvidia_batch_norm": IMAGE
    + conv("data", "c")
    + layer("bn", "BatchNorm", "c", "c", "batch_norm_param { scale_bias: true }"),
    "dropout_before_scale": IMAGE + conv("data", "c") + layer("drop", "Dropout", "c", "c") + SCALE,
    "read_after_it": IMAGE
    + conv("data", "c")
    + NORM
    + OTHER_PATH
    + layer("relu", "ReLU", "c", "r"),
}
KEPT = {
    "dropout_that_scales_after_a_pool": IMAGE
    + layer("c", "Pooling", "data", "c", "pooling_param { kernel_size: 2 }")
    + layer("drop", "Dropout", "c", "d", "dropout_param { scale_train: false }"),
    "read_before_it": IMAGE + conv("data", "c") + OTHER_PATH + layer("bn", "BatchNorm", "c", "b"),
    "statistics_of_the_batch": IMAGE
    + conv("data", "c")
    + layer("bn", "BatchNorm", "c", "c", "batch_norm_param { use_global_stats: false }"),
    "scale_of_a_blob": IMAGE
    + conv("data", "c")
    + layer("s", "Scale", "c", "s", 'bottom: "data" scale_param { axis: 0 }'),
    "scale_of_pixels": IMAGE
    + conv("data", "c")
    + layer("s", "Scale", "c", "c", "scale_param { num_axes: 2 }"),
    "scale_of_rows": IMAGE
    + conv("data", "c")
    + layer("s", "Scale", "c", "c", "scale_param { axis: 2 }"),
    "dropout_after_a_change_in_place": IMAGE
    + conv("data", "c")
    + RELU
    + layer("drop", "Dropout", "c", "d"),
    "values_of_no_bottom": IMAGE
    + 'layer { name: "p" type: "Parameter" top: "p" '
    + "parameter_param { shape { dim: 4 } } }\n"
    + layer("c", "Scale", "data", "c", 'bottom: "p"')
    + NORM,
    "power_of_two": IMAGE
    + conv("data", "c")
    + layer("p", "Power", "c", "c", "power_param { power: 2 }"),
    "after_a_pool": IMAGE
    + layer("c", "Pooling", "data", "c", "pooling_param { kernel_size: 2 }")
    + NORM,
    "channel_axis_2": IMAGE + conv("data", "c", "axis: 2") + NORM,
    "inner_product_of_rows": IMAGE + linear("data", "c", "axis: 3") + NORM,
    "shared_weights": IMAGE
    + conv("data", "c").replace("convolution_param", 'param { name: "w" } convolution_param')
    + NORM
    + conv("c", "e").replace("convolution_param", 'param { name: "w" } convolution_param'),
}


def graph_of(text: str, phase: str = "TEST") -> Graph:
    """The net with random weights; variances are positive."""
    graph = build_graph(parse_prototxt(text, "the test's net"), None, State(phase))
    rng = np.random.default_rng(0)

    def values(key: str, array: FloatArray) -> FloatArray:
        random = rng.standard_normal(array.shape).astype(np.float32)
        return np.abs(random) + np.float32(0.1) if key.endswith("_var") else random

    params = {key: values(key, array) for key, array in graph.params.items()}
    return with_params(graph, params)


FUSED = 1e-5
"""Of the peak: folding rounds each weight once more."""


def blobs_of(graph: Graph, batch: int) -> dict[str, FloatArray]:
    shape = graph.inputs[0].shape
    x = np.random.default_rng(1).standard_normal((batch, *shape[1:])).astype(np.float32)
    with torch.no_grad():
        blobs = to_torch(graph).eval().blobs(torch.from_numpy(x))
    return {name: tensor.numpy() for name, tensor in blobs.items()}


def assert_same(graph: Graph, fused: Graph) -> None:
    expected, shown = blobs_of(graph, 3), blobs_of(fused, 3)
    assert set(shown) <= set(expected)
    for name, value in shown.items():
        assert_close(value, expected[name], FUSED, what=name)


@pytest.mark.parametrize("name", FOLDED)
def test_folded(name: str) -> None:
    graph = graph_of(FOLDED[name])
    fused = fuse(graph)
    left = {node.layer.type for node in fused.nodes}
    assert not left & {"BatchNorm", "Scale", "Bias", "BN", "Power", "Dropout"}
    assert fused.outputs == graph.outputs
    assert_same(graph, fused)


@pytest.mark.parametrize("name", KEPT)
def test_kept(name: str) -> None:
    graph = graph_of(KEPT[name])
    fused = fuse(graph)
    assert len(fused.nodes) == len(graph.nodes)
    assert_same(graph, fused)


@pytest.mark.parametrize("name", FOLDED)
def test_onnx(name: str) -> None:
    graph = graph_of(FOLDED[name])
    expected = blobs_of(graph, 3)
    outputs = run_onnx(complete(to_onnx(fuse(graph))), {"data": expected["data"]})
    for blob, value in zip(graph.outputs, outputs.values(), strict=True):
        assert_close(value, expected[blob], FUSED)


def test_names_of_the_blobs_that_stay() -> None:
    fused = fuse(graph_of(FOLDED["tops_of_their_own"]))
    assert list(fused.blobs) == ["data", "c"]
    assert [node.layer.type for node in fused.nodes] == ["Convolution", "ReLU"]


def test_fused_definition_reads_back() -> None:
    fused = fuse(graph_of(FOLDED["no_bias"]))
    net = parse_prototxt(fused.definition, "the definition")
    again = restore_graph(net, fused.params, phase="TEST")
    assert again.nodes == fused.nodes


def test_phase_train_is_refused() -> None:
    graph = graph_of(FOLDED["no_bias"], "TRAIN")
    with pytest.raises(caffe2torch.NetError, match="phase TRAIN cannot be fused"):
        fuse(graph)


@pytest.mark.parametrize("bias", ["bias_term: false", ""])
@pytest.mark.parametrize("field", ["convolution3d_param", "convolution_param"])
def test_a_convolution_over_time_takes_what_follows(bias: str, field: str) -> None:
    net = parse_prototxt(
        'layer { name: "i" type: "Input" top: "x" input_param { shape { '
        "dim: 2 dim: 3 dim: 4 dim: 5 dim: 6 } } }"
        f'layer {{ name: "c" type: "Convolution3D" bottom: "x" top: "c" {field} {{ '
        f"num_output: 4 kernel_size: 3 kernel_depth: 2 {bias} "
        'weight_filler { type: "gaussian" std: 1 } } }'
        'layer { name: "bn" type: "Scale" bottom: "c" top: "y" scale_param { bias_term: true '
        'filler { type: "constant" value: 3 } bias_filler { type: "constant" value: 2 } } }'
    )
    graph = build_graph(net, BlobSource(), State("TEST"), Options(allow_missing=True))
    fused = fuse(graph)
    assert [node.proto.type for node in fused.nodes] == ["Convolution3D"]
    x = torch.randn(2, 3, 4, 5, 6, generator=torch.manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(to_torch(fused)(x), to_torch(graph)(x), rtol=1e-4, atol=1e-4)
    again = parse_prototxt(fused.definition)
    assert build_graph(again, BlobSource(), State("TEST"), Options(allow_missing=True)).nodes
