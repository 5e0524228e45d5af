from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error
from refusals import refusal
from spatial_oracles import convolution

from caffe2torch.errors import NetError
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.layers.convolution import Convolution
from caffe2torch.lower.eager import module_of

THREE_1, THREE_2, FOUR_1, FOUR_2 = (1,) * 3, (2,) * 3, (1,) * 4, (2,) * 4


def layer(param: str) -> str:
    return f'type: "Convolution" convolution_param {{ {param} }}'


def resolved(param: str, bottoms: int = 1) -> Any:
    names = "".join(f'bottom: "b{i}" top: "t{i}" ' for i in range(bottoms))
    net = parse_prototxt(f'layer {{ name: "l" {layer(param)} {names} }}')
    return Convolution.from_proto(net.layer[0])


@pytest.mark.parametrize(
    ("param", "shape", "kernel", "stride", "pad", "dilation", "group"),
    [
        ("kernel_size: 3", (2, 3, 5, 7), (3, 3), (1, 1), (0, 0), (1, 1), 1),
        (
            "kernel_h: 2 kernel_w: 3 stride_h: 3 stride_w: 2 pad_h: 2 pad_w: 1",
            (2, 3, 5, 7),
            (2, 3),
            (3, 2),
            (2, 1),
            (1, 1),
            1,
        ),
        (
            "kernel_size: 3 kernel_size: 2 stride: 2 pad: 0 pad: 3 dilation: 1 dilation: 2",
            (2, 4, 7, 5),
            (3, 2),
            (2, 2),
            (0, 3),
            (1, 2),
            1,
        ),
        ("kernel_size: 2 group: 3 pad: 1", (2, 6, 5, 7), (2, 2), (1, 1), (1, 1), (1, 1), 3),
        (
            "kernel_size: 3 stride_h: 2 stride_w: 1",
            (2, 3, 5, 7),
            (3, 3),
            (2, 1),
            (0,) * 2,
            (1,) * 2,
            1,
        ),
        ("kernel_size: 3 dilation: 0 pad: 1", (2, 3, 5, 7), (3, 3), (1, 1), (1, 1), (0, 0), 1),
        (
            "kernel_size: 2 kernel_size: 3 dilation: 2 dilation: 0 stride: 2 group: 3",
            (2, 3, 5, 7),
            (2, 3),
            (2, 2),
            (0, 0),
            (2, 0),
            3,
        ),
        ("kernel_size: 3 hole: 2", (2, 3, 5, 7), (3, 3), (1, 1), (0, 0), (2, 2), 1),
        ("kernel_size: 2 hole_h: 3 hole_w: 2", (2, 3, 5, 7), (2, 2), (1, 1), (0, 0), (3, 2), 1),
        ("kernel_size: 3 stride: 2 pad: 1", (2, 3, 7), (3,), (2,), (1,), (1,), 1),
        (
            "kernel_size: 2 stride: 2 pad: 1",
            (2, 3, 5, 2, 3),
            (2,) * 3,
            (2,) * 3,
            (1,) * 3,
            (1,) * 3,
            1,
        ),
        (
            "kernel_size: 2 pad: 1 group: 3",
            (2, 3, 2, 3, 2, 3),
            (2,) * 4,
            (1,) * 4,
            (1,) * 4,
            (1,) * 4,
            3,
        ),
    ],
)
def test_windows(param, shape, kernel, stride, pad, dilation, group):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    weight = rng.standard_normal((6, shape[1] // group, *kernel))
    bias = rng.standard_normal(6)
    y = convolution(x, weight, bias, stride, pad, dilation, group)
    check_layer(layer(f"num_output: 6 {param}"), [x], [y], [weight, bias])


@pytest.mark.parametrize(
    ("param", "shape", "size"),
    [
        ("kernel_size: 4 stride: 2", (2, 3, 3, 5), (1, 1)),
        ("kernel_h: 7 kernel_w: 2 stride_h: 4 stride_w: 1", (2, 3, 5, 7), (1, 6)),
        ("kernel_size: 3 dilation: 3 stride: 3", (2, 3, 5, 9), (1, 1)),
    ],
)
def test_kernel_that_exceeds_the_image_by_less_than_a_stride_has_one_position(param, shape, size):
    rng = np.random.default_rng(1)
    convolution_layer = resolved(f"num_output: 2 {param}")
    _, window = convolution_layer.resolved(shape)
    x, weight = rng.standard_normal(shape), rng.standard_normal((2, 3, *window.kernel))
    bias = rng.standard_normal(2)
    y = convolution(x, weight, bias, window.stride, window.pad, window.dilation)
    assert y.shape[2:] == size
    check_layer(layer(f"num_output: 2 {param}"), [x], [y], [weight, bias])


@pytest.mark.parametrize("axis", [2, -3])
def test_axes_before_the_channels_are_batch(axis):
    rng = np.random.default_rng(2)
    x, weight = rng.standard_normal((2, 5, 3, 7, 4)), rng.standard_normal((6, 3, 3, 2))
    y = convolution(x.reshape(10, 3, 7, 4), weight, None, (2, 1), (1, 0), (1, 1))
    window = "kernel_size: 3 kernel_size: 2 stride: 2 stride: 1 pad: 1 pad: 0"
    text = layer(f"num_output: 6 axis: {axis} {window} bias_term: false")
    check_layer(text, [x], [y.reshape(2, 5, *y.shape[1:])], [weight])


def test_axis_0_has_no_batch():
    rng = np.random.default_rng(3)
    x, weight, bias = (rng.standard_normal(s) for s in ((3, 5, 7), (2, 3, 3, 3), (2,)))
    (y,) = convolution(x[None], weight, bias, (1, 1), (0, 0), (1, 1))
    check_layer(layer("num_output: 2 axis: 0 kernel_size: 3"), [x], [y], [weight, bias])


@pytest.mark.parametrize("param", ["", "kernel_size: 5 stride: 3"])
def test_no_spatial_axis_is_a_matrix_product(param):
    rng = np.random.default_rng(4)
    x, weight, bias = (rng.standard_normal(s) for s in ((5, 6), (4, 3), (4,)))
    halves = [x[:, i * 3 : i * 3 + 3] @ weight[i * 2 : i * 2 + 2].T for i in (0, 1)]
    y = np.concatenate(halves, 1) + bias
    check_layer(layer(f"num_output: 4 group: 2 {param}"), [x], [y], [weight, bias])


def test_bottoms_share_the_learned_blobs():
    rng = np.random.default_rng(5)
    xs = [rng.standard_normal((2, 3, 5, 7)) for _ in range(3)]
    weight, bias = rng.standard_normal((2, 3, 3, 3)), rng.standard_normal(2)
    ys = [convolution(x, weight, bias, (1, 1), (1, 1), (1, 1)) for x in xs]
    check_layer(layer("num_output: 2 kernel_size: 3 pad: 1"), xs, ys, [weight, bias])


@pytest.mark.parametrize(
    ("shape", "name"),
    [((2, 3, 9), "Conv1d"), ((2, 3, 9, 8), "Conv2d"), ((2, 3, 9, 8, 7), "Conv3d")],
)
def test_usual_convolution_is_torchs_own_module(shape, name):
    module = module_of(resolved("num_output: 2 kernel_size: 3"), [shape])
    assert type(module).__name__ == name
    assert type(module).__module__ == "torch.nn.modules.conv"
    assert [n for n, _ in module.named_parameters()] == ["weight", "bias"]


def test_multiply_adds():
    convolution_layer = resolved("num_output: 6 kernel_h: 2 kernel_w: 3 group: 2", bottoms=2)
    bottoms = [(2, 4, 5, 7)] * 2
    tops = convolution_layer.infer_shapes(bottoms)
    assert tops == [(2, 6, 4, 5)] * 2
    assert convolution_layer.multiply_adds(bottoms, tops) == 2 * (2 * 6 * 4 * 5) * (2 * 2 * 3)


@pytest.mark.parametrize(
    ("param", "shape", "message"),
    [
        ("kernel_size: 3", (2, 3, 5, 7), "num_output: it must be given and positive"),
        ("num_output: 2", (2, 3, 5, 7), "kernel_size: 0 values for 2 spatial axes"),
        ("num_output: 2 kernel_size: 3 pad: 1 pad: 2", (2, 3, 5), "pad: 2 values for 1 spatial"),
        ("num_output: 2 kernel_h: 3", (2, 3, 5, 7), "kernel (3, 0) has a zero size"),
        ("num_output: 2 kernel_h: 3 kernel_w: 2", (2, 3, 5), "2 values for 1 spatial axes"),
        ("num_output: 2 kernel_size: 1 kernel_h: 3", (2, 3, 5, 7), "kernel_h/kernel_w are both"),
        ("num_output: 2 kernel_size: 1 stride: 0", (2, 3, 5, 7), "stride (0, 0) has a zero step"),
        ("num_output: 2 kernel_size: 1 stride_w: 2", (2, 3, 5, 7), "stride (0, 2) has a zero step"),
        ("num_output: 2 kernel_size: 1 hole: 2 dilation: 2", (2, 3, 5, 7), "write only one"),
        ("num_output: 3 kernel_size: 1 group: 2", (2, 4, 5, 7), "3 is not divisible by group 2"),
        (
            "num_output: 2 kernel_size: 1 group: 2",
            (2, 3, 5, 7),
            "3 channels are not divisible by 2",
        ),
        ("num_output: 2 kernel_size: 1 group: 0", (2, 3, 5, 7), "not divisible by group 0"),
        ("num_output: 2 kernel_size: 6", (2, 3, 5, 7), "the top would be (0, 2)"),
        ("num_output: 2 kernel_size: 9", (2, 3, 5, 7), "the top would be (-3, -1)"),
        ("num_output: 2 kernel_size: 1 axis: 4", (2, 3, 5, 7), "axis: axis 4 is out of range"),
    ],
)
def test_what_caffe_refuses(param, shape, message):
    error = layer_error(layer(param), [shape])
    assert isinstance(error, NetError)
    assert error.layer == "l"
    assert message in str(error)


def test_bottoms_of_different_shapes():
    ends = 'bottom: "a" bottom: "b" top: "c" top: "d"'
    text = f"{layer('num_output: 2 kernel_size: 1')} {ends}"
    error = refusal(text, (2, 3, 5, 7), (2, 3, 7, 5))
    assert "all bottoms must have one shape" in str(error)
