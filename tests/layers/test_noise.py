from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error, run_layer
from refusals import resolved

from caffe2torch.errors import UnsupportedLayerError


def noise(fields: str) -> str:
    return f'type: "Noise" bottom: "x" top: "y" noise_param {{ {fields} }}'


def test_is_the_identity_at_inference() -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 5, 7))
    check_layer('type: "Noise" noise_param { gaussian_std: 0.5 bias: 3 }', [x], [x])


def test_normal_noise_in_training_is_relative_to_the_bottom() -> None:
    torch.manual_seed(0)
    x = torch.full((200, 500), 3.0)
    text = noise("gaussian_std: 0.5 bias: 2 uniform_range: 9")
    y = run_layer(resolved(text, "TRAIN"), [x], {}, training=True) - x
    assert abs(y.mean().item() - 2) < 0.02
    assert abs(y.std().item() - 1.5) < 0.02


def test_uniform_noise_in_training() -> None:
    torch.manual_seed(0)
    text = noise("uniform_range: 0.5 bias: 2")
    y = run_layer(resolved(text, "TRAIN"), [torch.ones(200, 500)], {}, training=True) - 1
    assert 1.5 <= y.min() < 1.51
    assert 2.49 < y.max() <= 2.5


def test_refusals() -> None:
    with pytest.raises(UnsupportedLayerError, match="convert for phase TEST"):
        resolved(noise("gaussian_std: 1"), "TRAIN").to_onnx(None, ["x"])
    error = layer_error('type: "Noise" noise_param { bias: 1 }', [(2, 3)])
    assert "neither gaussian_std nor uniform_range is given" in str(error)
