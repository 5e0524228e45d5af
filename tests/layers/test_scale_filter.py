from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error, run_layer
from refusals import resolved

from caffe2torch.errors import UnsupportedLayerError

FIELDS = 'type: "ScaleFilter" scale_filter_param { min_scale: 0.5 max_scale: 2 }'


def test_is_the_identity_at_inference() -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 5, 7))
    check_layer(FIELDS, [x], [x])


def test_each_channel_has_a_scale_of_its_own_in_training() -> None:
    torch.manual_seed(0)
    layer = resolved(f'bottom: "x" top: "y" {FIELDS}', "TRAIN")
    y = run_layer(layer, [torch.ones(20, 50, 2, 3)], {}, training=True)
    assert torch.equal(y, y[..., :1, :1].expand_as(y))
    scales = y[..., 0, 0]
    assert 0.5 <= scales.min() < 0.51
    assert 1.99 < scales.max() <= 2
    assert abs(scales.mean().item() - 1.25) < 0.05
    with pytest.raises(UnsupportedLayerError, match="convert for phase TEST"):
        layer.to_onnx(None, ["x"])


def test_scales_are_asked_for() -> None:
    error = layer_error('type: "ScaleFilter" scale_filter_param { max_scale: 2 }', [(2, 3, 5, 7)])
    assert "min_scale 0 and max_scale 2 are not positive and rising" in str(error)
    assert "axes" in str(layer_error(FIELDS, [(2, 3)]))
