"""Dropout: the identity at inference; zeroes elements at random in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, net_error, register_layer


@register_layer()
class Dropout(Layer):
    """y = x in phase TEST, mask * x / (1 - dropout_ratio) in TRAIN (Caffe: dropout_layer.cpp).

    The mask is 0 with probability ``dropout_ratio`` (default 0.5, between 0 and 1), drawn
    anew at every pass. Random numbers have no ONNX form: there, only TEST is exact.
    """

    type = "Dropout"
    works_in_place = True

    dropout_ratio: float
    phase: str

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        ratio = proto.dropout_param.dropout_ratio
        if not 0 <= ratio <= 1:
            raise net_error(
                proto, f"{ratio:g} is not between 0 and 1", "dropout_param.dropout_ratio"
            )
        return cls(name=proto.name, dropout_ratio=ratio, phase=enum_name(proto, "phase"))

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.nn.Dropout(self.dropout_ratio)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        if self.phase == "TRAIN" and self.dropout_ratio:
            raise self.unsupported(
                "random dropout of phase TRAIN has no exact ONNX form; convert for phase TEST",
                "phase",
            )
        return [g.op("Identity", inputs[0])]
