"""The Python layer of MNC that moves regions for the next stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._onnx import ints
from caffe2torch.layers._regions import check_regions, refuse_training


@register_layer("Python pylayer.stage_bridge_layer.StageBridgeLayer")
class StageBridgeLayer(Layer):
    """Regions moved by the offsets of their best class (MNC, lib/pylayer/stage_bridge_layer.py).

    Bottoms: regions (R, 5), rows (image, x1, y1, x2, y2); offsets (R, 4C); scores (R, C); rows
    (height, width, ..) of the images, of which the first is read. The top is (R, 5), its first
    column 0. A region with the centre c and the size s = x2 - x1 + 1 becomes c + s o_x -+ s
    exp(o_w) / 2, on each axis, with the offsets of the class, the background's among them, that
    scores most, and is cut off at the image's border. No gradient goes through it. Refused:
    phase TRAIN. ``param_str`` is not read in phase TEST.
    """

    type = "Python pylayer.stage_bridge_layer.StageBridgeLayer"
    bottoms = (4, 4)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        refuse_training(proto)
        return cls(proto.name)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        regions, offsets, scores, info = bottoms
        check_regions(self, (1, 1, 1, 1), regions)
        if len(scores) != 2 or offsets != (scores[0], 4 * scores[1]) or regions[0] != scores[0]:
            raise self.net_error(
                f"regions {regions}, offsets {offsets} and scores {scores} are not (R, 5), "
                "(R, 4C) and (R, C)"
            )
        if len(info) != 2 or info[1] < 2:
            raise self.net_error(f"the image's shape {info} is not (1, 3), (height, width, scale)")
        return [(regions[0], 5)]

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return False

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.bridge_stages(*inputs)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        regions = g.op("Reshape", inputs[0], g.const([-1, 5], np.int64))
        parts = g.const([1, 2, 2], np.int64)
        image, low, high = g.op("Split", regions, parts, axis=1, outputs=3)
        best = g.op("ArgMax", inputs[2], axis=1, keepdims=1)
        offsets = g.op("Reshape", inputs[1], g.const([0, -1, 4], np.int64))
        best = g.op("Expand", g.op("Unsqueeze", best, *ints(g, 2)), g.const([1, 1, 4], np.int64))
        offsets = g.op("Squeeze", g.op("GatherElements", offsets, best, axis=1), *ints(g, 1))
        move, grow = g.op("Split", offsets, g.const([2, 2], np.int64), axis=1, outputs=2)
        half = g.const(0.5)
        size = g.op("Add", g.op("Sub", high, low), g.const(1.0))
        centre = g.op("Add", low, g.op("Mul", half, size))
        centre = g.op("Add", g.op("Mul", move, size), centre)
        half = g.op("Mul", half, g.op("Mul", g.op("Exp", grow), size))
        row = g.op("Gather", inputs[3], g.const([0], np.int64))
        limit = g.op("Sub", g.op("Gather", row, g.const([1, 0], np.int64), axis=1), g.const(1.0))
        edges = (g.op("Sub", centre, half), g.op("Add", centre, half))
        zero = g.const(0.0)
        edges = tuple(g.op("Max", g.op("Min", edge, limit), zero) for edge in edges)
        return [g.op("Concat", g.op("Mul", image, zero), *edges, axis=1)]
