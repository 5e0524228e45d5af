"""MaskOutputs: the channels of an item's class."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    Reads,
    TorchBuilder,
    net_error,
    register_layer,
)
from caffe2torch.layers._onnx import to_int


@register_layer()
class MaskOutputs(Layer):
    """y[n, k] = x[n, K class[n] + k] for k below K, the ``kernel_size``.

    Fork: shubhtuls/ViewpointsAndKeypoints, mask_outputs_layer.cpp (MASK_OUTPUTS). Bottoms:
    x (N, C), perhaps with axes H, W, and N classes. Top (N, K, H, W); H and W are 1 where x has
    none. Errors: no kernel_size, one that does not divide C, other classes than items. A class
    outside is an error at run time.
    """

    type = "MaskOutputs"
    parameters = Parameters("mask_outputs_param", "optional uint32 kernel_size = 1;")
    bottoms = (2, 2)
    reads = Reads(slice(1, None))
    index_bottoms = frozenset({1})
    barred_bottoms = frozenset({1})

    kernel_size: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        size = cls.parameters.of(proto).kernel_size
        if not size:
            raise net_error(proto, "must be positive", "mask_outputs_param.kernel_size")
        return cls(name=proto.name, kernel_size=size)

    def index_count(self, bottoms: Sequence[Shape]) -> int:
        return bottoms[0][1] // self.kernel_size

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        x, classes = bottoms
        if not 2 <= len(x) <= 4 or x[1] % self.kernel_size or prod(classes) != x[0]:
            raise self.net_error(
                f"bottoms of shapes {x} and {classes} are not (N, C, H, W), C a multiple of "
                f"kernel_size {self.kernel_size}, and N classes"
            )
        sizes = (*x[2:], 1, 1)[:2]
        return [(x[0], self.kernel_size, *sizes)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.outputs_of(*inputs, self.kernel_size)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        _, channels, *sizes = g.shape(inputs[0])
        blocks = [0, channels // self.kernel_size, -1]
        x = g.op("Reshape", inputs[0], g.const(blocks, np.int64))
        classes = to_int(g, g.op("Reshape", inputs[1], g.const([-1, 1, 1], np.int64)))
        wide = g.const([1, 1, self.kernel_size * prod(sizes)], np.int64)
        y = g.op("GatherElements", x, g.op("Expand", classes, wide), axis=1)
        target = [-1, self.kernel_size, *(*sizes, 1, 1)[:2]]
        return [g.op("Reshape", y, g.const(target, np.int64))]
