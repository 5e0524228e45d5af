"""Scale and Bias: an array laid over consecutive axes of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.layers._base import Layer, canonical_axis
from caffe2torch.layers._builders import OnnxBuilder


@dataclass(frozen=True)
class Broadcast(Layer):
    """An operand with the shape of the axes [axis, axis + n) of the first bottom.

    With one bottom the operand is learned and n is ``num_axes`` (-1: all axes from
    ``axis`` on; 0: a single value without axes). With two, the second bottom is the operand
    and gives n. Raises NetError where the axes do not exist or differ in size.
    """

    bottoms = (1, 2)

    axis: int
    num_axes: int
    learned: bool

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        operand = self.operand_shape(bottoms)
        if not self.learned and operand != bottoms[1]:
            raise self.net_error(
                f"the second bottom has the shape {bottoms[1]}; on axis {self.axis} of a first "
                f"bottom of shape {bottoms[0]} it must have {operand}"
            )
        return [bottoms[0]]

    def operand_shape(self, bottoms: Sequence[Shape]) -> Shape:
        """The part of the first bottom's shape that the operand covers."""
        num_axes = self.num_axes if self.learned else len(bottoms[1])
        start = self._start(bottoms[0], num_axes)
        if num_axes == -1:
            return bottoms[0][start:]
        if num_axes < -1:
            raise self.net_error(f"{num_axes} must be -1 or more", "num_axes")
        if start + num_axes > len(bottoms[0]):
            raise self.net_error(
                f"{num_axes} axes from axis {start} on do not fit a bottom of shape {bottoms[0]}",
                "num_axes",
            )
        return bottoms[0][start : start + num_axes]

    def is_by_channel(self, params: Mapping[str, FloatArray], name: str, channels: int) -> bool:
        """Whether the layer's own array ``name`` has one value for each channel (axis 1)."""
        return self.learned and self.axis == 1 and params[name].shape == (channels,)

    def align(self, operand: Any, bottoms: Sequence[Shape]) -> Any:
        """``operand`` with axes of size 1 appended, so that it broadcasts over the first bottom."""
        return trailing(operand, self._trailing(bottoms[0], self.operand_shape(bottoms)))

    def align_onnx(self, g: OnnxBuilder, operand: str, shape: Shape, x: str) -> str:
        """``align`` in ONNX, for an operand of ``shape``."""
        trailing = self._trailing(g.shape(x), shape)
        if not shape or not trailing:
            return operand
        axes = g.const(range(len(shape), len(shape) + trailing), np.int64)
        return str(g.op("Unsqueeze", operand, axes))

    def _start(self, bottom: Shape, operand_axes: int) -> int:
        """The axis of ``bottom`` that the operand's first lies on; without axes it is ignored."""
        if not operand_axes and not self.learned:
            return 0
        return canonical_axis(self, self.axis, len(bottom))

    def _trailing(self, bottom: Shape, operand: Shape) -> int:
        return len(bottom) - self._start(tuple(bottom), len(operand)) - len(operand)


def trailing(x: Any, count: int) -> Any:
    """The tensor ``x`` with ``count`` axes of size 1 appended."""
    index = (..., *[None] * count)
    return x[index] if count else x
