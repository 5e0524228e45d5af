"""The boxes of MS-CNN and Cascade R-CNN: what their output layers share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.parameters import TEXT_ONLY
from caffe2torch.io.schema import Message
from caffe2torch.layers._base import Layer, net_error
from caffe2torch.layers._boxes_onnx import LOWEST, rows_or_onnx
from caffe2torch.layers._builders import OnnxBuilder
from caffe2torch.layers._onnx import check_constant
from caffe2torch.layers._proposals import keep_boxes_onnx

Fields = tuple[tuple[float, float], ...]
"""Widths and heights of the boxes that offsets of 0 stand for."""


REGRESSION = f"""
    repeated float bbox_mean = {TEXT_ONLY + 101};
    repeated float bbox_std = {TEXT_ONLY + 102};
    optional bool cls_aware = {TEXT_ONLY + 103} [default = true];
"""
"""The BBoxRegParameter of layers that have a message of their own beside it."""


def normalisation(proto: Message, param: Message) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The ``bbox_std`` and ``bbox_mean`` of a BBoxRegParameter; 1 and 0 unless both are given."""
    scales, shifts = tuple(param.bbox_std), tuple(param.bbox_mean)
    if not scales or not shifts:
        return (1.0,) * 4, (0.0,) * 4
    if len(scales) != 4 or len(shifts) != 4:
        raise net_error(proto, "bbox_mean and bbox_std need four values each", "bbox_reg_param")
    return scales, shifts


