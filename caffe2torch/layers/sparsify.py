"""Sparsify: numbers moved towards 0 by a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
)


@register_layer()
class Sparsify(Layer):
    """y = x - t above t, x + t below -t, 0 between, with t = ``thre`` (default 0: y = x).

    Fork: wenwei202/caffe, sparsify_layer.cpp. ``coef`` adds an L1 penalty to the gradient in
    training, and is left out here. Errors: either is negative.
    """

    type = "Sparsify"
    works_in_place = True
    parameters = Parameters(
        "sparsify_param",
        "optional float thre = 1 [default = 0]; optional float coef = 2 [default = 0];",
    )

    threshold: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        for name in ("thre", "coef"):
            if getattr(param, name) < 0:
                raise net_error(proto, "must not be negative", f"sparsify_param.{name}")
        return cls(name=proto.name, threshold=param.thre)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.F.softshrink(inputs[0], self.threshold) if self.threshold else inputs[0].clone()

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        if not self.threshold:
            return [g.op("Identity", x)]
        within = g.op("Clip", x, g.const(-self.threshold), g.const(self.threshold))
        return [g.op("Sub", x, within)]
