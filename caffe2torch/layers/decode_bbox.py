"""DecodeBBox: regions moved and resized by a stage of Cascade R-CNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    TEXT_ONLY,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
)
from caffe2torch.layers._mscnn import moved_boxes_onnx, positive_normalisation
from caffe2torch.layers._onnx import kept_rows


@register_layer()
class DecodeBBox(Layer):
    """The regions of the next stage (Cascade R-CNN's Caffe: decode_bbox_layer.cpp).

    Bottoms: offsets (R, 8), of which the last four are read; regions (R, 5), rows (image, x1,
    y1, x2, y2). The top is (R, 5, 1, 1). Offsets o are scaled by ``bbox_std`` and shifted by
    ``bbox_mean`` if both are given. A region with the centre c and the size s = x2 - x1 + 1
    becomes one with the centre c + s o_x and the size s exp(o_w), on each axis.

    In phase TRAIN inverted boxes are left out, so that R depends on the data; Caffe stops if
    none is left. With a third bottom, which only training may have, the matched true boxes
    (R, D), regions whose last number there, the overlap, is ``gt_iou_thr`` (default 0.95) or more
    are left out too. No gradient goes through it.
    """

    type = "DecodeBBox"
    bottoms = (2, 3)
    free_axes = frozenset({0})
    parameters = Parameters(
        ("bbox_reg_param", "decode_bbox_param"),
        f"""
        repeated float bbox_mean = 1;
        repeated float bbox_std = 2;
        optional bool cls_aware = 3 [default = true];
        optional float gt_iou_thr = {TEXT_ONLY + 104} [default = 0.95];
        """,
    )

    scales: tuple[float, ...]
    shifts: tuple[float, ...]
    upright: bool
    """Whether inverted boxes are left out."""
    overlap: float
    """From which overlap with the third bottom's boxes regions are left out."""

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        training = enum_name(proto, "phase") == "TRAIN"
        if len(proto.bottom) == 3 and not training:
            raise net_error(
                proto,
                "a third bottom, the matched true boxes, is for phase TRAIN only; read the net "
                "in it (--phase TRAIN)",
                "bottom",
            )
        param = cls.parameters.of(proto)
        scales, shifts = positive_normalisation(proto, param)
        return cls(proto.name, scales, shifts, training, param.gt_iou_thr)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        for shape, size in zip(bottoms[:2], (8, 5), strict=True):
            if len(shape) < 2 or shape[1] != size or np.prod(shape[2:]) != 1:
                raise self.net_error(f"a bottom's shape {shape} is not (R, {size})")
        if bottoms[0][0] != bottoms[1][0]:
            raise self.net_error(f"{bottoms[0][0]} offsets for {bottoms[1][0]} regions")
        if len(bottoms) == 3 and (len(bottoms[2]) < 2 or bottoms[2][0] != bottoms[0][0]):
            raise self.net_error(f"true boxes of shape {bottoms[2]} for {bottoms[1][0]} regions")
        return [(bottoms[1][0], 5, 1, 1)]

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return False

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        offsets, regions, *matched = inputs
        rows = t.runtime.decode_regions
        more = (matched[0], self.overlap) if matched else ()
        return rows(offsets, regions, self.scales, self.shifts, self.upright, *more)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        offsets, regions = (g.op("Flatten", value, axis=1) for value in inputs[:2])
        parts = g.const([1, 2, 2], np.int64)
        image, low, high = g.op("Split", regions, parts, axis=1, outputs=3)
        _, values = g.op("Split", offsets, g.const([4, 4], np.int64), axis=1, outputs=2)
        corner, far = moved_boxes_onnx(g, values, low, high, self.scales, self.shifts)
        rows = g.op("Concat", image, corner, far, axis=1)
        if self.upright:
            side = g.op("ReduceMin", g.op("Sub", far, corner), axes=[1], keepdims=0)
            kept = g.op("GreaterOrEqual", side, g.const(0.0))
            if len(inputs) == 3:
                matched = g.op("Flatten", inputs[2], axis=1)
                last = g.op("Gather", matched, g.const(-1, np.int64), axis=1)
                far_off = g.op("Not", g.op("GreaterOrEqual", last, g.const(self.overlap)))
                kept = g.op("And", kept, far_off)
            rows = kept_rows(g, rows, kept)
        return [g.op("Unsqueeze", rows, g.const([2, 3], np.int64))]
