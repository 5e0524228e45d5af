"""InnerDistance: distances to learned centres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from math import prod
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    BlobSpec,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    canonical_axis,
    net_error,
    register_layer,
    unsupported,
)


@register_layer()
class InnerDistance(Layer):
    """y[m, n] = sum_k d(x[m, k] - weight[n, k]) (happynear's Caffe: inner_distance_layer.cpp).

    d is the square for the ``distance_type`` L2 (the default), the absolute value for L1. The
    axes from ``axis`` (default 1) on are one vector of K numbers; the top is
    (*bottom[:axis], ``num_output``). Weight (num_output, K); or a second bottom (N, ..) of N K
    numbers in its place, with N for ``num_output``. ``bias_term`` and the bias's filler have no
    effect. Refused: ``transpose``; ``normalize`` of weights (the layer then changes them at each
    pass); ``update_center_only`` beside a second bottom, which is then labels and weights at once.
    """

    type = "InnerDistance"
    parameters = Parameters(
        "inner_distance_param",
        """
        optional uint32 num_output = 1;
        optional bool bias_term = 2 [default = true];
        optional FillerParameter weight_filler = 3;
        optional FillerParameter bias_filler = 4;
        optional int32 axis = 5 [default = 1];
        optional bool transpose = 6 [default = false];
        optional string distance_type = 7 [default = "L2"];
        optional bool normalize = 8 [default = false];
        optional bool update_center_only = 9 [default = false];
        """,
    )

    bottoms = (1, 2)

    num_output: int
    """0 if a second bottom has the weights."""
    axis: int
    squared: bool
    filler: Message = field(repr=False)
    filler_given: bool = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        has_weights = len(proto.bottom) == 1
        if has_weights and not p.num_output:
            raise net_error(proto, "must be positive", "inner_distance_param.num_output")
        for name in ("transpose", "normalize" if has_weights else "update_center_only"):
            if getattr(p, name):
                raise unsupported(proto, "true has no conversion", f"inner_distance_param.{name}")
        if p.distance_type not in ("L1", "L2"):
            raise net_error(
                proto,
                f"{p.distance_type!r} is neither 'L1' nor 'L2'",
                "inner_distance_param.distance_type",
            )
        squared, given = p.distance_type == "L2", p.HasField("weight_filler")
        count = p.num_output if has_weights else 0
        return cls(proto.name, count, p.axis, squared, p.weight_filler, given)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        x, *centres = bottoms
        axis = self._axis(x)
        if centres and (len(centres[0]) < 2 or prod(centres[0][1:]) != prod(x[axis:])):
            raise self.net_error(
                f"the second bottom's shape {centres[0]} is not (N, {prod(x[axis:])})"
            )
        return [(*x[:axis], centres[0][0] if centres else self.num_output)]

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        if not self.num_output:
            return ()
        shape = (self.num_output, prod(bottoms[0][self._axis(bottoms[0]) :]))
        return [BlobSpec("weight", shape, self.filler, self.filler_given)]

    def _axis(self, bottom: Shape) -> int:
        return canonical_axis(self, self.axis, len(bottom), "inner_distance_param.axis")

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        weight = inputs[1].flatten(1) if len(inputs) > 1 else t.params.weight
        difference = inputs[0].flatten(self._axis(bottoms[0])).unsqueeze(-2) - weight
        return (difference.square() if self.squared else difference.abs()).sum(-1)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        shape = g.shape(inputs[0])
        axis = self._axis(shape)
        target = g.const([*[0] * axis, 1, prod(shape[axis:])], np.int64)
        x = g.op("Reshape", inputs[0], target) if axis < len(shape) else inputs[0]
        weight = g.op("Flatten", inputs[1], axis=1) if len(inputs) > 1 else g.params["weight"]
        difference = g.op("Sub", x, weight)
        if self.squared:
            return [g.op("ReduceSumSquare", difference, axes=[-1], keepdims=0)]
        return [g.op("ReduceSum", g.op("Abs", difference), g.const([-1], np.int64), keepdims=0)]
