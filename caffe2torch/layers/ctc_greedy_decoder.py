"""CTCGreedyDecoder: the most probable class of each step, without repetitions and blanks."""

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
    Role,
    TorchBuilder,
    register_layer,
)
from caffe2torch.layers._onnx import to_float, to_int


@register_layer()
class CTCGreedyDecoder(Layer):
    """The classes of the steps in their order, less repetitions and blanks, then -1.

    caffe_ocr: ctc_decoder_layer.cpp. Bottom (T, N, C), top (N, T, 1, 1). The class of a step
    is the first of those with the highest score. A step with the class of the step before it
    is left out (``ctc_merge_repeated``, default true), then the blanks are.

    ``blank_index`` defaults to 0; a negative one is C - 1. With labels (N, L) as a second bottom
    the fork computes an accuracy from edit distances: that is left out with the other ends of
    training, and refused where it has to stay.

    Other forks (TextBoxes++: ctc_decoder_layer.cpp) have as second bottom continuation
    indicators (T, N): a sequence ends before a step, but the first, of 0. ``blank_index``
    defaults to C - 1 there. Refused: indicators for as many streams as steps, which could be
    labels too.
    """

    type = "CTCGreedyDecoder"
    parameters = Parameters(
        "ctc_decoder_param",
        """
        optional int32 blank_index = 1 [default = 0];
        optional bool ctc_merge_repeated = 2 [default = true];
        """,
    )
    bottoms = (1, 2)

    blank: int
    merge: bool

    @classmethod
    def role_of(cls, proto: Message) -> Role:
        return Role.LOSS if len(proto.bottom) > 1 else Role.COMPUTE

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        blank = param.blank_index
        if len(proto.bottom) > 1 and not param.HasField("blank_index"):
            blank = -1
        return cls(name=proto.name, blank=blank, merge=param.ctc_merge_repeated)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        shape, *second = bottoms
        if len(shape) < 3 or any(size != 1 for size in shape[3:]):
            raise self.net_error(f"the bottom's shape {shape} must be (T, N, C)")
        if second and (second[0][:2] != shape[:2] or prod(second[0]) != shape[0] * shape[1]):
            raise self.unsupported(
                f"with labels as its second bottom, of shape {second[0]}, it computes the "
                "accuracy, not the sequence; remove that bottom, or the layer",
                "bottom",
            )
        if second and shape[0] == shape[1]:
            raise self.unsupported(
                f"its second bottom, of shape {second[0]}, could be labels or the indicators of "
                f"{shape[0]} steps; read the net with another batch size (--input-shape)",
                "bottom",
            )
        return [(shape[1], shape[0], 1, 1)]

    def _blank(self, classes: int) -> int:
        return self.blank if self.blank >= 0 else classes - 1

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        blank = self._blank(bottoms[0][2])
        return t.runtime.ctc_greedy(inputs[0], blank, self.merge, *inputs[1:])

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        shape = g.shape(inputs[0])
        best = g.op("ArgMax", inputs[0], axis=2, keepdims=0)
        if len(shape) > 3:
            best = g.op("Squeeze", best, g.const(range(2, len(shape) - 1), np.int64))
        best = g.op("Transpose", best, perm=[1, 0])
        keep = g.op("Not", g.op("Equal", best, g.const(self._blank(shape[2]), np.int64)))
        one = g.const(1, np.int64)
        if self.merge:
            before = g.op("Pad", best, g.const([0, 1, 0, -1], np.int64), g.const(-1, np.int64))
            keep = g.op("And", keep, g.op("Not", g.op("Equal", best, before)))
        # Steps left out go to places of their own behind the sequence, which are cut off.
        zeros = g.op("Mul", best, g.const(0, np.int64))
        steps = g.op("Shape", best, start=1)
        number = g.op("CumSum", g.op("Add", zeros, one), one)
        if len(inputs) > 1:
            stops = g.op("Reshape", inputs[1], g.const([0, -1], np.int64))
            stops = g.op("Equal", g.op("Transpose", stops, perm=[1, 0]), g.const(0.0))
            stops = g.op("And", stops, g.op("Greater", number, one))
            ended = g.op("CumSum", to_int(g, stops), one)
            keep = g.op("And", keep, g.op("Equal", ended, g.const(0, np.int64)))
        kept = g.op("CumSum", to_int(g, keep), one)
        place = g.op("Where", keep, kept, g.op("Add", number, steps))
        place = g.op("Sub", place, one)
        empty = to_float(g, g.op("Sub", zeros, one))
        empty = g.op("Concat", empty, empty, axis=1)
        y = g.op("ScatterElements", empty, place, to_float(g, best), axis=1)
        y = g.op("Slice", y, g.const([0], np.int64), steps, g.const([1], np.int64))
        return [g.op("Unsqueeze", y, g.const([2, 3], np.int64))]
