from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error, run_layer
from spatial_oracles import Array, pooling

from caffe2torch.errors import NetError, UnsupportedLayerError
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.layers.pooling import Pooling
from caffe2torch.lower.eager import module_of


def layer(param: str) -> str:
    return f'type: "Pooling" pooling_param {{ {param} }}'


def resolved(param: str) -> Any:
    net = parse_prototxt(f'layer {{ name: "l" {layer(param)} bottom: "b0" top: "t0" }}')
    return Pooling.from_proto(net.layer[0])


def check(param: str, x: Array, mask: bool = False, **window: Any) -> None:
    tops = pooling(x, **window)
    check_layer(layer(param), [x], list(tops if mask else tops[:1]))


def draw_windows(count: int) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(0)
    windows = []
    while len(windows) < count:
        sizes, kernel = rng.integers(4, 10, 2), rng.integers(1, 5, 2)
        stride, pad = rng.integers(1, 5, 2), rng.integers(0, 3, 2)
        if (pad < kernel).all():
            windows.append(tuple(int(v) for v in (*sizes, *kernel, *stride, *pad)))
    return windows


@pytest.mark.parametrize("window", draw_windows(25), ids=str)
@pytest.mark.parametrize("rounding", ["CEIL", "FLOOR"])
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_windows(window, rounding, method):
    height, width, kh, kw, sh, sw, ph, pw = window
    x = np.random.default_rng(1).standard_normal((2, 3, height, width))
    ceil = rounding == "CEIL"
    tops = pooling(x, (kh, kw), (sh, sw), (ph, pw), method, ceil)
    param = f"""pool: {method} kernel_h: {kh} kernel_w: {kw} stride_h: {sh} stride_w: {sw}
        pad_h: {ph} pad_w: {pw} round_mode: {rounding}"""
    check_layer(layer(param), [x], list(tops if method == "MAX" else tops[:1]))
    check_layer(layer(param), [x], list(tops[:1]))


def test_ceil_mode_of_a_fork_is_round_mode():
    x = np.random.default_rng(2).standard_normal((2, 3, 8, 10))
    for ceil in (True, False):
        param = f"kernel_size: 3 stride: 2 ceil_mode: {str(ceil).lower()}"
        check(param, x, kernel=(3, 3), stride=(2, 2), ceil=ceil)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_pad_of_more_than_half_a_kernel(method):
    x = np.random.default_rng(3).standard_normal((2, 3, 5, 7))
    param = f"pool: {method} kernel_h: 3 kernel_w: 5 pad_h: 2 pad_w: 4"
    check(param, x, kernel=(3, 5), pad=(2, 4), method=method)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_kernel_that_exceeds_the_image(method):
    x = np.random.default_rng(4).standard_normal((2, 3, 4, 7))
    param = f"pool: {method} kernel_h: 6 kernel_w: 2 stride: 3"
    check(param, x, kernel=(6, 2), stride=(3, 3), method=method)


@pytest.mark.parametrize("method", ["MAX", "AVE", "STOCHASTIC"])
def test_global_pooling(method):
    x = np.random.default_rng(5).standard_normal((2, 3, 5, 7))
    check(f"pool: {method} global_pooling: true", x, kernel=(5, 7), method=method)


def test_global_mask():
    x = np.random.default_rng(6).standard_normal((2, 3, 5, 7))
    check("global_pooling: true", x, mask=True, kernel=(5, 7))


def test_padding_takes_no_part_in_max():
    x = -1 - np.random.default_rng(7).random((2, 3, 5, 7))
    check("kernel_size: 3 pad: 1", x, mask=True, kernel=(3, 3), pad=(1, 1))


def test_first_of_equal_maxima():
    x = np.zeros((1, 2, 5, 6))
    x[0, 1, 1::2] = 3
    check("kernel_size: 3 stride: 2 pad: 1", x, True, kernel=(3, 3), stride=(2, 2), pad=(1, 1))


def test_empty_window_of_max():
    x = np.random.default_rng(8).standard_normal((1, 2, 7, 5))
    y, mask = pooling(x, (2, 1), (6, 5))
    assert (y[..., 1] == np.finfo(np.float32).min).all()
    assert (mask[..., 1] == -1).all()
    check(
        "kernel_h: 2 kernel_w: 1 stride_h: 6 stride_w: 5",
        x,
        mask=True,
        kernel=(2, 1),
        stride=(6, 5),
    )


def test_empty_window_of_average_is_0_beyond_the_image_and_0_by_0_at_its_end():
    x = np.random.default_rng(9).standard_normal((2, 3, 5, 7))
    check(
        "pool: AVE kernel_size: 1 stride: 4",
        x[..., :6, :],
        kernel=(1, 1),
        stride=(4, 4),
        method="AVE",
    )
    y = run_layer(resolved("pool: AVE kernel_size: 1 stride: 5"), [torch.tensor(x)], {}, False)
    assert isinstance(y, torch.Tensor)
    assert y.shape == (2, 3, 2, 3)
    assert y[:, :, 1].isnan().all()
    assert not y[:, :, 0, :2].isnan().any()


