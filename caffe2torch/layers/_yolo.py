"""What the outputs of YOLO's forks share: torch and ONNX form of the detections."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers._base import Layer, net_error
from caffe2torch.layers._boxes_onnx import (
    LOWEST,
    fixed_rows_onnx,
    rows_or_none_onnx,
    suppress_onnx,
)
from caffe2torch.layers._builders import OnnxBuilder, TorchBuilder
from caffe2torch.layers._onnx import check_constant, kept_rows, to_float
from caffe2torch.layers._spatial import require_axes

Anchors = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class YoloOutput(Layer):
    """Base: boxes decoded from maps (N, A * (5 + C), H, W), then suppressed all together.

    Each of A boxes of a cell has the channels x, y, w, h, objectness and C classes. Its
    centre is ((column + sigmoid x) / W, (row + sigmoid y) / H), its size
    (exp w * anchor width / W, exp h * anchor height / H), anchors in cells. The top is
    (1, 1, K, 7), rows (0, label + 1, score, xmin, ymin, xmax, ymax) in falling order of score,
    equal scores by map, image, cell, anchor and class. A box that overlaps a better one by
    ``nms_threshold`` or more goes, whatever their classes and images. Boxes are not clipped. K
    depends on the data; without any detection there is a row (image, -1, ..) for each image.
    """

    free_axes: ClassVar[frozenset[int]] = frozenset({2})
    fixes_batch: ClassVar[bool] = True

    num_classes: int
    confidence_threshold: float
    nms_threshold: float

    softmax: ClassVar[bool]
    """Whether a box has its best class by softmax, not all classes by sigmoid."""

    @abstractmethod
    def anchors(self, index: int) -> Anchors:
        """Width and height, in cells, of the boxes of a cell of map ``index``."""

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        for index, shape in enumerate(bottoms):
            require_axes(self, shape)
            self.check_channels(shape, len(self.anchors(index)))
        return [(1, 1, 1, 7)]

    def check_channels(self, shape: Shape, boxes: int) -> None:
        """Raise NetError unless a map of this shape has the channels of so many boxes."""
        if shape[1] != boxes * (5 + self.num_classes):
            raise self.net_error(
                f"a bottom of shape {shape} should have {boxes} x (5 + {self.num_classes}) channels"
            )

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.yolo_detections(
            *inputs,
            anchors=t.exact([self.anchors(index) for index in range(len(bottoms))]),
            num_classes=self.num_classes,
            softmax=self.softmax,
            confidence_threshold=self.confidence_threshold,
            nms_threshold=self.nms_threshold,
        )

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        if self.nms_threshold <= 0:
            raise self.unsupported(
                "NonMaxSuppression of ONNX cannot drop boxes that do not overlap", "nms_threshold"
            )
        parts = [self._boxes_onnx(g, x, self.anchors(i)) for i, x in enumerate(inputs)]
        boxes, scores, labels = (
            g.op("Concat", *part, axis=0) if len(part) > 1 else part[0]
            for part in zip(*parts, strict=True)
        )
        count = sum(self._count(g.shape(x), self.anchors(i)) for i, x in enumerate(inputs))
        most = g.const([count], np.int64)
        scores, order = g.op("TopK", scores, most, axis=0, outputs=2)
        boxes, labels = g.op("Gather", boxes, order), g.op("Gather", labels, order)
        one = g.const([0], np.int64)
        # What overlaps by more than the number before the threshold overlaps by the threshold.
        limit = float(np.nextafter(np.float32(self.nms_threshold), np.float32(0)))
        kept = suppress_onnx(
            g,
            g.op("Unsqueeze", boxes, one),
            g.op("Unsqueeze", scores, one),
            count,
            [limit],
        )
        side = g.const([1], np.int64)
        head = [g.op("Unsqueeze", value, side) for value in (labels, scores)]
        zero = g.op("Mul", head[0], g.const(0.0))
        rows = g.op("Concat", zero, *head, boxes, axis=1)
        kept = g.op("Squeeze", kept, one)
        if g.fixed_rows:
            images = g.shape(inputs[0])[0]
            return [fixed_rows_onnx(g, rows, kept, count, total=count, batch=images)]
        rows = kept_rows(g, rows, kept)
        return [rows_or_none_onnx(g, rows, kept, g.op("Shape", inputs[0], start=0, end=1))]

    def _count(self, shape: Shape, anchors: Anchors) -> int:
        boxes = shape[0] * shape[2] * shape[3] * len(anchors)
        return boxes if self.softmax else boxes * self.num_classes

    def _boxes_onnx(self, g: OnnxBuilder, x: str, anchors: Anchors) -> tuple[str, str, str]:
        """Boxes (M, 4), scores (M), LOWEST for no detection, and labels + 1 (M) of a map."""
        _, channels, height, width = g.shape(x)
        check_constant(height * width * 2)
        each = channels // len(anchors)
        x = g.op("Reshape", x, g.const([0, len(anchors), each, height, width], np.int64))
        x = g.op("Transpose", x, perm=[0, 3, 4, 1, 2])
        rest = each - 5 - self.num_classes
        sizes = [2, 2, 1, self.num_classes] + [rest] * (rest > 0)
        middle, size, objects, classes = g.op(
            "Split", x, g.const(sizes, np.int64), axis=4, outputs=len(sizes)
        )[:4]
        rows, columns = np.mgrid[:height, :width]
        cells = np.stack([columns, rows], -1)[None, :, :, None]
        plane = np.array([width, height])
        middle = g.op("Div", g.op("Add", g.op("Sigmoid", middle), g.const(cells)), g.const(plane))
        half = g.op("Mul", g.op("Exp", size), g.const(np.array(anchors) / plane / 2))
        boxes = g.op("Concat", g.op("Sub", middle, half), g.op("Add", middle, half), axis=4)
        objects = g.op("Sigmoid", objects)
        if self.softmax:
            classes = g.op("Softmax", classes, axis=4)
            labels = to_float(g, g.op("ArgMax", classes, axis=4))
            scores = g.op("Mul", objects, g.op("ReduceMax", classes, axes=[4]))
            low = g.op("Less", scores, g.const(self.confidence_threshold))
        else:
            scores = g.op("Mul", objects, g.op("Sigmoid", classes))
            names = g.const(np.arange(self.num_classes))
            labels = g.op("Expand", names, g.op("Shape", scores))
            low = g.op("LessOrEqual", scores, g.const(self.confidence_threshold))
            boxes = g.op("Unsqueeze", boxes, g.const([4], np.int64))
            boxes = g.op("Expand", boxes, g.const([1] * 4 + [self.num_classes, 1], np.int64))
        scores = g.op("Where", low, g.const(LOWEST), scores)
        flat = g.const([-1], np.int64)
        labels = g.op("Add", g.op("Reshape", labels, flat), g.const(1.0))
        boxes = g.op("Reshape", boxes, g.const([-1, 4], np.int64))
        return boxes, g.op("Reshape", scores, flat), labels


def check_count(proto: Message, field: str, given: int, wanted: int, what: str) -> None:
    """Raise NetError if a repeated field has fewer than ``wanted`` values."""
    if given < wanted:
        raise net_error(proto, f"{given} values are given, {what} {wanted}", field)
