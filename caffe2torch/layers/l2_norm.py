"""L2Norm: each item of a batch at length one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    TEXT_ONLY,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    register_layer,
    unsupported,
)


@register_layer()
class L2Norm(Layer):
    """y = x / (sqrt(sum(x ** 2)) + eps) for bottoms (N, C), or with H = W = 1; top (N, C, 1, 1).

    Fork: nbadalls/caffe-server, l2norm_layer.cpp; ``eps`` defaults to 1e-8. The sum is over an
    item. So it is in zlmzju/caffe (l2_norm_layer.cpp), which takes max(sum, 1e-12) for the sum: the
    same number for items longer than 0.2. Akrit2013/caffe-dev-160608 sums over the channels at
    each position; the forks agree where there is one position only. Errors: a bottom with more, and
    ``l2_length``, a field of the last fork, whose layer differs.
    """

    type = "L2Norm"
    parameters = Parameters(
        "l2norm_param",
        f"optional float eps = 1 [default = 1e-8]; optional float l2_length = {TEXT_ONLY};",
    )

    eps: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if param.HasField("l2_length") and param.l2_length != 1:
            raise unsupported(proto, "a length other than 1 has no conversion", "l2_length")
        return cls(name=proto.name, eps=param.eps)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        if not 2 <= len(shape) <= 4:
            raise self.net_error(f"a bottom of shape {shape} must have two to four axes")
        if math.prod(shape[2:]) != 1:
            raise self.net_error(
                f"a bottom of shape {shape} has several positions. Some forks normalise each of "
                "them, some the whole item; use the type Normalize, which says which"
            )
        return [(*shape[:2], 1, 1)]

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return self.eps > 0

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        (x,) = inputs
        y = x / (t.torch.linalg.vector_norm(x, dim=1, keepdim=True) + self.eps)
        return y if len(bottoms[0]) == 4 else y.reshape(x.shape[:2] + (1, 1))  # noqa: RUF005

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        norm = g.op("Add", g.op("ReduceL2", x, axes=[1], keepdims=1), g.const(self.eps))
        y = g.op("Div", x, norm)
        if len(g.shape(x)) == 4:
            return [y]
        return [g.op("Reshape", y, g.const([0, -1, 1, 1], np.int64))]
