"""Region proposal networks: anchors, and which boxes are kept, in ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from caffe2torch.graph import Shape
from caffe2torch.layers._base import Layer
from caffe2torch.layers._boxes_onnx import BOOL, FLOAT, INT64, LOWEST, rows_or_onnx, suppress_onnx
from caffe2torch.layers._builders import OnnxBuilder, TorchBuilder
from caffe2torch.layers._onnx import check_constant, ints, places_of, to_float

MANY = 1 << 30
"""More boxes than there are, where their number depends on the data."""

Anchors = tuple[tuple[float, ...], ...]


def make_anchors(
    base_size: int,
    ratios: npt.NDArray[Any],
    scales: npt.NDArray[Any],
    round: Callable[[Any], Any],
) -> Anchors:
    """Boxes (x1, y1, x2, y2) around the middle of a square of ``base_size`` pixels at 0.

    For each ratio (height to width) the square becomes a box of about the same area with
    whole sides, and that is scaled by each of ``scales``. Arithmetic is the arrays'.
    """
    one = ratios.dtype.type(1)
    widths = round(np.sqrt(one * base_size * base_size / ratios))
    heights = round(widths * ratios)
    half = np.stack([widths, heights], 1)[:, None] * scales[:, None]
    half = (half.reshape(-1, 2) - one) * (one / 2)
    centre = (one / 2) * (base_size - one)
    boxes = np.concatenate([centre - half, centre + half], 1)
    return tuple(tuple(map(float, box)) for box in boxes)


@dataclass(frozen=True)
class RegionProposals(Layer):
    """Base of the layers that turn a region proposal network's output into regions.

    Bottoms: scores (N, 2A, H, W), those of the background first; offsets (N, 4A, H, W); and
    rows (height, width, scale, ..) of the images. Subclasses are frozen dataclasses.
    """

    bottoms = (3, 3)
    tops = (1, 2)
    free_axes = frozenset({0})
    drop_small: ClassVar[bool] = True
    """Whether a box that is too small is dropped; else its score becomes 0."""
    fallback: ClassVar[tuple[float, ...] | None] = None
    """The row of a net that proposes nothing."""
    scores_shape: ClassVar[Shape] = (1, 1)
    last_first: ClassVar[bool] = False
    """Whether of equal scores the last box counts as the best; else the first."""

    anchors: Anchors
    stride: int
    min_size: float
    limits: tuple[int | None, int | None]
    """The most boxes of an image before and after suppression; None is no limit."""
    threshold: float | None
    """None if boxes that overlap are kept."""
    num_tops: int

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        scores, offsets, info = bottoms
        count = len(self.anchors)
        if len(scores) != 4 or scores[1] != 2 * count:
            raise self.net_error(
                f"the scores' shape {scores} is not (N, {2 * count}, H, W), two for each of"
                f" {count} anchors"
            )
        if tuple(offsets) != (scores[0], 4 * count, *scores[2:]):
            raise self.net_error(
                f"the offsets' shape {offsets} is not {(scores[0], 4 * count, *scores[2:])}"
            )
        if len(info) < 2 or info[0] != scores[0] or info[1] < 3:
            raise self.net_error(
                f"the shape {info} is not ({scores[0]}, 3), a row (height, width, scale) for"
                " each image"
            )
        return [(1, 5), self.scores_shape][: self.num_tops]

    def size_scales(self, info: Shape) -> tuple[int, int]:
        """The columns of the images' rows that scale the least width and height."""
        return 2, 2

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        tops = t.runtime.propose(
            *inputs,
            anchors=t.exact(self.anchors),
            stride=self.stride,
            min_size=self.min_size,
            size_scales=self.size_scales(bottoms[2]),
            drop_small=self.drop_small,
            limits=self.limits,
            threshold=self.threshold,
            fallback=self.fallback,
            flat_scores=len(self.scores_shape) == 1,
            **({"last_first": True} if self.last_first else {}),
        )
        return tops if self.num_tops == 2 else tops[0]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        boxes, sizes = self._boxes_onnx(g, inputs)
        scores = g.op("Slice", inputs[0], *ints(g, len(self.anchors), 2 * len(self.anchors), 1))
        scores = g.op("Transpose", scores, perm=[0, 2, 3, 1])
        scores = g.op("Reshape", scores, g.const([0, -1], np.int64))
        scales = g.op("Flatten", inputs[2], axis=1)
        columns = g.const(self.size_scales(g.shape(inputs[2])), np.int64)
        scales = g.op("Gather", scales, columns, axis=1)
        least = g.op("Mul", g.op("Unsqueeze", scales, *ints(g, 1)), g.const(self.min_size))
        short = g.op("Cast", g.op("Less", sizes, least), to=FLOAT)
        small = g.op("Cast", g.op("ReduceMax", short, axes=[2], keepdims=0), to=BOOL)
        instead = g.const(LOWEST if self.drop_small else 0.0)
        scores = g.op("Where", small, instead, scores)
        _, _, height, width = g.shape(inputs[0])
        count = height * width * len(self.anchors)
        if self.last_first:
            backwards = g.const(np.arange(count)[::-1], np.int64)
            boxes, scores = (g.op("Gather", v, backwards, axis=1) for v in (boxes, scores))
        rows, kept = keep_boxes_onnx(g, boxes, scores, count, self.limits, self.threshold, 1)
        regions, scores = g.op("Split", rows, g.const([5, 1], np.int64), axis=1, outputs=2)
        if self.fallback:
            regions = rows_or_onnx(g, regions, kept, g.const([self.fallback]))
        if len(self.scores_shape) == 1:
            scores = g.op("Squeeze", scores, *ints(g, 1))
        return [regions, scores][: self.num_tops]

    def _boxes_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> tuple[str, str]:
        """The boxes (N, K, 4) inside of the image, and their sides (N, K, 2)."""
        _, _, height, width = g.shape(inputs[0])
        check_constant(height * width * len(self.anchors) * 4)
        y, x = np.mgrid[:height, :width] * self.stride
        shift = np.stack([x, y, x, y], -1)[:, :, None]
        placed = (np.array(self.anchors) + shift).reshape(-1, 4).astype(np.float32)
        size = placed[:, 2:] - placed[:, :2] + np.float32(1)
        centre = placed[:, :2] + np.float32(0.5) * size
        offsets = g.op("Transpose", inputs[1], perm=[0, 2, 3, 1])
        offsets = g.op("Reshape", offsets, g.const([0, len(placed), 4], np.int64))
        move, grow = g.op("Split", offsets, g.const([2, 2], np.int64), axis=2, outputs=2)
        middle = g.op("Add", g.op("Mul", move, g.const(size)), g.const(centre))
        half = g.op("Mul", g.const(0.5), g.op("Mul", g.op("Exp", grow), g.const(size)))
        low, high = g.op("Sub", middle, half), g.op("Add", middle, half)
        info = g.op("Flatten", inputs[2], axis=1)
        limit = g.op("Gather", info, g.const([1, 0], np.int64), axis=1)
        limit = g.op("Sub", g.op("Unsqueeze", limit, *ints(g, 1)), g.const(1.0))
        zero = g.const(0.0)
        low, high = (g.op("Max", g.op("Min", edge, limit), zero) for edge in (low, high))
        sizes = g.op("Add", g.op("Sub", high, low), g.const(1.0))
        return str(g.op("Concat", low, high, axis=2)), str(sizes)