def positive_normalisation(
    proto: Message, param: Message
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """``normalisation``; raises NetError for a ``bbox_std`` that is not positive."""
    scales, shifts = normalisation(proto, param)
    if min(scales) <= 0:
        raise net_error(proto, "must be positive", "bbox_reg_param.bbox_std")
    return scales, shifts


def overlap_of(nms_type: str) -> str:
    """The overlap that ``nms_type`` names: IOU, which any other word is too, IOMU or IOFU."""
    return nms_type if nms_type in ("IOMU", "IOFU") else "IOU"


def check_overlap_onnx(layer: Layer, overlap: str) -> None:
    """Raise UnsupportedLayerError for an overlap that only the torch form has."""
    if overlap != "IOU":
        raise layer.unsupported(
            f"{overlap} is an overlap that ONNX's NonMaxSuppression does not have;"
            " convert to torch",
            "nms_type",
        )


def moved_boxes_onnx(
    g: OnnxBuilder,
    offsets: str,
    low: str,
    high: str,
    scales: Sequence[float],
    shifts: Sequence[float],
) -> tuple[str, str]:
    """``moved_boxes`` for offsets and corners whose last axis is the coordinate."""
    offsets = g.op("Add", g.op("Mul", offsets, g.const(scales)), g.const(shifts))
    move, grow = g.op("Split", offsets, g.const([2, 2], np.int64), axis=-1, outputs=2)
    one, half = g.const(1.0), g.const(0.5)
    old = g.op("Add", g.op("Sub", high, low), one)
    size = g.op("Mul", old, g.op("Exp", grow))
    centre = g.op("Mul", half, g.op("Add", high, low))
    centre = g.op("Add", g.op("Mul", move, old), centre)
    corner = g.op("Sub", centre, g.op("Mul", half, g.op("Sub", size, one)))
    return corner, g.op("Sub", g.op("Add", corner, size), one)


@dataclass(frozen=True)
class FieldBoxes(Layer):
    """Base of BoxOutput and BoxGroupOutput: boxes around the cells of several maps."""

    bottoms = (1, None)
    tops = (1, 2)
    free_axes = frozenset({0})

    strides: tuple[int, ...]
    bounds: tuple[float, float]
    """Limits of the centres' offsets and of the sizes' logarithms."""
    scales: tuple[float, ...]
    shifts: tuple[float, ...]
    score_threshold: float
    min_size: float
    limits: tuple[int | None, int | None]
    """The most boxes of an image before and after suppression; None is no limit."""
    threshold: float
    overlap: str
    num_tops: int

    @staticmethod
    def common(proto: Message, param: Message, field: str) -> dict[str, Any]:
        """The fields of this class by name, but ``strides``."""
        if param.field_whr <= 0 or param.field_xyr <= 0:
            raise net_error(proto, "field_whr and field_xyr must be positive", field)
        scales, shifts = normalisation(proto, param)
        return {
            "name": proto.name,
            "bounds": (1 / param.field_xyr, math.log(param.field_whr)),
            "scales": scales,
            "shifts": shifts,
            "score_threshold": param.fg_thr,
            "min_size": param.min_size,
            "limits": (param.max_nms_num or None, param.max_post_nms_num or None),
            "threshold": param.iou_thr,
            "overlap": overlap_of(param.nms_type),
            "num_tops": len(proto.top),
        }

    def top_shapes(self) -> Sequence[Shape]:
        """The shapes of the tops for one box; how many there are depends on the data."""
        return [(1, 5, 1, 1), (1, 6, 1, 1)][: self.num_tops]

    def options(self) -> dict[str, Any]:
        """The arguments that both torch forms have."""
        names = ("strides", "bounds", "scales", "shifts", "score_threshold", "min_size")
        return {n: getattr(self, n) for n in (*names, "limits", "threshold", "overlap")}

    def field_boxes_onnx(
        self, g: OnnxBuilder, offsets: str, size: Sequence[int], field: Any, stride: int
    ) -> tuple[str, str]:
        """``field_boxes`` for maps of ``size`` (height, width): low corners and sizes."""
        height, width = size
        check_constant(height * width * 2)
        values = g.op("Transpose", offsets, perm=[0, 2, 3, 1])
        values = g.op("Reshape", values, g.const([0, height * width, 4], np.int64))
        values = g.op("Add", g.op("Mul", values, g.const(self.scales)), g.const(self.shifts))
        move, grow = g.op("Split", values, g.const([2, 2], np.int64), axis=2, outputs=2)
        far, large = self.bounds
        y, x = np.mgrid[:height, :width]
        middle = (np.stack([x, y], -1).reshape(-1, 2).astype(np.float32) + 0.5) * stride
        extent = g.const(field)
        move = g.op("Clip", move, g.const(-far), g.const(far))
        grow = g.op("Clip", grow, g.const(-large), g.const(large))
        centre = g.op("Add", g.op("Mul", move, extent), g.const(middle))
        side = g.op("Mul", extent, g.op("Exp", grow))
        return str(g.op("Sub", centre, g.op("Div", side, g.const(2.0)))), str(side)

    def tops_onnx(
        self, g: OnnxBuilder, boxes: str, sides: str, scores: str, count: int, pixel: int
    ) -> Sequence[str]:
        """The tops, of all ``count`` boxes (N, K, 4) with sides (N, K, 2) and scores (N, K)."""
        check_overlap_onnx(self, self.overlap)
        low = g.op("ReduceMin", sides, axes=[2], keepdims=0)
        large = g.op("GreaterOrEqual", low, g.const(self.min_size))
        high = g.op("GreaterOrEqual", scores, g.const(self.score_threshold))
        scores = g.op("Where", g.op("And", large, high), scores, g.const(LOWEST))
        rows, kept = keep_boxes_onnx(g, boxes, scores, count, self.limits, self.threshold, pixel)
        regions, _ = g.op("Split", rows, g.const([5, 1], np.int64), axis=1, outputs=2)
        regions = rows_or_onnx(g, regions, kept, g.const([(0, 1, 1, 10, 10)]))
        axes = g.const([2, 3], np.int64)
        tops = [regions, rows_or_onnx(g, rows, kept, g.const([[0] * 6]))][: self.num_tops]
        return [g.op("Unsqueeze", top, axes) for top in tops]
