from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error, run_layer
from refusals import resolved

from caffe2torch.errors import UnsupportedLayerError

TEXT = 'type: "SpatialDropout" bottom: "x" top: "y" dropout_param { dropout_ratio: 0.75 }'


def test_is_the_identity_at_inference() -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 5, 7))
    for field in ("dropout_param", "spatial_dropout_param"):
        check_layer(f'type: "SpatialDropout" {field} {{ dropout_ratio: 0.75 }}', [x], [x])


@pytest.mark.parametrize("field", ["dropout_param", "spatial_dropout_param"])
def test_training_drops_whole_channels(field: str) -> None:
    torch.manual_seed(0)
    text = TEXT.replace("dropout_param", field)
    y = run_layer(resolved(text, "TRAIN"), [torch.ones(100, 200, 2, 3)], {}, training=True)
    assert torch.equal(y, y[:, :, :1, :1].expand_as(y))
    assert sorted(y.unique().tolist()) == [0, 4]
    assert abs((y > 0).float().mean().item() - 0.25) < 0.01


def test_random_dropout_has_no_onnx_form() -> None:
    with pytest.raises(UnsupportedLayerError, match="convert for phase TEST"):
        resolved(TEXT, "TRAIN").to_onnx(None, ["x"])


def test_refusals() -> None:
    assert "has fewer than two axes" in str(layer_error('type: "SpatialDropout"', [(3,)]))
    text = 'type: "SpatialDropout" dropout_param { dropout_ratio: 1 }'
    assert "1 is not between 0 and 1" in str(layer_error(text, [(2, 3)]))
    text = 'type: "SpatialDropout" spatial_dropout_param { sample_weights_test: true }'
    assert "that fork's code is undefined for it" in str(layer_error(text, [(2, 3)]))