def keep_boxes_onnx(
    g: OnnxBuilder,
    boxes: str,
    scores: str,
    count: int | None,
    limits: Sequence[int | None],
    threshold: float | None,
    pixel: int,
) -> tuple[str, str]:
    """``keep_boxes`` as rows (image, x1, y1, x2, y2, score), for ``count`` boxes of an image.

    Scores of LOWEST are no candidates. The count is None where it depends on the data; then
    ``limits[0]`` is none. The second value is the mask that chose the rows.
    """
    if count is None:
        best, count = g.op("Shape", scores, start=1, end=2), MANY
    else:
        count = min(limits[0] or count, count)
        best = g.const([count], np.int64)
    after = min(limits[1] or count, count)
    scores, order = g.op("TopK", scores, best, axis=1, outputs=2)
    order = g.op("Unsqueeze", order, *ints(g, 2))
    order = g.op("Expand", order, g.const([1, 1, 4], np.int64))
    boxes = g.op("GatherElements", boxes, order, axis=1)
    if threshold is None:
        kept = g.op("Greater", scores, g.const(LOWEST))
    else:
        low, high = g.op("Split", boxes, g.const([2, 2], np.int64), axis=2, outputs=2)
        upright = g.op("GreaterOrEqual", high, low)
        high = g.op("Where", upright, g.op("Add", high, g.const(float(pixel))), low)
        sized = g.op("Concat", low, high, axis=2)
        kept = suppress_onnx(g, sized, scores, best, [threshold])
    if after < count:
        rank = g.op("CumSum", g.op("Cast", kept, to=INT64), g.const(1, np.int64))
        kept = g.op("And", kept, g.op("LessOrEqual", rank, g.const(after, np.int64)))
    column, flat = g.const([-1, 1], np.int64), g.const([-1], np.int64)
    kept = g.op("Reshape", kept, flat)
    places = places_of(g, kept)
    image = to_float(g, g.op("Reshape", g.op("Div", places, best), column))
    found = g.op("Gather", g.op("Reshape", scores, column), places, axis=0)
    boxes = g.op("Gather", g.op("Reshape", boxes, g.const([-1, 4], np.int64)), places, axis=0)
    return str(g.op("Concat", image, boxes, found, axis=1)), str(kept)
