"""Sparsify: the identity, which makes a training prefer numbers near 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    NOTHING,
    Backward,
    Layer,
    OnnxBuilder,
    Parameters,
    Reads,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)


@register_layer()
class Sparsify(Layer):
    """y = x; the gradient gets ``coef`` * sign(x) added, that of an L1 penalty (default 0).

    Fork: wenwei202/caffe, sparsify_layer.cpp. Its versions make different numbers with a ``thre``
    above 0, which is refused. Errors: either is negative.
    """

    type = "Sparsify"
    works_in_place = True
    parameters = Parameters(
        "sparsify_param",
        "optional float thre = 1 [default = 0]; optional float coef = 2 [default = 0];",
    )

    coef: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        for name in ("thre", "coef"):
            if getattr(param, name) < 0:
                raise net_error(proto, "must not be negative", f"sparsify_param.{name}")
        if param.thre:
            raise unsupported(
                proto,
                "of the fork's versions one keeps the numbers beyond it and another moves them "
                "towards 0 by it, and the net does not say for which it was made; give the layer "
                "by a plugin (--plugin)",
                "sparsify_param.thre",
            )
        return cls(name=proto.name, coef=param.coef)

    def backward_reads(self, in_place: bool) -> Reads:
        return Reads(always=True) if self.coef else NOTHING

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        return [found.diffs[0] + self.coef * found.bottoms[0].sign()]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return inputs[0].clone()

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Identity", inputs[0])]
