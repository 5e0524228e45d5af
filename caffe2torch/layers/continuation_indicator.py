"""ContinuationIndicator: the second bottom of LSTM layers whose sequences start with the pass."""

from __future__ import annotations

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
    canonical_axis,
    net_error,
    register_layer,
)


@register_layer()
class ContinuationIndicator(Layer):
    """y[t, n] = 0 for t = 0, else 1: top (time_step, batch_size).

    Forks for OCR, Intel's Caffe: continuation_indicator_layer.cpp. jolibrain's Caffe has a
    bottom instead of a batch_size, whose size along ``axis`` (default 0) it is. Errors: a
    time_step or batch_size of 0, or none; an axis that the bottom does not have.
    """

    type = "ContinuationIndicator"
    parameters = Parameters(
        "continuation_indicator_param",
        f"""
        optional uint32 time_step = 1 [default = 0];
        optional int32 batch_size = 2 [default = 0];
        optional int32 axis = {TEXT_ONLY};
        """,
    )
    bottoms = (0, 1)

    steps: int
    streams: int
    axis: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        of_bottom = bool(proto.bottom)
        for field in ("time_step", "batch_size")[: 1 if of_bottom else 2]:
            if getattr(param, field) <= 0:
                raise net_error(proto, "must be positive", f"continuation_indicator_param.{field}")
        # In a binary of jolibrain's fork the number of batch_size is that of axis.
        axis = param.axis if param.HasField("axis") else param.batch_size * of_bottom
        return cls(proto.name, param.time_step, 0 if of_bottom else param.batch_size, axis)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        streams = bottoms[0][self._axis(bottoms[0])] if bottoms else self.streams
        return [(self.steps, streams)]

    def _axis(self, bottom: Shape) -> int:
        field = "continuation_indicator_param.axis"
        return canonical_axis(self, self.axis, len(bottom), field)

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return None if bottoms else t.runtime.Continuation(self.steps, self.streams)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        if not inputs:
            return t.module()
        return t.runtime.continuation_of(inputs[0], self.steps, self._axis(bottoms[0]))

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        later = np.arange(self.steps)[:, None] > 0
        if inputs:
            axis = self._axis(g.shape(inputs[0]))
            streams = g.op("Shape", inputs[0], start=axis, end=axis + 1)
            size = g.op("Concat", g.const([self.steps], np.int64), streams, axis=0)
        else:
            size = g.const([self.steps, self.streams], np.int64)
        return [g.op("Expand", g.const(later.astype(np.float32)), size)]
