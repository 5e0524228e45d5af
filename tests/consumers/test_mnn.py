"""What is known of MNN without it: convolutions over one axis, and the nets that are refused."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from support import CASES, assert_close, recorded, run_onnx

import caffe2torch
from caffe2torch.consumers import consumer
from caffe2torch.consumers._convert import refuse_unread
from caffe2torch.io.arrays import ignore


def written(case: str, path: Path, name: str = "mnn") -> caffe2torch.Graph:
    """The case as it is written for the consumer."""
    weights = CASES / case / "net.caffemodel"
    graph = caffe2torch.read(weights if weights.exists() else None, CASES / case / "net.prototxt")
    chosen = consumer(name)
    chosen.write(graph, path, half=False, durable=False, progress=ignore, **chosen.form)
    return graph


@pytest.mark.parametrize("case", ["conv_1d", "deconv_1d"])
def test_convolutions_are_over_two_axes(case: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    refuse_unread(consumer("mnn"), written(case, path), path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    kernels = [a.ints for n in model.graph.node for a in n.attribute if a.name == "kernel_shape"]
    assert [len(kernel) for kernel in kernels] == [2]
    arrays = recorded(case)
    for name, value in run_onnx(model, arrays.inputs).items():
        assert_close(value, arrays.outputs[name])


@pytest.mark.parametrize(
    ("case", "cause"),
    [
        ("pool_max_mask", "its indices are wrong"),
        ("pool_max_stride_gt_kernel_empty", "a window without pixels"),
        ("pool_max_k3_s2_p1", None),
    ],
)
def test_pooling_that_it_does_otherwise(case: str, cause: str | None, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    graph = written(case, path)
    if cause is None:
        refuse_unread(consumer("mnn"), graph, path)
        return
    with pytest.raises(caffe2torch.ArtefactError, match=cause) as caught:
        refuse_unread(consumer("mnn"), graph, path)
    assert caught.value.layer == "pool1"


@pytest.mark.parametrize(
    ("layers", "cause"),
    [
        ('type: "Deconvolution" convolution_param { num_output: 3 kernel_size: 2 }', "three axes"),
        (
            'type: "Convolution" convolution_param { num_output: 3 kernel_size: 2 dilation: 2 }',
            "three axes",
        ),
        ('type: "Convolution" convolution_param { num_output: 3 kernel_size: 2 }', None),
    ],
)
def test_convolutions_over_three_axes(layers: str, cause: str | None, tmp_path: Path) -> None:
    sizes = "dim: 1 dim: 2 dim: 5 dim: 6 dim: 7"
    net = f"""
    layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {sizes} }} }} }}
    layer {{ name: "y" bottom: "x" top: "y" {layers} }}"""
    refused_or_not(net, cause, tmp_path / "net.onnx")


@pytest.mark.parametrize(("axis", "cause"), [(2, "for a channel's"), (1, None)])
def test_a_bias_after_a_convolution(axis: int, cause: str | None, tmp_path: Path) -> None:
    net = f"""
    layer {{ name: "x" type: "Input" top: "x"
      input_param {{ shape {{ dim: 1 dim: 2 dim: 3 dim: 4 }} }} }}
    layer {{ name: "c" type: "Convolution" bottom: "x" top: "c"
      convolution_param {{ num_output: 3 kernel_size: 1 }} }}
    layer {{ name: "y" type: "Bias" bottom: "c" top: "y" bias_param {{ axis: {axis} }} }}"""
    refused_or_not(net, cause, tmp_path / "net.onnx")


def refused_or_not(net: str, cause: str | None, path: Path) -> None:
    with pytest.warns(caffe2torch.Caffe2TorchWarning):
        graph = caffe2torch.read(None, net.encode(), allow_missing=True)
    mnn = consumer("mnn")
    mnn.write(graph, path, half=False, durable=False, progress=ignore, **mnn.form)
    if cause is None:
        refuse_unread(mnn, graph, path)
        return
    with pytest.raises(caffe2torch.ArtefactError, match=cause) as caught:
        refuse_unread(mnn, graph, path)
    assert caught.value.layer == "y"
