from __future__ import annotations

import numpy as np
import pytest
import torch
from correlation_oracle import layer, oracle, square, two
from harness import check_layer, layer_error
from support import OF_LAYER, assert_close, genuine

from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.passes.draft import BlobSource, State
from caffe2torch.pipeline import build_graph


@pytest.mark.parametrize(
    ("pad", "kernel", "reach", "stride", "step"),
    [
        (4, 1, 4, 1, 2),
        (2, 3, 2, 1, 1),
        (0, 1, 2, 1, 1),
        (3, 3, 3, 2, 2),
        (3, 1, 3, 2, 1),
        (5, 5, 3, 3, 3),
    ],
)
@pytest.mark.parametrize("subtract", [False, True])
def test_patches_are_compared(pad, kernel, reach, stride, step, subtract) -> None:
    kind = "SUBTRACT" if subtract else "MULTIPLY"
    text = layer(
        f"pad: {pad} kernel_size: {kernel} max_displacement: {reach} stride_1: {stride} "
        f"stride_2: {step} correlation_type: {kind}"
    )
    a, b = two()
    expected = oracle(
        a, b, (pad, pad), (reach, reach), square(reach, step), kernel, stride, subtract
    )
    check_layer(text, [a, b], [expected])


@pytest.mark.parametrize(
    ("type", "fields", "message"),
    [
        ("Correlation", "kernel_size: 1", "max_displacement: must be given"),
        ("Correlation", "kernel_size: 2 max_displacement: 1", "2 must be odd"),
        ("Correlation", "kernel_size: 1 max_displacement: 1 stride_2: 0", "must be positive"),
        ("Correlation", "kernel_size: 1 max_displacement: 5", "do not fit the padded bottom"),
        ("Correlation", "kernel_size: 1 max_displacement: 1 single_direction: 1", "only Corr"),
    ],
)
def test_refuses(type: str, fields: str, message: str) -> None:
    assert message in str(layer_error(layer(fields, type), [(2, 3, 9, 11)] * 2))


def test_bottoms_have_one_shape() -> None:
    text = layer("kernel_size: 1 max_displacement: 1")
    assert "must have one shape" in str(layer_error(text, [(2, 3, 9, 11), (2, 3, 9, 10)]))


def test_the_form_of_flownet() -> None:
    path = genuine("SHARED", "faults", "plugin_own_params", "flow_Correlation.prototxt")
    graph = build_graph(read_prototxt(path), BlobSource(), State("TEST"))
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((2, 1, 2, 8, 8)).astype(np.float32)
    with torch.no_grad():
        y = to_torch(graph)({"a": torch.from_numpy(a), "b": torch.from_numpy(b)})
    expected = oracle(a.astype(float), b.astype(float), (4, 4), (4, 4), square(4, 2), 1)
    assert_close(y.numpy(), expected, OF_LAYER)
