from __future__ import annotations

import pytest
from refusals import refusal, resolved

from caffe2torch.errors import NetError, UnsupportedLayerError
from caffe2torch.layers._base import Role
from caffe2torch.lower.eager import module_of

BOTTOMS = 'bottom: "rows" bottom: "label" top: "result"'


def layer(fields: str) -> str:
    return f'{BOTTOMS} type: "DetectionEvaluate" detection_evaluate_param {{ {fields} }}'


def test_is_dropped_like_a_loss_and_is_refused_by_name():
    evaluate = resolved(layer("num_classes: 3"))
    shapes = [(1, 1, 5, 7), (1, 1, 4, 8)]
    assert evaluate.role is Role.LOSS
    assert evaluate.infer_shapes(shapes) == [(1, 1, 7, 5)]
    with pytest.raises(UnsupportedLayerError, match=r"'l' \(DetectionEvaluate\): it compares"):
        module_of(evaluate, shapes)
    with pytest.raises(UnsupportedLayerError, match="DetectionEvaluate"):
        evaluate.to_onnx(None, [])


@pytest.mark.parametrize(
    ("fields", "shapes", "text"),
    [
        ("", ((1, 1, 5, 7), (1, 1, 4, 8)), "is not given"),
        ("num_classes: 2", ((1, 1, 5, 6), (1, 1, 4, 8)), "should be (1, 1, K, 7)"),
        ("num_classes: 2", ((1, 1, 5, 7), (2, 1, 4, 8)), "should be (1, 1, K, 8)"),
    ],
)
def test_refusals(fields, shapes, text):
    error = refusal(layer(fields), *shapes)
    assert isinstance(error, NetError)
    assert text in str(error)
