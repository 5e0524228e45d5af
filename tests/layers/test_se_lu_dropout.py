from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error, run_layer
from refusals import resolved

from caffe2torch.errors import UnsupportedLayerError


def layer(fields: str) -> str:
    return f'type: "SeLuDropout" selu_dropout_param {{ {fields} }}'


def test_is_the_identity_at_inference() -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 5, 7))
    check_layer(layer(""), [x], [x])


def test_mean_and_deviation_stay_in_training() -> None:
    torch.manual_seed(0)
    dropout = resolved(f'bottom: "x" top: "y" {layer("dropout_ratio: 0.25 alpha: -2")}', "TRAIN")
    x = torch.randn(300, 400)
    y = run_layer(dropout, [x], {}, training=True)
    assert abs(y.mean().item()) < 0.01
    assert abs(y.std().item() - 1) < 0.01
    scale = (0.75 * (1 + 4 * 0.25)) ** -0.5
    shift = scale * 0.25 * 2
    dropped = torch.isclose(y, torch.tensor(-2 * scale + shift))
    assert abs(dropped.float().mean().item() - 0.25) < 0.01
    torch.testing.assert_close(y[~dropped], scale * x[~dropped] + shift)
    with pytest.raises(UnsupportedLayerError, match="convert for phase TEST"):
        dropout.to_onnx(None, ["x"])


def test_the_ratio_is_between_0_and_1() -> None:
    error = layer_error(layer("dropout_ratio: 1"), [(2, 3)])
    assert "selu_dropout_param.dropout_ratio: 1 is not between 0 and 1" in str(error)
