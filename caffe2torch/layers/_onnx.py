"""Small ONNX idioms: Caffe's blobs are float32 even when they hold indices."""

from __future__ import annotations

from caffe2torch.layers._base import OnnxBuilder

FLOAT, INT64 = 1, 7
"""Values of onnx.TensorProto.DataType."""


def to_float(g: OnnxBuilder, value: str) -> str:
    """``value`` as float32."""
    return str(g.op("Cast", value, to=FLOAT))


def to_int(g: OnnxBuilder, value: str) -> str:
    """``value`` as int64, truncated towards zero like a C++ cast."""
    return str(g.op("Cast", value, to=INT64))
