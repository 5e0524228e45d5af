"""BoxOutput: the proposals of an MS-CNN net."""

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
from caffe2torch.layers._mscnn import REGRESSION, FieldBoxes, Fields


@register_layer()
class BoxOutput(FieldBoxes):
    """Proposals of several maps, after suppression (MS-CNN's Caffe: box_output_layer.cpp).

    Bottoms: maps (N, classes + 4, H, W): scores, those of the background first, then offsets
    (x, y, width, height). Each has a ``field_w``, a ``field_h`` and a ``downsample_rate``.
    Tops: proposals (R, 5, 1, 1), rows (image, x1, y1, x2, y2) by image and falling score, equal
    scores the later box first; and, if there is a second, the same with their scores
    (R, 6, 1, 1). R depends on the data; if nothing is proposed there is the one row
    (0, 1, 1, 10, 10), with score (0, 0, 0, 0, 0, 0).

    Offsets o are scaled by ``bbox_std`` and shifted by ``bbox_mean``, if both are given. The
    box of cell (x, y) has the centre ((x + 0.5) rate + field_w o_x, ..) with o_x limited to
    +-1 / ``field_xyr`` (default 2), and the width field_w exp(o_w) with o_w limited to
    +-log ``field_whr`` (2). It is cut off at the border of its map. Its score is that of the
    best class minus that of the background. Boxes that score ``fg_thr`` (0) or more and have
    sides of ``min_size`` (15) or more are taken, the best ``max_nms_num`` of an image (0, the
    default, is all); a box that overlaps a kept one by more than ``iou_thr`` (0.5) is dropped,
    and the best ``max_post_nms_num`` remain. ``nms_type`` is the overlap: the shared area over
    that of both together (IOU), of the smaller (IOMU) or of the kept box (IOFU).
    """

    type = "BoxOutput"
    parameters = Parameters(
        ("box_output_param", "bbox_reg_param"),
        f"""
        optional float fg_thr = 1 [default = 0];
        optional float iou_thr = 2 [default = 0.5];
        optional string nms_type = 3 [default = "IOU"];
        repeated uint32 field_h = 4;
        repeated uint32 field_w = 5;
        repeated uint32 downsample_rate = 6;
        optional float field_whr = 7 [default = 2];
        optional float field_xyr = 8 [default = 2];
        optional uint32 max_nms_num = 9 [default = 0];
        optional uint32 max_post_nms_num = 10 [default = 0];
        optional float min_size = 11 [default = 15];
        {REGRESSION}
        """,
    )

    fields: Fields

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        widths, heights, rates = p.field_w, p.field_h, p.downsample_rate
        if not len(widths) == len(heights) == len(rates) == len(proto.bottom):
            raise net_error(
                proto,
                f"{len(widths)} field_w, {len(heights)} field_h and {len(rates)} downsample_rate"
                f" for {len(proto.bottom)} bottoms",
                "box_output_param",
            )
        return cls(
            **cls.common(proto, p, "box_output_param"),
            strides=tuple(rates),
            fields=tuple(zip(widths, heights, strict=True)),
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        for shape in bottoms:
            if len(shape) != 4 or shape[0] != bottoms[0][0] or shape[1] < 6:
                raise self.net_error(
                    f"a bottom's shape {shape} is not ({bottoms[0][0]}, classes + 4, H, W)"
                )
        return self.top_shapes()

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        tops = t.runtime.box_output(tuple(inputs), fields=self.fields, **self.options())
        return tops if self.num_tops == 2 else tops[0]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        lows, sides, scores, count = [], [], [], 0
        for value, field, stride in zip(inputs, self.fields, self.strides, strict=True):
            _, channels, height, width = g.shape(value)
            parts = g.const([1, channels - 5, 4], np.int64)
            ground, classes, offsets = g.op("Split", value, parts, axis=1, outputs=3)
            best = g.op("ReduceMax", classes, axes=[1], keepdims=1)
            scores.append(g.op("Flatten", g.op("Sub", best, ground), axis=1))
            low, side = self.field_boxes_onnx(g, offsets, (height, width), field, stride)
            lows.append(g.op("Max", low, g.const(0.0)))
            limit = g.const([width * stride, height * stride])
            sides.append(g.op("Min", side, g.op("Sub", limit, lows[-1])))
            count += height * width
        low, side, score = (_last_first(g, parts) for parts in (lows, sides, scores))
        boxes = g.op("Concat", low, g.op("Add", low, side), axis=2)
        return self.tops_onnx(g, boxes, side, score, count, 0)


def _last_first(g: OnnxBuilder, parts: Sequence[str]) -> str:
    """Of equal scores TopK takes the first, and Caffe the later box."""
    joined = g.op("Concat", *parts, axis=1)
    ends = ([-1], [np.iinfo(np.int64).min], [1], [-1])
    return str(g.op("Slice", joined, *(g.const(end, np.int64) for end in ends)))
