from __future__ import annotations

from refusals import refusal, resolved

from caffe2torch.errors import NetError
from caffe2torch.lower.eager import module_of


def test_makes_nothing() -> None:
    layer = resolved('type: "Silence" bottom: "a" bottom: "b"')
    assert list(layer.infer_shapes([(2, 3), (5,)])) == []
    assert list(module_of(layer, [(2, 3), (5,)])(None, None)) == []
    assert list(layer.to_onnx(None, ["a", "b"])) == []


def test_refuses_a_top() -> None:
    error = refusal('type: "Silence" bottom: "a" top: "b"')
    assert isinstance(error, NetError)
    assert "has 1 tops" in str(error)
