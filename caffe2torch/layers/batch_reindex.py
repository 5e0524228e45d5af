"""BatchReindex: items of a batch picked by index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._onnx import to_int


@register_layer()
class BatchReindex(Layer):
    """y[m] = x[index[m]] (Caffe: batch_reindex_layer.cpp).

    Bottoms x (N, ..) and index (M) make (M, ..). Indices are truncated to whole numbers, may
    repeat, and must be within the batch when the net runs.
    """

    type = "BatchReindex"
    barred_bottoms = frozenset({1})
    index_bottoms = frozenset({1})
    bottoms = (2, 2)

    def index_count(self, bottoms: Sequence[Shape]) -> int:
        return bottoms[0][0]

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        x, index = bottoms
        if len(index) != 1 or not x:
            raise self.net_error(f"bottoms of shapes {x} and {index}; they must be (N, ..) and (M)")
        return [index + x[1:]]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        x, index = inputs
        return t.torch.index_select(x, 0, index.long())

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x, index = inputs
        return [g.op("Gather", x, to_int(g, index), axis=0)]
