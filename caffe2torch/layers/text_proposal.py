"""Text proposals: the slices of text lines that CTPN finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    TorchBuilder,
    net_error,
    python_params,
    register_layer,
)
from caffe2torch.layers._onnx import check_constant
from caffe2torch.layers._spatial import require_axes

BOUNDS = tuple((int(7.5 - h // 2), int(7.5 + h // 2)) for h in (
    11, 16, 23, 33, 48, 68, 97, 139, 198, 283,
))  # fmt: skip
"""Top and bottom of the anchors at the first pixel; each is 16 pixels wide."""


@register_layer()
class TextProposal(Layer):
    """Boxes (left, top, right, bottom) of ten anchors a pixel, and their scores.

    CTPN's Python layer layers.text_proposal_layer.ProposalLayer, with src/anchor.py (as Python 2
    divides). Bottoms: probabilities (1, 20, H, W), of which the last ten channels count, deltas
    (1, 20, H, W) in pairs (dy, dh) for each anchor, image information (1, ..) that begins with
    height and width. Tops: boxes (10 H W, 4) and scores (10 H W, 1), by rows, columns, anchors.

    An anchor of height h with the middle m becomes one of height ``exp(dh) h`` and middle
    ``m + dy h``; boxes are cut to the image. ``feat_stride`` of param_str is the distance of two
    pixels in the image. Errors: no feat_stride, other shapes.
    """

    type = "Python layers.text_proposal_layer.ProposalLayer"
    bottoms = (3, 3)
    tops = (2, 2)

    stride: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        stride = python_params(proto).get("feat_stride")
        if not isinstance(stride, int) or stride < 1:
            raise net_error(proto, "feat_stride must be positive", "python_param.param_str")
        return cls(name=proto.name, stride=stride)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        scores, deltas, info = bottoms
        require_axes(self, scores)
        wanted = (1, 2 * len(BOUNDS), *scores[2:])
        if scores != wanted or deltas != wanted or len(info) < 2 or info[0] != 1 or info[1] < 2:
            raise self.net_error(
                f"bottoms of shapes {scores}, {deltas} and {info} must be {wanted}, {wanted} and "
                "(1, 3)"
            )
        count = len(BOUNDS) * scores[2] * scores[3]
        return [(count, 4), (count, 1)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        return t.runtime.text_proposals(*inputs, BOUNDS, self.stride)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        shape = g.shape(inputs[0])
        anchors = self._anchors(*shape[2:])
        last = g.op("Slice", inputs[0], *(g.const([n], np.int64) for n in (10, 20, 1)))
        scores = _rows(g, last, 1)
        dy, dh = g.op("Split", _rows(g, inputs[1], 2), outputs=2, axis=1)
        left, top, right, bottom = (anchors[:, [i]] for i in range(4))
        size = bottom - top + 1
        high = g.op("Mul", g.op("Exp", dh), g.const(size))
        middle = g.op("Add", g.op("Mul", dy, g.const(size)), g.const((top + bottom) / 2))
        above = g.op("Sub", middle, g.op("Mul", high, g.const(0.5)))
        below = g.op("Add", above, high)
        boxes = g.op("Concat", g.const(left), above, g.const(right), below, axis=1)
        columns = g.const([1, 0, 1, 0], np.int64)
        flat = g.op("Reshape", inputs[2], g.const([-1], np.int64))
        limits = g.op("Sub", g.op("Gather", flat, columns), g.const(1.0))
        return [g.op("Min", g.op("Max", boxes, g.const(0.0)), limits), scores]

    def _anchors(self, height: int, width: int) -> npt.NDArray[np.float32]:
        """Left, top, right and bottom of all anchors."""
        check_constant(height * width * len(BOUNDS) * 4)
        first = np.array([(0, top, 15, bottom) for top, bottom in BOUNDS])
        rows, columns = np.mgrid[:height, :width].reshape(2, -1, 1) * self.stride
        shifts = np.stack([columns, rows, columns, rows], 2)
        return np.asarray((first + shifts).reshape(-1, 4), np.float32)


def _rows(g: OnnxBuilder, x: str, columns: int) -> str:
    """``x`` (1, C, H, W) by rows, columns and channels, ``columns`` of these in a row."""
    y = g.op("Transpose", x, perm=[0, 2, 3, 1])
    return str(g.op("Reshape", y, g.const([-1, columns], np.int64)))
