"""The Python layers of DenseReg: a quantised coordinate and its regressed remainder in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._onnx import to_float


@register_layer("Python CombineRegressions.CombineRegressionsLayer")
class CombineRegressionsLayer(Layer):
    """Coordinates of a face's pixels (DenseReg's CombineRegressions.py).

    Bottoms: two maps of labels (1, 1, H, W), 0 for the background, and two of remainders (1, D,
    H, W), channel j for label j. Each top (1, 1, H, W) is (label + remainder - 1) / (D - 1),
    the remainder of label 0 and of no whole label being 0; below 0 it is -1.
    """

    type = "Python CombineRegressions.CombineRegressionsLayer"
    bottoms = (4, 4)
    tops = (2, 2)
    fixes_batch = True
    remainder_only: ClassVar[bool] = False

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        labels, *others = bottoms
        if len(labels) != 4 or labels[:2] != (1, 1) or others[0] != labels:
            raise self.net_error(
                f"the labels' shapes {labels} and {others[0]} are not (1, 1, H, W)"
            )
        for shape in others[1:]:
            if len(shape) != 4 or (shape[0], *shape[2:]) != (1, *labels[2:]) or shape[1] < 2:
                raise self.net_error(f"the remainders' shape {shape} is not (1, D, H, W)")
        return [labels, labels]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        pairs = zip(inputs[:2], inputs[2:], strict=True)
        return [t.runtime.combine_regression(*pair, self.remainder_only) for pair in pairs]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        pairs = zip(inputs[:2], inputs[2:], strict=True)
        return [self._combined_onnx(g, *pair) for pair in pairs]

    def _combined_onnx(self, g: OnnxBuilder, labels: str, remainders: str) -> str:
        count = g.shape(remainders)[1]
        index = g.const(np.arange(count, dtype=np.float32)[1:, None, None])
        chosen = to_float(g, g.op("Equal", labels, index))
        parts = g.const([1, count - 1], np.int64)
        _, foreground = g.op("Split", remainders, parts, axis=1, outputs=2)
        axes = g.const([1], np.int64)
        value = g.op("ReduceSum", g.op("Mul", foreground, chosen), axes)
        if self.remainder_only:
            return str(g.op("Clip", value, g.const(0.0), g.const(1.0)))
        value = g.op("Sub", g.op("Add", labels, value), g.const(1.0))
        value = g.op("Div", value, g.const(float(count - 1)))
        zero = g.const(0.0)
        return str(g.op("Where", g.op("Less", value, zero), g.const(-1.0), value))


@register_layer("Python CombineRegressionsHuman.CombineRegressionsLayer")
class CombineRegressionsHumanLayer(CombineRegressionsLayer):
    """Coordinates within a body's part (DenseReg's CombineRegressionsHuman.py).

    As for a face, but a top is the remainder alone, limited to [0, 1].
    """

    type = "Python CombineRegressionsHuman.CombineRegressionsLayer"
    remainder_only = True
