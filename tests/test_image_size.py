"""ONNX files of nets whose image is declared 1 x 1, as one set at run time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import OF_LAYER, assert_close, genuine, onnx_session, run_onnx

import caffe2torch
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.lower.to_torch import to_torch

pytestmark = pytest.mark.filterwarnings("ignore::caffe2torch.Caffe2TorchWarning")
"""The weights are the fillers'."""

INPUT = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 1 dim: 1 } } }
"""
CONVOLUTION = """
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 5
  kernel_size: 3 pad: 1 weight_filler { type: "gaussian" } } }
"""


def pooling(param: str) -> str:
    return f'layer {{ name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param {{ {param} }} }}'


def read(*layers: str) -> caffe2torch.Graph:
    text = "\n".join([INPUT, CONVOLUTION, *layers])
    return caffe2torch.read(prototxt=text.encode(), allow_missing=True)


@pytest.mark.parametrize(
    "param",
    [
        "kernel_size: 2 stride: 2",
        "kernel_size: 3 stride: 2 pad: 1",
        "kernel_size: 3 stride: 1 pad: 2",
        "kernel_size: 5 stride: 3 pad: 1",
        "kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR",
        "global_pooling: true pool: AVE",
    ],
)
def test_images_of_any_size_are_as_in_torch(param: str) -> None:
    graph = read(pooling(param))
    module, session = to_torch(graph), onnx_session(complete(to_onnx(graph)))
    assert session.get_inputs()[0].shape == ["N", 3, None, None]
    rng = np.random.default_rng(0)
    for height in range(3, 14):
        for width in (3, 8, 11):
            x = rng.standard_normal((2, 3, height, width)).astype(np.float32)
            with torch.no_grad():
                expected = module(torch.from_numpy(x)).numpy()
            assert_close(run_onnx(session, x)["p"], expected, OF_LAYER, absolute=OF_LAYER)


@pytest.mark.parametrize(
    "layer",
    [
        pooling("kernel_size: 2 stride: 2 pool: AVE"),
        pooling("kernel_size: 2 stride: 3"),
        'layer { name: "p" type: "InnerProduct" bottom: "c" top: "p" '
        "inner_product_param { num_output: 2 } }",
    ],
)
def test_a_net_tied_to_the_size_keeps_the_declared_one(layer: str) -> None:
    session = onnx_session(complete(to_onnx(read(layer))))
    assert session.get_inputs()[0].shape == ["N", 3, 1, 1]


def test_the_net_of_an_openpose_style_takes_any_image() -> None:
    folder = genuine("SHARED", "faults", "fixed_hw")
    graph = caffe2torch.read(folder / "m_openpose.caffemodel", folder / "m_openpose.prototxt")
    x = np.random.default_rng(1).standard_normal((1, 3, 37, 50)).astype(np.float32)
    with torch.no_grad():
        expected = to_torch(graph)(torch.from_numpy(x)).numpy()
    assert_close(run_onnx(complete(to_onnx(graph)), x)["p"], expected, OF_LAYER)
