from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error, run_layer
from refusals import resolved

from caffe2torch.errors import UnsupportedLayerError


def layer(fields: str) -> str:
    return f'type: "LabelSpecificAdd" label_specific_add_param {{ {fields} }}'


def test_is_the_identity_at_inference() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    check_layer(layer("bias: -0.35 transform_test: true"), [x, [[1], [0]]], [x])
    check_layer(layer("bias_base: -0.1"), [x, [[1], [0]]], [x, [0]])


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1, 1)])
def test_the_margin_of_training(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    labels = np.array([4, 0, 2, 2, 1, 3], np.float32)
    expected = x.copy()
    for row, label in zip(expected.reshape(6, 5), labels.astype(int), strict=True):
        if row[label] > 0.35:
            row[label] -= np.float32(0.35)
    assert 0 < (expected != x).sum() < 6
    ends = 'bottom: "x" bottom: "l" top: "y" top: "b"'
    margin = resolved(f"{ends} {layer('bias: -0.35')}", "TRAIN")
    bottom = torch.from_numpy(x).requires_grad_()
    y, bias = run_layer(margin, [bottom, torch.from_numpy(labels)], {}, training=True)
    torch.testing.assert_close(bias, torch.tensor([-0.35]))
    torch.testing.assert_close(y, torch.from_numpy(expected))
    y.square().sum().backward()
    torch.testing.assert_close(bottom.grad, 2 * y.detach())
    with pytest.raises(UnsupportedLayerError, match="convert for phase TEST"):
        margin.to_onnx(None, ["x", "l"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("bias: 0.35", "0.35 is added in one fork and subtracted in another"),
        ("bias_base: -0.1", "by it the bias changes from pass to pass"),
    ],
)
def test_what_is_refused_in_training(fields: str, message: str) -> None:
    error = layer_error(f"{layer(fields)} phase: TRAIN", [(2, 5), (2,)])
    assert isinstance(error, UnsupportedLayerError)
    assert message in str(error)


def test_a_label_for_each_item() -> None:
    assert "3 labels for a bottom" in str(layer_error(layer(""), [(2, 5), (3,)]))
