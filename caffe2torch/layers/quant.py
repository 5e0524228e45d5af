"""Quant: activations of few values, with the gradient of a smooth function in training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Backward,
    Layer,
    OnnxBuilder,
    Parameters,
    Reads,
    TorchBuilder,
    net_error,
    register_layer,
)

_FORWARD = ("hwgq", "sign", "hard_tanh", "relu")


@register_layer()
class Quant(Layer):
    """y = f(x), elementwise, f named by ``forward_func`` (default ``hwgq``).

    Fork: zhaoweicai/hwgq, quant_layer.cpp.

    * ``hwgq``: the nearest of ``centers`` for x above 0 (the smaller one half-way between two),
      else ``-negative_slope``. The centers stand in rising order: they are compared in theirs.
    * ``sign``: 1, of negative numbers -1.
    * ``hard_tanh``: x limited to the range from -1 to 1.
    * ``relu``: max(x, 0) + negative_slope * min(x, 0).

    The gradient is that of ``backward_func``: of ``relu`` (the default), and 0 for x above
    ``clip_thr``; or of ``hard_tanh``, 1 for x from ``-clip_thr`` to ``clip_thr``, else 0. There
    is no such bound where ``clip_thr`` (default 0) is not positive. ``negative_slope`` is 0 by
    default, ``thrs`` is ignored. Errors: other names, no centers, one not above 0.
    """

    type = "Quant"
    works_in_place = True
    reads = Reads(always=True)
    parameters = Parameters(
        "quant_param",
        """
        optional string forward_func = 1 [default = "hwgq"];
        optional string backward_func = 2 [default = "relu"];
        optional float clip_thr = 3 [default = 0];
        optional float negative_slope = 4 [default = 0];
        repeated float thrs = 5;
        repeated float centers = 6;
        """,
    )

    forward: str
    backward: str
    clip: float
    negative_slope: float
    centers: tuple[float, ...]

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if param.forward_func not in _FORWARD:
            raise net_error(
                proto,
                f"{param.forward_func!r} is none of {', '.join(_FORWARD)}",
                "quant_param.forward_func",
            )
        if param.backward_func not in ("relu", "hard_tanh"):
            raise net_error(
                proto,
                f"{param.backward_func!r} is neither relu nor hard_tanh",
                "quant_param.backward_func",
            )
        if param.forward_func == "hwgq" and not (param.centers and min(param.centers) > 0):
            raise net_error(
                proto,
                f"{list(param.centers)} must be at least one number, all positive",
                "quant_param.centers",
            )
        return cls(
            name=proto.name,
            forward=param.forward_func,
            backward=param.backward_func,
            clip=param.clip_thr if param.clip_thr > 0 else math.inf,
            negative_slope=param.negative_slope,
            centers=tuple(param.centers),
        )

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        (diff,), (x,) = found.diffs, found.bottoms
        if self.backward == "hard_tanh":
            return [diff * (x.abs() <= self.clip)]
        return [diff * ((x > 0) + self.negative_slope * (x <= 0)) * (x <= self.clip)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        (x,) = inputs
        if self.forward == "hwgq":
            return t.runtime.nearest_center(
                x, self._thresholds(), self.centers, -self.negative_slope
            )
        if self.forward == "sign":
            return t.runtime.sign_code(x)
        if self.forward == "hard_tanh":
            return t.F.hardtanh(x)
        return t.F.leaky_relu(x, self.negative_slope)

    def _thresholds(self) -> tuple[float, ...]:
        """The largest number that each center stands for."""
        centers = np.array(self.centers, np.float32)
        middles = (centers[:-1] + centers[1:]) * np.float32(0.5)
        return (*middles.tolist(), float(np.finfo(np.float32).max))

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        zero = g.const(0.0)
        if self.forward == "hwgq":
            y = zero
            for largest, center in zip(self._thresholds()[::-1], self.centers[::-1], strict=True):
                y = g.op("Where", g.op("LessOrEqual", x, g.const(largest)), g.const(center), y)
            return [g.op("Where", g.op("LessOrEqual", x, zero), g.const(-self.negative_slope), y)]
        if self.forward == "sign":
            return [g.op("Where", g.op("GreaterOrEqual", x, zero), g.const(1.0), g.const(-1.0))]
        if self.forward == "hard_tanh":
            return [g.op("Clip", x, g.const(-1.0), g.const(1.0))]
        return [g.op("LeakyRelu", x, alpha=self.negative_slope)]
