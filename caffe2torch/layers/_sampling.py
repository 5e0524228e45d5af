"""Layers that read an image at given places: shapes, and the ONNX form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder
from caffe2torch.layers._onnx import check_constant, to_int
from caffe2torch.layers._spatial import require_axes


@dataclass(frozen=True)
class Sampling(Layer):
    """y[p] = image[places[p]], bilinear between the four pixels around, which are 0 outside.

    Bottoms: image (N, C, H, W), places (N, 2, H', W'), the column and then the row. Top
    (N, C, H', W').
    """

    bottoms = (2, 2)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        image, places = bottoms
        require_axes(self, image)
        require_axes(self, places)
        if places[:2] != (image[0], 2):
            raise self.net_error(
                f"places of shape {places} do not fit an image of shape {image}: they need "
                f"{image[0]} items of 2 channels"
            )
        return [(*image[:2], *places[2:])]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.sample_pixels(*inputs)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        image, places = inputs
        x, y = g.op("Split", places, outputs=2, axis=1)
        return [sample_pixels_onnx(g, image, x, y, g.shape(places)[2:])]


def own_places_onnx(g: OnnxBuilder, flow: str) -> tuple[str, str]:
    """The column and the row of each pixel, moved by ``flow`` (N, 2, H, W)."""
    height, width = g.shape(flow)[2:]
    check_constant(height + width)
    grids = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    parts = g.op("Split", flow, outputs=2, axis=1)
    x, y = (g.op("Add", part, g.const(grid)) for part, grid in zip(parts, grids, strict=True))
    return x, y


def sample_pixels_onnx(
    g: OnnxBuilder, image: str, x: str, y: str, sizes: Shape, within: bool = False
) -> str:
    """``image`` at the columns ``x`` and rows ``y`` (N, 1, H', W') of ``sizes``; see ``Sampling``.

    With ``within``, all that is not between the outermost pixels is 0.
    """
    _, channels, height, width = g.shape(image)
    zero, one = g.const(0.0), g.const(1.0)

    def edges(first: str, place: str, size: int) -> list[tuple[str, str, str]]:
        """The two pixels around ``place`` on one axis, their shares, and whether they exist."""
        last = g.op("Add", first, one)
        shares = g.op("Sub", last, place), g.op("Sub", place, first)
        return [
            (n, share, between(n, size - 1)) for n, share in zip((first, last), shares, strict=True)
        ]

    def between(place: str, last: float) -> str:
        above = g.op("GreaterOrEqual", place, zero)
        return str(g.op("And", above, g.op("LessOrEqual", place, g.const(float(last)))))

    flat = g.op("Reshape", image, g.const([0, 0, height * width], np.int64))
    total = ""
    for rows, share_y, row_inside in edges(g.op("Floor", y), y, height):
        for columns, share_x, column_inside in edges(g.op("Floor", x), x, width):
            inside = g.op("And", row_inside, column_inside)
            at = g.op("Add", g.op("Mul", rows, g.const(float(width))), columns)
            at = to_int(g, g.op("Where", inside, at, zero))
            at = g.op("Reshape", at, g.const([0, 1, -1], np.int64))
            at = g.op("Expand", at, g.const([1, channels, 1], np.int64))
            pixels = g.op("GatherElements", flat, at, axis=2)
            pixels = g.op("Reshape", pixels, g.const([0, 0, *sizes], np.int64))
            part = g.op("Mul", g.op("Mul", share_y, share_x), pixels)
            part = g.op("Where", inside, part, zero)
            total = str(g.op("Add", total, part)) if total else part
    if within:
        inside = g.op("And", between(x, width - 1), between(y, height - 1))
        total = str(g.op("Where", inside, total, zero))
    return total
