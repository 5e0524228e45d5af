"""DetectionOutput: the detections of an SSD net."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    TEXT_ONLY,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)
from caffe2torch.layers._boxes_onnx import (
    BOOL,
    LOWEST,
    decode_boxes_onnx,
    falling_thresholds,
    fixed_rows_onnx,
    move_corners_onnx,
    rows_or_none_onnx,
    suppress_onnx,
)
from caffe2torch.layers._onnx import check_constant, places_of, to_float

MOST_THRESHOLDS = 64
"""The longest row of falling thresholds that is written out in ONNX, box by box."""


@register_layer()
class DetectionOutput(Layer):
    """Decoded boxes after suppression, as rows (SSD's Caffe: detection_output_layer.cpp).

    Bottoms: offsets (N, 4P), or (N, P * classes * 4) if not ``share_location``; scores
    (N, P * classes), used as they are; priors (1, 2, 4P), boxes and variances (PriorBox).
    The top is (1, 1, K, 7), rows (image, label, score, xmin, ymin, xmax, ymax) by image,
    then label, then falling score. K depends on the data; without any detection there is a
    row (image, -1, -1, -1, -1, -1, -1) for each image.

    Of each image and class but ``background_label_id`` (default 0) the boxes that score
    more than ``confidence_threshold`` (default none) are taken, best first, equal scores by
    index; at most ``top_k`` of them; a box that overlaps a kept one by more than
    ``nms_threshold`` (default 0.3) is dropped, the threshold falling by ``eta`` (see
    ``suppress``). Then the best ``keep_top_k`` of an image remain. A negative limit, the
    default, is none. ``code_type`` (default CORNER) is explained at ``decode_boxes``;
    ``variance_encoded_in_target`` ignores the variances. ``clip`` (OpenCV's and OpenVINO's,
    default false) limits the decoded boxes to [0, 1] before the suppression.

    RefineDet's fork (sfzhang15/RefineDet) may have two more bottoms of the anchor refinement: its
    scores (N, 2P), and its offsets (N, 4P), which need ``share_location``. Where the second score
    of a prior is below ``objectness_score`` (default 0.01), its scores are 1 for label 0 and 0
    for others. The offsets move the priors, by the same code, before those of bottom 0.

    ``use_polygon`` (TextBoxes++) has offsets of 12 values a prior, of a box and of the corners of
    a quadrangle, clockwise from the top left: corner k of the prior moves by variance * l * size
    with the variances of its centre. Rows have these 8 numbers after the box. It needs
    CENTER_SIZE with variances; ``use_polygon: false``, another form of that fork, is refused.

    With ``fixed_rows`` the ONNX form has N * keep_top_k rows, or as many as there are candidates
    if these are fewer: first those above, then rows of -1, which OpenVINO's operator ends with.

    ``save_output_param`` and ``visualize`` have effects outside the net and are left out.
    Caffe would stop at CENTER_SIZE and CORNER_SIZE priors without area; they are decoded.
    """

    type = "DetectionOutput"
    parameters = Parameters(
        "detection_output_param",
        f"""
        optional bool clip = {TEXT_ONLY};
        optional float objectness_score = 24 [default = 0.01];
        optional bool use_polygon = 13;
        """,
    )
    bottoms = (3, 5)
    free_axes = frozenset({2})

    num_classes: int
    share_location: bool
    background: int
    code_type: str
    use_variance: bool
    clip: bool
    objectness_score: float
    polygons: bool
    confidence_threshold: float
    nms_threshold: float
    eta: float
    top_k: int
    keep_top_k: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p, fork = proto.detection_output_param, cls.parameters.of(proto)
        if not p.HasField("num_classes"):
            raise net_error(proto, "num_classes is not given", "detection_output_param.num_classes")
        if p.share_location and p.background_label_id == -1:
            raise net_error(
                proto,
                "-1 (no background) needs share_location: false; Caffe takes the label of"
                " shared boxes, -1, for the background",
                "detection_output_param.background_label_id",
            )
        if fork.HasField("use_polygon") and not (
            fork.use_polygon
            and enum_name(p, "code_type") == "CENTER_SIZE"
            and not p.variance_encoded_in_target
            and len(proto.bottom) == 3
        ):
            raise unsupported(
                proto,
                "only true is converted, with code_type CENTER_SIZE, variances and three bottoms",
                "detection_output_param.use_polygon",
            )
        if len(proto.bottom) > 4 and not p.share_location:
            raise net_error(
                proto,
                "offsets of the anchor refinement need it",
                "detection_output_param.share_location",
            )
        if p.nms_param.nms_threshold < 0:
            raise net_error(
                proto,
                f"{p.nms_param.nms_threshold:g} is negative",
                "detection_output_param.nms_param.nms_threshold",
            )
        if not 0 < p.nms_param.eta <= 1:
            raise net_error(
                proto,
                f"{p.nms_param.eta:g} is not in (0, 1]",
                "detection_output_param.nms_param.eta",
            )
        return cls(
            name=proto.name,
            num_classes=p.num_classes,
            share_location=p.share_location,
            background=p.background_label_id,
            code_type=enum_name(p, "code_type"),
            use_variance=not p.variance_encoded_in_target,
            clip=fork.clip,
            objectness_score=fork.objectness_score,
            polygons=fork.use_polygon,
            confidence_threshold=(
                p.confidence_threshold if p.HasField("confidence_threshold") else LOWEST
            ),
            nms_threshold=p.nms_param.nms_threshold,
            eta=p.nms_param.eta,
            top_k=p.nms_param.top_k if p.nms_param.HasField("top_k") else -1,
            keep_top_k=p.keep_top_k,
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        loc, conf, prior, *refinement = bottoms
        if len(loc) < 2 or len(conf) < 2 or loc[0] != conf[0]:
            raise self.net_error(f"offsets {loc} and scores {conf} are not of one batch")
        priors = _num_priors(prior)
        classes = 1 if self.share_location else self.num_classes
        expected = priors * classes * self._values
        advice = ""
        if (loc[1], conf[1]) == (2 * expected, 2 * priors * self.num_classes):
            advice = (
                ". TextBoxes' fork makes twice the boxes: if the net is of that fork, write "
                "denser_prior_boxes: true into each prior_box_param"
            )
        elif loc[1] > expected and (loc[1] - expected) % (18 * 4) == 0:
            advice = (
                ". FaceBoxes' fork makes 21 boxes of the sizes 32, 64 and 128: if the net is of "
                "that fork, write faceboxes: true into each prior_box_param"
            )
        self._check_channels(loc, expected, advice)
        self._check_channels(conf, priors * self.num_classes)
        for shape, values in zip(refinement, (2, 4), strict=False):
            if shape[:1] != loc[:1]:
                raise self.net_error(f"offsets {loc} and a bottom {shape} are not of one batch")
            self._check_channels(shape, priors * values)
        if prod(prior) < priors * 8:
            raise self.net_error(f"priors {prior} hold no variances")
        return [(1, 1, 1, 3 + self._columns)]

    def _check_channels(self, shape: Shape, expected: int, advice: str = "") -> None:
        if shape[1] != expected:
            raise self.net_error(
                f"a bottom of shape {shape} should have {expected} channels to match the priors"
                + advice
            )
        if prod(shape[2:]) != 1:
            raise self.unsupported(f"a bottom of shape {shape} has more than channels")

    @property
    def _values(self) -> int:
        """Offsets of a prior, and numbers of a box."""
        return 12 if self.polygons else 4

    @property
    def _columns(self) -> int:
        """Numbers of a row after the score."""
        return self._values

    def cells(self, bottoms: Sequence[Shape]) -> tuple[int, int] | None:
        """The width of the map of cells and the priors of a cell, if rows say them."""
        return None

    @property
    def _labels(self) -> list[int]:
        return [label for label in range(self.num_classes) if label != self.background]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        cells = self.cells(bottoms)
        options = {} if cells is None else {"cells": cells}
        return t.runtime.detection_output(
            *inputs,
            **options,
            num_classes=self.num_classes,
            background=self.background,
            share_location=self.share_location,
            code_type=self.code_type,
            use_variance=self.use_variance,
            clip=self.clip,
            objectness_score=self.objectness_score,
            polygons=self.polygons,
            confidence_threshold=self.confidence_threshold,
            nms_threshold=self.nms_threshold,
            eta=self.eta,
            top_k=self.top_k,
            keep_top_k=self.keep_top_k,
        )

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        limits = falling_thresholds(self.nms_threshold, self.eta)
        if len(limits) > MOST_THRESHOLDS:
            raise self.unsupported(
                f"{self.eta:g} lets the threshold fall in more than {MOST_THRESHOLDS} steps,"
                " too many to write as ONNX; convert to torch, or use eta: 1",
                "detection_output_param.nms_param.eta",
            )
        width, images = 3 + self._columns, g.shape(inputs[0])[0]
        batch = g.op("Shape", inputs[0], start=0, end=1)
        if not self._labels or self.top_k == 0 or self.keep_top_k == 0:
            if g.fixed_rows:
                return [fixed_rows_onnx(g, "", "", images, total=0, batch=images, width=width)]
            return [rows_or_none_onnx(g, "", "", batch, width)]
        priors = _num_priors(g.shape(inputs[2]))
        count = min(self.top_k, priors) if self.top_k > 0 else priors
        boxes, scores = self._best_onnx(g, inputs, priors, count)
        kept = self._kept_onnx(g, boxes, scores, count, limits)
        if g.fixed_rows:
            total = len(self._labels) * count
            most = min(self.keep_top_k, total) if self.keep_top_k > 0 else total
            sizes = {"total": images * total, "batch": images, "width": width}
            rows = self._all_rows_onnx(g, boxes, scores, images, count)
            return [fixed_rows_onnx(g, rows, kept, images * most, **sizes)]
        rows = self._rows_onnx(g, boxes, scores, kept, count)
        return [rows_or_none_onnx(g, rows, kept, batch, width)]

    def _best_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], priors: int, count: int
    ) -> tuple[str, str]:
        """The ``count`` best boxes (N, C, K, columns) and scores (N, C, K), scores falling."""
        labels = g.const(self._labels, np.int64)
        loc = g.op("Reshape", inputs[0], g.const([0, priors, -1, self._values], np.int64))
        loc = g.op("Transpose", loc, perm=[0, 2, 1, 3])
        if not self.share_location:
            loc = g.op("Gather", loc, labels, axis=1)
        prior, variance = self._priors_onnx(g, inputs[2], priors)
        corners = ""
        if self.polygons:
            loc, offsets = g.op("Split", loc, g.const([4, 8], np.int64), axis=3, outputs=2)
            corners = move_corners_onnx(g, offsets, prior, variance)
        if len(inputs) > 4:
            refined = g.op("Reshape", inputs[4], g.const([0, 1, priors, 4], np.int64))
            prior = decode_boxes_onnx(g, refined, prior, variance, self.code_type)
        boxes = decode_boxes_onnx(g, loc, prior, variance, self.code_type)
        if self.clip:
            boxes = g.op("Clip", boxes, g.const(0.0), g.const(1.0))
        if corners:
            boxes = g.op("Concat", boxes, corners, axis=3)
        cells = self.cells([g.shape(inputs[0])])
        if cells is not None:
            places = g.const(places_of_priors(priors, *cells)[None, None])
            shape = g.op("Concat", g.op("Shape", boxes, end=2), g.const([1, 1], np.int64), axis=0)
            boxes = g.op("Concat", boxes, g.op("Expand", places, shape), axis=3)
        if self.share_location:
            boxes = g.op("Expand", boxes, g.const([1, len(self._labels), 1, 1], np.int64))
        scores = g.op("Reshape", inputs[1], g.const([0, priors, -1], np.int64))
        scores = g.op("Gather", g.op("Transpose", scores, perm=[0, 2, 1]), labels, axis=1)
        if len(inputs) > 3:
            objects = g.op("Reshape", inputs[3], g.const([0, 1, priors, 2], np.int64))
            objects = g.op("Gather", objects, g.const(1, np.int64), axis=3)
            empty = g.op("Less", objects, g.const(self.objectness_score))
            nothing = [[float(label == 0)] for label in self._labels]
            scores = g.op("Where", empty, g.const(nothing), scores)
        high = g.op("Greater", scores, g.const(self.confidence_threshold))
        scores = g.op("Where", high, scores, g.const(LOWEST))
        scores, order = g.op("TopK", scores, g.const([count], np.int64), axis=2, outputs=2)
        order = g.op("Unsqueeze", order, g.const([3], np.int64))
        order = g.op("Expand", order, g.const([1, 1, 1, self._columns], np.int64))
        return g.op("GatherElements", boxes, order, axis=2), scores

    def _priors_onnx(self, g: OnnxBuilder, value: str, count: int) -> tuple[str, str]:
        flat = g.op("Reshape", value, g.const([-1], np.int64))
        ends = [g.const([count * size], np.int64) for size in (0, 4, 8)]
        shape = g.const([count, 4], np.int64)
        prior, variance = (
            g.op("Reshape", g.op("Slice", flat, ends[i], ends[i + 1]), shape) for i in range(2)
        )
        return prior, variance if self.use_variance else ""

    def _kept_onnx(
        self, g: OnnxBuilder, boxes: str, scores: str, count: int, limits: list[float]
    ) -> str:
        """The mask (N * C * K) of the boxes that are reported."""
        if self._columns > 4:
            first, end = g.const([0], np.int64), g.const([4], np.int64)
            boxes = g.op("Slice", boxes, first, end, g.const([3], np.int64))
        kept = suppress_onnx(
            g,
            g.op("Reshape", boxes, g.const([-1, count, 4], np.int64)),
            g.op("Reshape", scores, g.const([-1, count], np.int64)),
            count,
            limits,
        )
        total = len(self._labels) * count
        if 0 < self.keep_top_k < total:
            kept = g.op("Reshape", kept, g.const([-1, total], np.int64))
            flat = g.op("Reshape", scores, g.const([-1, total], np.int64))
            flat = g.op("Where", kept, flat, g.const(LOWEST))
            _, best = g.op("TopK", flat, g.const([self.keep_top_k], np.int64), axis=1, outputs=2)
            chosen = g.op(
                "ScatterElements",
                g.op("Expand", g.const(0.0), g.op("Shape", flat)),
                best,
                g.op("Expand", g.const(1.0), g.op("Shape", best)),
                axis=1,
            )
            kept = g.op("And", kept, g.op("Cast", chosen, to=BOOL))
        return str(g.op("Reshape", kept, g.const([-1], np.int64)))

    def _rows_onnx(self, g: OnnxBuilder, boxes: str, scores: str, kept: str, count: int) -> str:
        """The reported boxes in a row each, of the ``count`` of each image and class."""
        column = g.const([-1, 1], np.int64)
        places = places_of(g, kept)
        group = g.op("Reshape", g.op("Div", places, g.const(count, np.int64)), column)
        classes = g.const(len(self._labels), np.int64)
        image = g.op("Div", group, classes)
        label = g.op("Sub", group, g.op("Mul", image, classes))
        boxes = g.op("Reshape", boxes, g.const([-1, self._columns], np.int64))
        return str(
            g.op(
                "Concat",
                to_float(g, image),
                g.op("Gather", g.const(self._labels), label),
                g.op("Gather", g.op("Reshape", scores, column), places, axis=0),
                g.op("Gather", boxes, places, axis=0),
                axis=1,
            )
        )

    def _all_rows_onnx(
        self, g: OnnxBuilder, boxes: str, scores: str, images: int, count: int
    ) -> str:
        """A row for each of the ``count`` boxes of each image and class."""
        check_constant(images * len(self._labels) * count * 2)
        head = [[i, label] for i in range(images) for label in self._labels for _ in range(count)]
        scores = g.op("Reshape", scores, g.const([-1, 1], np.int64))
        boxes = g.op("Reshape", boxes, g.const([-1, self._columns], np.int64))
        return str(g.op("Concat", g.const(head), scores, boxes, axis=1))


def places_of_priors(priors: int, width: int, each: int) -> FloatArray:
    """The number of each prior in its cell, and the cell's column and row (P, 3)."""
    cell, number = np.divmod(np.arange(priors), each)
    row, column = np.divmod(cell, width)
    return np.stack([number, column, row], 1).astype(np.float32)


def _num_priors(shape: Sequence[int]) -> int:
    return (*shape, 1, 1, 1)[2] // 4
