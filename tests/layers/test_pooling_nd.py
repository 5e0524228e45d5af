from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from harness import build, check_layer, layer_error

from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.passes.draft import BlobSource, State
from caffe2torch.pipeline import build_graph, restore_graph

LOWEST = float(np.finfo(np.float32).min)


def oracle(x: Any, kernel: Any, stride: Any, pad: Any, step: Any) -> Any:
    """By loops over places and kernel elements within the image."""
    sizes = x.shape[2:]
    axes = list(zip(sizes, kernel, stride, pad, step, strict=True))
    outputs = [math.ceil((n + 2 * p - (d * (k - 1) + 1)) / s) + 1 for n, k, s, p, d in axes]
    y = np.full((*x.shape[:2], *outputs), LOWEST)
    for place in np.ndindex(*outputs):
        for element in np.ndindex(*kernel):
            pixel = [
                o * s + e * d - p
                for o, e, (_, _, s, p, d) in zip(place, element, axes, strict=True)
            ]
            if all(0 <= i < n for i, n in zip(pixel, sizes, strict=True)):
                y[(..., *place)] = np.maximum(y[(..., *place)], x[(..., *pixel)])
    return y


def layer(fields: str, type: str = "PoolingND") -> str:
    return f'type: "{type}" pooling_param {{ {fields} }}'


CASES = [
    ("kernel_size: 1 kernel_size: 2 kernel_size: 3 stride: 1 stride: 2 stride: 2",
     (4, 5, 7), (1, 2, 3), (1, 2, 2), (0, 0, 0), (1, 1, 1)),
    ("kernel_size: 2 stride: 2", (4, 5, 7), (2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1)),
    ("kernel_size: 3 pad: 1 stride: 2 kstride: 2", (6, 8), (3, 3), (2, 2), (1, 1), (2, 2)),
    ("kernel_size: 2 kstride: 1 kstride: 2 kstride: 3",
     (4, 5, 7), (2, 2, 2), (1, 1, 1), (0, 0, 0), (1, 2, 3)),
    ("kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2 kstride_h: 2 kstride_w: 1",
     (6, 8), (2, 3), (1, 2), (0, 0), (2, 1)),
    ("kernel_size: 3 stride: 2", (8,), (3,), (2,), (0,), (1,)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_maxima_of_windows(case: Any) -> None:
    fields, sizes, *window = case
    x = np.random.default_rng(0).standard_normal((2, 3, *sizes))
    check_layer(layer(fields), [x], [oracle(x, *window)])
    graph = build(layer(fields), [x.shape], 1)
    again = build_graph(parse_prototxt(graph.definition), BlobSource(), State("TEST"))
    assert again.nodes[-1].layer == graph.nodes[-1].layer
    if len(sizes) == 2:
        check_layer(layer(fields, "PoolingSK"), [x], [oracle(x, *window)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("stride: 2", "kernel_size: must be given"),
        ("kernel_size: 2 kernel_size: 2", "2 values for 3 spatial axes"),
        ("pool: AVE kernel_size: 2", "only MAX pooling of windows"),
        ("kernel_size: 9", "does not fit the padded bottom"),
    ],
)
def test_refuses(fields: str, message: str) -> None:
    assert message in str(layer_error(layer(fields), [(2, 3, 4, 5, 7)]))


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        (CASES[0][0] + " pad: 0 dilation: 1", CASES[0][1:]),
        ("kernel_size: 2 stride: 1 stride: 2 stride: 2", ((4, 5, 7), (2, 2, 2), (1, 2, 2))),
        ("kernel_size: 3 kernel_size: 3 stride: 2 stride: 2 pad: 0 pad: 0",
         ((6, 8), (3, 3), (2, 2))),
        ("kernel_size: 2 dilation: 2", ((6, 8), (2, 2), (1, 1), (0, 0), (2, 2))),
        ("kernel_size: 2 dilation: 1 dilation: 2 dilation: 3",
         ((4, 5, 7), (2, 2, 2), (1, 1, 1), (0, 0, 0), (1, 2, 3))),
    ],
)  # fmt: skip
def test_pooling_of_forks_with_a_value_an_axis(fields: str, window: Any) -> None:
    sizes, kernel, stride, *more = window
    pad, step = more or ((0,) * len(sizes), (1,) * len(sizes))
    x = np.random.default_rng(0).normal(size=(2, 3, *sizes))
    check_layer(layer(fields, "Pooling"), [x], [oracle(x, kernel, stride, pad, step)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("kernel_size: 2 dilation: 2 pad: 1", "it must be 0"),
        ("kernel_size: 2 dilation: 2 pool: AVE", "only MAX without a mask is known"),
        ("kernel_size: 2 kernel_size: 3", "write kernel_h and kernel_w instead"),
        ("kernel_h: 2 kernel_w: 2 dilation: 2", "write kernel_size and stride once an axis"),
        ("dilation: 2", "must be given and positive"),
        ("kernel_size: 2 dilation: 0", "must be given and positive"),
    ],
)
def test_what_pooling_of_forks_refuses(fields: str, message: str) -> None:
    assert message in str(layer_error(layer(fields, "Pooling"), [(2, 3, 5, 7)]))


def test_the_definition_keeps_a_value_an_axis() -> None:
    graph = build(layer(CASES[0][0], "Pooling"), [(2, 3, 4, 5, 7)], 1)
    again = restore_graph(parse_prototxt(graph.definition), {}, "TEST")
    assert again.shapes == graph.shapes
