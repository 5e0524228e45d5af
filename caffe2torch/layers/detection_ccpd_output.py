"""DetectionCcpdOutput: the seven characters of a licence plate."""

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
    TorchBuilder,
    net_error,
    register_layer,
)
from caffe2torch.layers._onnx import to_float


@register_layer()
class DetectionCcpdOutput(Layer):
    """The best class of each of seven bottoms, as one row (1, 1, N, 7).

    Fork: yuqj1991/caffe_train, detection_ccpd_output_layer.cpp. Bottoms (N, C, ..) of
    ``num_chinese``, ``num_english`` and five times ``num_letter`` scores. The class is the first
    of the highest score, and 0 if no score is above 0. Errors: a number that is not given or
    not that of the bottom.
    """

    type = "DetectionCcpdOutput"
    parameters = Parameters(
        "lp_det_param",
        """
        optional int32 num_chinese = 1;
        optional int32 num_english = 2;
        optional int32 num_letter = 3;
        """,
    )
    bottoms = (7, 7)

    counts: tuple[int, ...]
    """The classes of each bottom."""

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        for field in ("num_chinese", "num_english", "num_letter"):
            if not p.HasField(field):
                raise net_error(proto, "it is not given", f"lp_det_param.{field}")
        return cls(proto.name, (p.num_chinese, p.num_english, *[p.num_letter] * 5))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        for shape, count in zip(bottoms, self.counts, strict=True):
            if len(shape) < 2 or shape[0] != bottoms[0][0] or prod(shape[1:]) != count:
                raise self.net_error(
                    f"a bottom's shape {shape} is not ({bottoms[0][0]}, {count}), as lp_det_param"
                    " says"
                )
        return [(1, 1, bottoms[0][0], 7)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.best_classes(*inputs)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        columns = []
        for x in inputs:
            scores = g.op("Flatten", g.op("Relu", x), axis=1)
            columns.append(to_float(g, g.op("ArgMax", scores, axis=1, keepdims=1)))
        rows = g.op("Concat", *columns, axis=1)
        return [g.op("Unsqueeze", rows, g.const([0, 1], np.int64))]
