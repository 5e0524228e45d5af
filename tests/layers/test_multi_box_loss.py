from __future__ import annotations

import pytest
from refusals import resolved

from caffe2torch.errors import UnsupportedLayerError
from caffe2torch.layers._base import Role
from caffe2torch.lower.eager import module_of

BOTTOMS = 'bottom: "loc" bottom: "conf" bottom: "prior" bottom: "label" top: "loss"'


def test_is_a_loss_and_is_refused_by_name():
    layer = resolved(f'{BOTTOMS} type: "MultiBoxLoss" multibox_loss_param {{ num_classes: 3 }}')
    shapes = [(1, 20), (1, 15), (1, 2, 20), (1, 1, 4, 8)]
    assert layer.role is Role.LOSS
    assert layer.infer_shapes(shapes) == [()]
    with pytest.raises(UnsupportedLayerError, match=r"'l' \(MultiBoxLoss\): it serves to train"):
        module_of(layer, shapes)
    with pytest.raises(UnsupportedLayerError, match="MultiBoxLoss"):
        layer.to_onnx(None, [])
