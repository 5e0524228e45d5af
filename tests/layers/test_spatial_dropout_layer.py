from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error, run_layer
from refusals import resolved

from caffe2torch.errors import UnsupportedLayerError


def layer(params: str) -> str:
    return (
        'type: "Python" python_param { module: "spatial_dropout" layer: "SpatialDropoutLayer" '
        f'param_str: "{params}" }}'
    )


def test_scales_at_inference() -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 5, 7))
    check_layer(layer("{'phase': 'TEST', 'p': '0.1'}"), [x], [x / (1 - 0.1)])


def test_training_drops_whole_channels() -> None:
    torch.manual_seed(0)
    text = layer("{'phase': 'TRAIN', 'p': 0.75}") + ' bottom: "x" top: "y"'
    drops = resolved(text, "TRAIN")
    y = run_layer(drops, [torch.ones(100, 200, 2, 3)], {}, training=True)
    assert torch.equal(y, y[:, :, :1, :1].expand_as(y))
    assert sorted(y.unique().tolist()) == [0, 4]
    assert abs((y > 0).float().mean().item() - 0.25) < 0.01
    with pytest.raises(UnsupportedLayerError, match="convert for phase TEST"):
        drops.to_onnx(None, ["x"])


def test_refusals() -> None:
    shape = [(2, 3, 5, 7)]
    for params in ("{'phase': 'TEST'}", "{'phase': 'TEST', 'p': 1}"):
        assert "must lie between 0 and 1" in str(layer_error(layer(params), shape))
    assert "gives no phase" in str(layer_error(layer("{'p': 0.1}"), shape))
    random = layer("{'phase': 'TRAIN', 'p': 0.1}")
    assert "give it the phase TEST" in str(layer_error(random, shape))
    assert "must have four axes" in str(layer_error(random, [(2, 3)], phase="TRAIN"))
