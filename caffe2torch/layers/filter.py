"""Filter: the items of a batch that a selector keeps."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, net_error, register_layer
from caffe2torch.layers._onnx import kept_rows


@register_layer()
class Filter(Layer):
    """Keeps item n of every bottom where selector[n] is not 0 (Caffe: filter_layer.cpp).

    Bottoms: blobs (N, ..), then the selector (N) or (N, 1, ..). One top for each blob, whose
    first axis has as many items as the selector keeps, known only when the net runs.
    """

    type = "Filter"
    bottoms = (2, None)
    tops = (1, None)
    free_axes = frozenset({0})
    barred_bottoms = frozenset({-1})

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        if len(proto.top) != len(proto.bottom) - 1:
            raise net_error(
                proto,
                f"{len(proto.top)} tops for {len(proto.bottom)} bottoms; there must be one for "
                "each bottom but the selector",
                "top",
            )
        return super().from_proto(proto)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        *blobs, selector = bottoms
        if not selector or prod(selector[1:]) != 1:
            raise self.net_error(f"the selector has shape {selector}; it must be (N) or (N, 1, ..)")
        for i, shape in enumerate(blobs):
            if shape[:1] != selector[:1]:
                raise self.net_error(
                    f"bottom {i} of shape {shape} does not have the selector's {selector[0]} items"
                )
        return blobs

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        *blobs, selector = inputs
        return [x[selector.flatten() != 0] for x in blobs]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        *blobs, selector = inputs
        flat = g.op("Reshape", selector, g.const([-1], np.int64))
        kept = g.op("Not", g.op("Equal", flat, g.const(0)))
        return [kept_rows(g, x, kept) for x in blobs]
