"""What the elementwise layers share: one top of the bottom's shape, scale and shift in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log
from typing import Any, ClassVar

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers._base import Layer, net_error
from caffe2torch.layers._builders import OnnxBuilder, TorchBuilder


@dataclass(frozen=True)
class SameOperator(Layer):
    """Base of layers without parameters that torch and ONNX both have under some name."""

    torch_class: ClassVar[str]
    """The class in torch.nn."""
    onnx_operator: ClassVar[str]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return getattr(t.nn, self.torch_class)()

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op(self.onnx_operator, inputs[0])]


def log_of_base(proto: Message, base: float, field: str) -> float:
    """The natural logarithm of ``field``, the base in Exp and Log; its default -1 stands for e."""
    if base == -1:
        return 1.0
    if not base > 0 or not isfinite(base):
        raise net_error(proto, f"{base:g} is neither positive nor -1, which stands for e", field)
    return log(base)


def scale_shift(x: Any, scale: float, shift: float = 0) -> Any:
    """``x * scale + shift`` in torch, without the steps that change nothing."""
    if scale != 1:
        x = x * scale
    return x + shift if shift else x


def scale_shift_onnx(g: OnnxBuilder, x: str, scale: float, shift: float) -> str:
    """``scale_shift`` as ONNX nodes; returns the value's name."""
    if scale != 1:
        x = g.op("Mul", x, g.const(scale))
    return g.op("Add", x, g.const(shift)) if shift else x
