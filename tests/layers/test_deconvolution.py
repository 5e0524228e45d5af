from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error
from spatial_oracles import deconvolution

from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.layers.deconvolution import Deconvolution
from caffe2torch.lower.eager import module_of


def layer(param: str) -> str:
    return f'type: "Deconvolution" convolution_param {{ {param} }}'


def resolved(param: str) -> Any:
    net = parse_prototxt(f'layer {{ name: "l" {layer(param)} bottom: "b0" top: "t0" }}')
    return Deconvolution.from_proto(net.layer[0])


@pytest.mark.parametrize(
    ("param", "shape", "kernel", "stride", "pad", "dilation", "group"),
    [
        ("kernel_size: 3", (2, 3, 5, 7), (3, 3), (1, 1), (0, 0), (1, 1), 1),
        (
            "kernel_h: 2 kernel_w: 5 stride_h: 3 stride_w: 2 pad_h: 0 pad_w: 3",
            (2, 3, 5, 4),
            (2, 5),
            (3, 2),
            (0, 3),
            (1, 1),
            1,
        ),
        ("kernel_size: 3 dilation: 0 stride: 2", (2, 3, 5, 4), (3, 3), (2, 2), (0, 0), (0, 0), 1),
        ("kernel_size: 3 dilation: 2 dilation: 1", (2, 3, 5, 4), (3, 3), (1, 1), (0, 0), (2, 1), 1),
        (
            "kernel_size: 4 stride: 2 pad: 1 group: 3",
            (2, 6, 3, 5),
            (4, 4),
            (2, 2),
            (1, 1),
            (1, 1),
            3,
        ),
        ("kernel_size: 1 stride: 3", (2, 3, 3, 2), (1, 1), (3, 3), (0, 0), (1, 1), 1),
        ("kernel_size: 3 stride: 2 pad: 1", (2, 3, 7), (3,), (2,), (1,), (1,), 1),
        ("kernel_size: 2 stride: 2", (2, 3, 3, 2, 5), (2,) * 3, (2,) * 3, (0,) * 3, (1,) * 3, 1),
    ],
)
def test_windows(param, shape, kernel, stride, pad, dilation, group):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    weight = rng.standard_normal((shape[1], 6 // group, *kernel))
    bias = rng.standard_normal(6)
    y = deconvolution(x, weight, bias, stride, pad, dilation, group)
    check_layer(layer(f"num_output: 6 {param}"), [x], [y], [weight, bias])


def test_four_spatial_axes():
    rng = np.random.default_rng(1)
    x, weight = rng.standard_normal((2, 4, 2, 3, 1, 2)), rng.standard_normal((4, 1, 2, 1, 3, 2))
    bias = rng.standard_normal(2)
    window = (2, 1, 1, 2), (1, 0, 0, 0), (1, 1, 1, 1)
    y = deconvolution(x, weight, bias, *window, group=2)
    repeated = "".join(f"kernel_size: {k} " for k in (2, 1, 3, 2))
    repeated += "".join(f"stride: {s} pad: {p} " for s, p in zip(*window[:2], strict=True))
    check_layer(layer(f"num_output: 2 group: 2 {repeated}"), [x], [y], [weight, bias])


def test_axes_before_the_channels_are_batch():
    rng = np.random.default_rng(2)
    x, weight = rng.standard_normal((2, 5, 3, 4)), rng.standard_normal((3, 2, 3))
    y = deconvolution(x.reshape(10, 3, 4), weight, None, (2,), (1,), (1,))
    param = "num_output: 2 axis: 2 kernel_size: 3 stride: 2 pad: 1 bias_term: false"
    check_layer(layer(param), [x], [y.reshape(2, 5, *y.shape[1:])], [weight])


def test_no_spatial_axis_is_a_matrix_product():
    rng = np.random.default_rng(3)
    x, weight, bias = (rng.standard_normal(s) for s in ((5, 3), (3, 2), (2,)))
    check_layer(layer("num_output: 2 kernel_size: 1"), [x], [x @ weight + bias], [weight, bias])


def test_bottoms_share_the_learned_blobs():
    rng = np.random.default_rng(4)
    xs = [rng.standard_normal((2, 3, 5, 2)) for _ in range(2)]
    weight, bias = rng.standard_normal((3, 2, 2, 2)), rng.standard_normal(2)
    ys = [deconvolution(x, weight, bias, (2, 2), (0, 0), (1, 1)) for x in xs]
    check_layer(layer("num_output: 2 kernel_size: 2 stride: 2"), xs, ys, [weight, bias])


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_usual_deconvolution_is_torchs_own_module(axes):
    module = module_of(resolved("num_output: 2 kernel_size: 3"), [(2, 3, *(9, 8, 7)[:axes])])
    assert type(module).__name__ == f"ConvTranspose{axes}d"


def test_multiply_adds():
    bottoms = [(2, 4, 5, 7)]
    deconvolution_layer = resolved("num_output: 6 kernel_h: 2 kernel_w: 3 group: 2")
    tops = deconvolution_layer.infer_shapes(bottoms)
    assert deconvolution_layer.multiply_adds(bottoms, tops) == (2 * 4 * 5 * 7) * (3 * 2 * 3)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("num_output: 2", "kernel_size: 0 values for 2 spatial axes"),
        ("num_output: 2 kernel_size: 2 pad: 5", "the top would be (-4, -2)"),
        ("num_output: 4 kernel_size: 2 group: 2", "3 channels are not divisible by 2"),
    ],
)
def test_what_caffe_refuses(param, message):
    assert message in str(layer_error(layer(param), [(2, 3, 5, 7)]))
