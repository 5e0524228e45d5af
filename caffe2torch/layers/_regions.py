"""Regions of a map, on a grid of fixed size: what the layers that pool them share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.parameters import Parameters
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers._base import Layer, net_error, unsupported
from caffe2torch.layers._builders import OnnxBuilder
from caffe2torch.layers._onnx import to_float, to_int


@dataclass(frozen=True)
class PooledRegions(Layer):
    """Base of ROIPooling and ROIAlign, which read ``roi_pooling_param``.

    Bottoms: a map (N, C, H, W); regions (R, 5), rows (image, x1, y1, x2, y2).
    """

    parameters = Parameters(
        "roi_pooling_param",
        """
        optional uint32 pooled_h = 1 [default = 0];
        optional uint32 pooled_w = 2 [default = 0];
        optional float spatial_scale = 3 [default = 1];
        optional float pad_ratio = 4 [default = 0];
        """,
    )
    bottoms = (2, 2)

    pooled: tuple[int, int]
    spatial_scale: float
    pad_ratio: float = 0

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        return cls(proto.name, pooled_size(proto, cls.parameters), p.spatial_scale, p.pad_ratio)


def pooled_size(proto: Message, parameters: Parameters) -> tuple[int, int]:
    """``pooled_h`` and ``pooled_w``. Raises NetError if one of them is 0."""
    param = parameters.of(proto)
    for field in ("pooled_h", "pooled_w"):
        if not getattr(param, field):
            raise net_error(proto, "must be greater than 0", f"{parameters.fields[0]}.{field}")
    return param.pooled_h, param.pooled_w


def refuse_training(proto: Message) -> None:
    """Raise UnsupportedLayerError for a layer of MNC that would sample regions with true boxes."""
    if enum_name(proto, "phase") == "TRAIN":
        raise unsupported(
            proto,
            "in phase TRAIN it chooses regions by the true boxes and masks, which is not "
            "converted; read the net for phase TEST",
            "phase",
        )


def check_regions(layer: Layer, data: Shape, regions: Shape, *, columns: int = 5) -> None:
    """Raise NetError unless the bottoms can be a map and rows (image, x1, y1, x2, y2, ..)."""
    if len(data) != 4:
        raise layer.net_error(f"the map's shape {data} is not (N, C, H, W)")
    size = 1
    for axis in regions[1:]:
        size *= axis
    if not regions or size != columns:
        raise layer.net_error(f"the regions' shape {regions} is not (R, {columns})")


def pad_regions_onnx(g: OnnxBuilder, regions: str, ratio: float) -> str:
    """Rows (image, x1, y1, x2, y2), longer at both ends by ``ratio`` times their length."""
    if not ratio:
        return regions
    image, low, high = g.op("Split", regions, g.const([1, 2, 2], np.int64), axis=1, outputs=3)
    length = g.op("Add", g.op("Sub", high, low), g.const(1.0))
    pad = g.op("Mul", length, g.const(ratio))
    return str(g.op("Concat", image, g.op("Sub", low, pad), g.op("Add", high, pad), axis=1))


def bin_places_onnx(g: OnnxBuilder, first: str, size: str, bins: int, count: int) -> str:
    """``first`` + i ``size`` / ``bins`` for i below ``count``: (R, count) of two (R, 1)."""
    step = g.op("Div", size, g.const(float(bins)))
    index = g.const(np.arange(count, dtype=np.float32)[None])
    return str(g.op("Add", first, g.op("Mul", index, step)))


def cells_beside_onnx(
    g: OnnxBuilder, place: str, counts: str, limit: int, axis: int
) -> list[tuple[str, str]]:
    """``cells_beside`` with an axis of 1 inserted at ``axis``."""
    inside = g.op("GreaterOrEqual", place, g.const(-0.5))
    inside = g.op("And", inside, g.op("LessOrEqual", place, g.const(limit - 0.5)))
    inside = to_float(g, g.op("And", inside, counts))
    ends = g.const(0.0), g.const(float(limit - 1))
    low = g.op("Floor", place)
    cells = [g.op("Clip", edge, *ends) for edge in (low, g.op("Add", low, g.const(1.0)))]
    part = g.op("Sub", g.op("Clip", place, *ends), cells[0])
    weights = [g.op("Sub", g.const(1.0), part), part]
    where = g.const([axis], np.int64)
    return [
        (
            g.op("Unsqueeze", to_int(g, cell), where),
            g.op("Unsqueeze", g.op("Mul", inside, weight), where),
        )
        for cell, weight in zip(cells, weights, strict=True)
    ]


def between_cells_onnx(
    g: OnnxBuilder,
    data: str,
    image: str,
    rows: list[tuple[str, str]],
    columns: list[tuple[str, str]],
) -> str:
    """``between_cells`` for image indices (R, 1), which are numbers still."""
    _, channels, height, width = g.shape(data)
    # Gather would count an index below 0 from the end: make it one that is refused.
    image = to_int(g, image)
    below = g.op("Less", image, g.const(0, np.int64))
    image = g.op("Where", below, g.const(2**31, np.int64), image)
    image = g.op("Unsqueeze", image, g.const([2], np.int64))
    first = g.op("Mul", image, g.const(height * width, np.int64))
    cells = g.op("Transpose", data, perm=[0, 2, 3, 1])
    cells = g.op("Reshape", cells, g.const([-1, channels], np.int64))
    total = ""
    for y, wy in rows:
        start = g.op("Add", first, g.op("Mul", y, g.const(width, np.int64)))
        for x, wx in columns:
            value = g.op("Gather", cells, g.op("Add", start, x))
            weight = g.op("Unsqueeze", g.op("Mul", wy, wx), g.const([3], np.int64))
            part = g.op("Mul", weight, value)
            total = g.op("Add", total, part) if total else part
    return str(g.op("Transpose", total, perm=[0, 3, 1, 2]))
