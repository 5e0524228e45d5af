"""ContinuationIndicator: the second bottom of LSTM layers whose sequences start with the pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

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
class ContinuationIndicator(Layer):
    """y[t, n] = 0 for t = 0, else 1: top (time_step, batch_size), no bottom.

    Forks for OCR, Intel's Caffe: continuation_indicator_layer.cpp. Errors: a time_step or
    batch_size of 0, or none.
    """

    type = "ContinuationIndicator"
    parameters = Parameters(
        "continuation_indicator_param",
        """
        optional uint32 time_step = 1 [default = 0];
        optional uint32 batch_size = 2 [default = 0];
        """,
    )
    bottoms = (0, 0)

    steps: int
    streams: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        for field in ("time_step", "batch_size"):
            if not getattr(param, field):
                raise net_error(proto, "must be positive", f"continuation_indicator_param.{field}")
        return cls(name=proto.name, steps=param.time_step, streams=param.batch_size)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return [(self.steps, self.streams)]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.runtime.Continuation(self.steps, self.streams)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        later = np.arange(self.steps)[:, None] > 0
        size = g.const([self.steps, self.streams], np.int64)
        return [g.op("Expand", g.const(later.astype(np.float32)), size)]
