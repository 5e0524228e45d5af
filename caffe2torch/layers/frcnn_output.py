"""FrcnnOutput: the detections of a Cascade R-CNN net."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    register_layer,
)
from caffe2torch.layers._boxes_onnx import LOWEST
from caffe2torch.layers._mscnn import (
    REGRESSION,
    check_overlap_onnx,
    moved_boxes_onnx,
    overlap_of,
    positive_normalisation,
)
from caffe2torch.layers._proposals import keep_boxes_onnx


@register_layer()
class FrcnnOutput(Layer):
    """Detections after suppression, of one image (Cascade R-CNN's Caffe: frcnn_output_layer.cpp).

    Bottoms: probabilities (R, C), the background's first; offsets (R, 4C), or (R, 8) if not
    ``cls_aware``; regions (R, 5) or (R, 6), rows (0, x1, y1, x2, y2, ..); the image's (height,
    width), (1, 2). The top is (K + 1, 7, 1, 1), rows (0, x1, y1, x2, y2, label, score) by label and
    falling score after a first row (0, -1, -1, -1, -1, -1, -1). K depends on the data.

    Regions are moved and resized as by DecodeBBox, for each class by its own offsets, and cut
    off at the border of the image. Of each class those with a probability of ``conf_thr``
    (default 0) or more are taken; a box that overlaps a kept one by more than ``iou_thr`` (0.5)
    is dropped (``nms_type`` as in BoxOutput), and the best ``max_det_num`` remain (0, the default,
    is all). Boxes that are apart by less than a pixel share the rest of it here, and nothing in
    Caffe. ``save_output_param`` has effects outside the net and is left out. Equal scores are
    in the order of the regions, which Caffe's sort leaves open. No gradient goes through it.
    """

    type = "FrcnnOutput"
    bottoms = (4, 4)
    free_axes = frozenset({0})
    parameters = Parameters(
        ("frcnn_output_param", "bbox_reg_param"),
        f"""
        optional float conf_thr = 1 [default = 0];
        optional float iou_thr = 2 [default = 0.5];
        optional string nms_type = 3 [default = "IOU"];
        optional uint32 max_det_num = 4 [default = 0];
        optional SaveOutputParameter save_output_param = 5;
        {REGRESSION}
        """,
    )

    scales: tuple[float, ...]
    shifts: tuple[float, ...]
    by_class: bool
    score_threshold: float
    threshold: float
    overlap: str
    most: int | None

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        scales, shifts = positive_normalisation(proto, p)
        return cls(
            name=proto.name,
            scales=scales,
            shifts=shifts,
            by_class=p.cls_aware,
            score_threshold=p.conf_thr,
            threshold=p.iou_thr,
            overlap=overlap_of(p.nms_type),
            most=p.max_det_num or None,
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        scores, offsets, regions, image = bottoms
        classes = scores[1] if len(scores) > 1 else 0
        wanted = 4 * classes if self.by_class else 8
        sizes = {"probabilities": (scores, {classes}), "offsets": (offsets, {wanted})}
        for what, (shape, columns) in {**sizes, "regions": (regions, {5, 6})}.items():
            if len(shape) < 2 or shape[1] not in columns or prod(shape[2:]) != 1:
                raise self.net_error(f"the {what}' shape {shape} is not (R, {max(columns)})")
            if shape[0] != scores[0]:
                raise self.net_error(f"{shape[0]} {what} for {scores[0]} probabilities")
        if classes < 2:
            raise self.net_error(f"probabilities {scores} are of no class but the background")
        if image[:2] != (1, 2) or prod(image) != 2:
            raise self.net_error(f"the image's shape {image} is not (1, 2)")
        return [(1, 7, 1, 1)]

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return False

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.frcnn_output(
            *inputs,
            scales=self.scales,
            shifts=self.shifts,
            by_class=self.by_class,
            score_threshold=self.score_threshold,
            threshold=self.threshold,
            overlap=self.overlap,
            most=self.most,
        )

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        check_overlap_onnx(self, self.overlap)
        flat = [g.op("Flatten", value, axis=1) for value in inputs]
        classes = g.shape(inputs[0])[1]
        parts = g.const([1, classes - 1], np.int64)
        _, scores = g.op("Split", flat[0], parts, axis=1, outputs=2)
        scores = g.op("Transpose", scores, perm=[1, 0])
        high = g.op("GreaterOrEqual", scores, g.const(self.score_threshold))
        scores = g.op("Where", high, scores, g.const(LOWEST))
        boxes = self._boxes_onnx(g, flat[1:], classes)
        rows, _ = keep_boxes_onnx(g, boxes, scores, None, (None, None), self.threshold, 1)
        if self.most is not None:
            rows = self._best_onnx(g, rows, self.most)
        parts = g.const([1, 4, 1], np.int64)
        label, box, found = g.op("Split", rows, parts, axis=1, outputs=3)
        zero = g.op("Mul", label, g.const(0.0))
        table = g.op("Concat", zero, box, g.op("Add", label, g.const(1.0)), found, axis=1)
        table = g.op("Concat", g.const([[0] + [-1] * 6]), table, axis=0)
        return [g.op("Unsqueeze", table, g.const([2, 3], np.int64))]

    def _boxes_onnx(self, g: OnnxBuilder, inputs: Sequence[str], classes: int) -> str:
        """The boxes (classes - 1, R, 4)."""
        offsets, regions, image = inputs
        count = classes if self.by_class else 2
        values = g.op("Reshape", offsets, g.const([0, count, 4], np.int64))
        values = g.op("Transpose", values, perm=[1, 0, 2])
        parts = g.const([1, count - 1], np.int64)
        _, values = g.op("Split", values, parts, axis=0, outputs=2)
        low, high = (
            g.op("Gather", regions, g.const(columns, np.int64), axis=1)
            for columns in ([1, 2], [3, 4])
        )
        corner, far = moved_boxes_onnx(g, values, low, high, self.scales, self.shifts)
        limit = g.op("Gather", image, g.const([1, 0], np.int64), axis=1)
        far = g.op("Min", far, limit)
        boxes = g.op("Concat", g.op("Max", corner, g.const(0.0)), far, axis=2)
        if self.by_class:
            return str(boxes)
        return str(g.op("Expand", boxes, g.const([classes - 1, 1, 1], np.int64)))

    def _best_onnx(self, g: OnnxBuilder, rows: str, most: int) -> str:
        """The rows (K, 6) that score best, in their order."""
        scores = g.op("Gather", rows, g.const(5, np.int64), axis=1)
        count = g.op("Min", g.op("Shape", scores), g.const([most], np.int64))
        _, index = g.op("TopK", scores, count, axis=0, outputs=2)
        index, _ = g.op("TopK", index, count, axis=0, largest=0, outputs=2)
        return str(g.op("Gather", rows, index, axis=0))