def test_stochastic():
    x = np.random.default_rng(10).standard_normal((2, 3, 7, 8))
    x[:, 1] = -abs(x[:, 1])
    x[:, 2] = abs(x[:, 2])
    param = "pool: STOCHASTIC kernel_h: 3 kernel_w: 2 stride: 2"
    window = {"kernel": (3, 2), "stride": (2, 2), "method": "STOCHASTIC"}
    # The quotient is ill-conditioned where values of both signs cancel.
    check(param, x[:, 1:], **window)
    check(param, np.round(x * 4) / 4, **window)


@pytest.mark.parametrize(
    ("param", "name"),
    [
        ("kernel_size: 3 stride: 2", "MaxPool2d"),
        ("kernel_size: 3 stride: 2 pad: 1 pool: AVE", "AvgPool2d"),
        ("global_pooling: true", "AdaptiveMaxPool2d"),
        ("global_pooling: true pool: AVE", "AdaptiveAvgPool2d"),
    ],
)
def test_usual_pooling_is_torchs_own_module_for_every_image(param, name):
    module = module_of(resolved(param), [(2, 3, 9, 9)])
    assert type(module).__name__ == name
    method = "AVE" if "AVE" in param else "MAX"
    for height in range(3, 9):
        x = np.random.default_rng(height).standard_normal((1, 2, height, 7))
        if "global" in param:
            y, _ = pooling(x, (height, 7), method=method)
        else:
            pad = (1, 1) if "pad" in param else (0, 0)
            y, _ = pooling(x, (3, 3), (2, 2), pad, method)
        np.testing.assert_allclose(module(torch.tensor(x)).numpy(), y, rtol=1e-12)


def test_gradient_of_the_padded_form():
    x = torch.randn(1, 2, 5, 7, dtype=torch.float64, requires_grad=True)
    maximum, average = (
        resolved(f"kernel_size: 3 pad: 2 stride: 2 pool: {pool}") for pool in ("MAX", "AVE")
    )
    assert torch.autograd.gradcheck(lambda v: run_layer(maximum, [v], {}, True)[0], x)
    assert torch.autograd.gradcheck(lambda v: run_layer(average, [v], {}, True), x)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("", "give either kernel_size or both kernel_h and kernel_w"),
        ("kernel_h: 3", "give either kernel_size or both"),
        ("kernel_size: 2 kernel_h: 3 kernel_w: 3", "give either kernel_size or both"),
        ("kernel_size: 0", "kernel (0, 0) and stride (1, 1) must not be zero"),
        ("kernel_size: 2 stride: 0", "stride (0, 0) must not be zero"),
        ("kernel_size: 2 stride_h: 2", "give either stride or both stride_h and stride_w"),
        ("kernel_size: 2 pad: 1 pad_h: 1 pad_w: 1", "give either pad or both pad_h and pad_w"),
        ("kernel_h: 3 kernel_w: 2 pad: 2", "pad (2, 2) must be smaller than the kernel (3, 2)"),
        ("kernel_size: 2 pad: 1 pool: STOCHASTIC", "STOCHASTIC pooling cannot be padded"),
        ("kernel_size: 2 global_pooling: true", "a kernel is given although it is the image"),
        ("global_pooling: true pad: 1", "stride must be 1 and pad 0"),
        ("global_pooling: true stride: 2", "stride must be 1 and pad 0"),
        ("kernel_size: 6", "the top would be (0, 2)"),
        ("kernel_size: 6 stride: 3 round_mode: FLOOR", "the top would be (0, 1)"),
    ],
)
def test_what_caffe_refuses(param, message):
    error = layer_error(layer(param), [(2, 3, 5, 7)])
    assert isinstance(error, NetError)
    assert message in str(error)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 5, 7, 4)])
def test_other_than_four_axes(shape):
    error = layer_error(layer("kernel_size: 2"), [shape])
    assert f"bottom must have 4 axes, but its shape is {shape}" in str(error)


def test_mask_of_average():
    text = f'layer {{ name: "l" {layer("kernel_size: 2 pool: AVE")} top: "t0" top: "t1" }}'
    with pytest.raises(NetError, match="AVE has no mask"):
        Pooling.from_proto(parse_prototxt(text).layer[0])


def test_random_draws_of_the_train_phase_are_refused():
    text = layer("kernel_size: 2 pool: STOCHASTIC")
    net = parse_prototxt(f'layer {{ name: "l" {text} phase: TRAIN top: "t0" }}')
    with pytest.raises(UnsupportedLayerError, match=r"pool: STOCHASTIC draws at random"):
        Pooling.from_proto(net.layer[0])
