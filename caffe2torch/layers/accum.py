"""Accum: blobs enlarged to one size, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
)
from caffe2torch.layers._onnx import resize_aligned
from caffe2torch.layers._spatial import require_axes


@register_layer()
class Accum(Layer):
    """The bottoms (N, C_i, H_i, W_i), each resized to (H, W), one after another as channels.

    FlowNet: accum_layer.cpp. Pixel i of n is read at ``i (m - 1) / (n - 1)`` of the bottom's m,
    bilinearly. (H, W) is the largest height and width of the bottoms, or ``top_height`` and
    ``top_width`` if both are larger than these; with ``size_divisible_by`` those are the largest
    sizes rounded up to its multiples. With ``have_reference`` the last bottom only gives the
    size. Errors: batches that differ, a reference alone, an axis of size 1 to resize to.
    """

    type = "Accum"
    parameters = Parameters(
        "accum_param",
        """
        optional uint32 top_height = 1 [default = 0];
        optional uint32 top_width = 2 [default = 0];
        optional uint32 size_divisible_by = 3 [default = 0];
        optional bool have_reference = 4 [default = false];
        """,
    )
    bottoms: ClassVar[tuple[int, int | None]] = (1, None)

    size: Shape
    """Given height and width."""
    multiple: int | None
    reference: bool

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        multiple = param.size_divisible_by if param.HasField("size_divisible_by") else None
        if multiple == 0:
            raise net_error(proto, "must be positive", "accum_param.size_divisible_by")
        if param.have_reference and len(proto.bottom) < 2:
            raise net_error(proto, "needs a second bottom", "accum_param.have_reference")
        size = (param.top_height, param.top_width)
        return cls(name=proto.name, size=size, multiple=multiple, reference=param.have_reference)

    def _size(self, bottoms: Sequence[Shape]) -> Shape:
        if self.reference:
            return bottoms[-1][2:]
        largest = tuple(max(shape[axis] for shape in bottoms) for axis in (2, 3))
        size = self.size
        if self.multiple:
            size = tuple(-(-n // self.multiple) * self.multiple for n in largest)
        return size if all(n > most for n, most in zip(size, largest, strict=True)) else largest

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        for shape in bottoms:
            require_axes(self, shape)
        used = bottoms[: len(bottoms) - self.reference]
        if len({shape[0] for shape in used}) > 1:
            raise self.net_error(f"bottoms of shapes {list(used)} must have one batch size")
        size = self._size(bottoms)
        if any(n == 1 and shape[2:] != size for shape in used for n in size):
            raise self.net_error(f"a bottom cannot be resized to {size}: both sizes must exceed 1")
        return [(used[0][0], sum(shape[1] for shape in used), *size)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        if self.reference:
            return t.runtime.accumulate(inputs[:-1], inputs[-1].shape[2:])
        return t.runtime.accumulate(inputs, None, self.size, self.multiple or 1)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        shapes = [g.shape(x) for x in inputs]
        size = self._size(shapes)
        used = zip(inputs[: len(inputs) - self.reference], shapes, strict=False)
        parts = [resize_aligned(g, x, shape[2:], size) for x, shape in used]
        return [g.op("Concat", *parts, axis=1)]
