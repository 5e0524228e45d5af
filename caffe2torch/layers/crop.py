"""Cropping to the size of another blob."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, canonical_axis, register_layer
from caffe2torch.layers._grid import IDENTITY, Grid


@register_layer()
class Crop(Layer):
    """y = x[offset : offset + size of the second bottom] on each axis from ``axis`` on.

    Caffe: crop_layer.cpp. Axes before ``axis`` keep their size. One ``offset`` holds for all
    cropped axes, or each has its own. Defaults: axis 2, offset 0. Errors: a wrong number of
    offsets, a second bottom with fewer axes or that exceeds the first.

    The forks of FCN and HED have no ``crop_param``: their Crop finds the offsets in the layers
    between the two bottoms (passes/align_crops.py). In a later fork (yun-liu/rcf,
    auto_crop_layer.cpp) that layer is called AutoCrop.
    """

    type = "Crop"
    bottoms: ClassVar[tuple[int, int | None]] = (2, 2)
    aligns: ClassVar[bool] = False
    """Whether the layers between the bottoms give the offsets, whatever rule is chosen."""

    axis: int
    offset: Shape

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.crop_param
        return cls(name=proto.name, axis=param.axis, offset=tuple(param.offset) or (0,))

    def _resolved(self, num_axes: int) -> tuple[int, Shape]:
        """The first cropped axis, and an offset for it and each that follows."""
        axis = canonical_axis(self, self.axis, num_axes)
        cropped = num_axes - axis
        if len(self.offset) not in (1, cropped):
            raise self.net_error(
                f"{len(self.offset)} offsets for {cropped} cropped axes; give one, or one an axis",
                "offset",
            )
        return axis, self.offset * cropped if len(self.offset) == 1 else self.offset

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        shape, reference = bottoms
        axis, offsets = self._resolved(len(shape))
        if len(reference) < len(shape):
            raise self.net_error(f"bottoms {shape} and {reference} differ in their axes", "axis")
        sizes = reference[axis : len(shape)]
        if any(o + n > m for o, n, m in zip(offsets, sizes, shape[axis:], strict=True)):
            raise self.net_error(
                f"a bottom of shape {shape} is too small for offset {offsets} and size {sizes}",
                "offset",
            )
        return [(*shape[:axis], *sizes)]

    def grid(self) -> Grid | None:
        if self.axis not in (2, -2) or len(self.offset) > 2:
            return None
        offsets = tuple(map(Fraction, self.offset))
        return Grid(IDENTITY.step, offsets if len(offsets) == 2 else offsets * 2)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        return t.runtime.crop(*inputs, *self._resolved(len(bottoms[0])))

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x, reference = inputs
        num_axes = len(g.shape(x))
        axis, offsets = self._resolved(num_axes)
        axes = g.const(list(range(axis, num_axes)), np.int64)
        starts = g.const(list(offsets), np.int64)
        if axis:
            sizes = g.shape(reference)[axis:num_axes]
            ends = g.const(np.add(offsets, sizes), np.int64)
        else:
            ends = g.op("Add", starts, g.op("Shape", reference, end=num_axes))
        return [g.op("Slice", x, starts, ends, axes)]
