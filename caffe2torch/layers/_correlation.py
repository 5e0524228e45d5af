"""What Correlation and Correlation1D share."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    unsupported,
)
from caffe2torch.layers._spatial import require_axes

PARAMETERS = Parameters(
    "correlation_param",
    """
    optional uint32 pad = 2 [default = 0];
    optional uint32 kernel_size = 3;
    optional uint32 max_displacement = 4;
    optional uint32 stride_1 = 5 [default = 1];
    optional uint32 stride_2 = 6 [default = 1];
    optional bool do_abs = 7 [default = false];
    optional int32 single_direction = 8 [default = 0];
    enum CorrelationType { MULTIPLY = 0; SUBTRACT = 1; }
    optional CorrelationType correlation_type = 15 [default = MULTIPLY];
    """,
)
"""FlowNet's CorrelationParameter."""


@dataclass(frozen=True)
class CorrelationBase(Layer):
    """Patches of the first bottom, each compared with displaced patches of the second.

    Both bottoms (N, C, H, W) are padded by zeros. Top channel k belongs to the k-th
    displacement (dy, dx), and ``y[k, p]`` is the mean over channels and patch of
    ``a[p + i] * b[p + i + d]`` (MULTIPLY) or ``|a[p + i] - b[p + i + d]|`` (SUBTRACT). The
    upper left corner of a patch is ``stride_1 * p``, after the margin that the displacements
    need; displacements are multiples of ``stride_2``. ``do_abs`` is read by no code of the fork.
    """

    bottoms: ClassVar[tuple[int, int | None]] = (2, 2)
    parameters = PARAMETERS

    pad: int
    kernel: int
    reach: int
    """The largest displacement."""
    stride: int
    step: int
    """Of the displacements."""
    subtract: bool
    direction: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = PARAMETERS.of(proto)
        for name in ("kernel_size", "max_displacement"):
            if not param.HasField(name):
                raise net_error(proto, "must be given", f"correlation_param.{name}")
        if param.kernel_size % 2 == 0:
            raise net_error(
                proto, f"{param.kernel_size} must be odd", "correlation_param.kernel_size"
            )
        for name in ("stride_1", "stride_2"):
            if not getattr(param, name):
                raise net_error(proto, "must be positive", f"correlation_param.{name}")
        cls.check_direction(proto, param.single_direction)
        return cls(
            name=proto.name,
            pad=param.pad,
            kernel=param.kernel_size,
            reach=param.max_displacement,
            stride=param.stride_1,
            step=param.stride_2,
            subtract=enum_name(param, "correlation_type") == "SUBTRACT",
            direction=param.single_direction,
        )

    @classmethod
    def check_direction(cls, proto: Message, direction: int) -> None:
        """Raise for a ``single_direction`` that the layer does not have."""
        if direction:
            raise unsupported(
                proto, "only Correlation1D reads it", "correlation_param.single_direction"
            )

    @abstractmethod
    def pads(self) -> tuple[int, int]:
        """What is padded at each end of the rows' axis and of the columns' axis."""

    @abstractmethod
    def margins(self) -> tuple[int, int]:
        """The largest displacement by rows and by columns."""

    @abstractmethod
    def displacements(self) -> tuple[list[int], list[int]]:
        """Dy and dx: each pair of them is a top channel, the first dy first."""

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        first, second = bottoms
        require_axes(self, first)
        if first != second:
            raise self.net_error(f"bottoms of shapes {first} and {second} must have one shape")
        sizes = [
            -(-(n + 2 * pad - 2 * margin - self.kernel + 1) // self.stride)
            for n, pad, margin in zip(first[2:], self.pads(), self.margins(), strict=True)
        ]
        if min(sizes) < 1:
            raise self.net_error(
                f"the patches and displacements do not fit the padded bottom of shape {first}",
                "correlation_param.max_displacement",
            )
        rows, columns = self.displacements()
        return [(first[0], len(rows) * len(columns), *sizes)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        return t.runtime.correlate(
            *inputs,
            self.pads(),
            self.margins(),
            *self.displacements(),
            self.kernel,
            self.stride,
            self.subtract,
        )

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (rows, columns), (top, left) = self.pads(), self.margins()
        a, b = (
            g.op("Pad", x, g.const([0, 0, rows, columns] * 2, np.int64)) if rows or columns else x
            for x in inputs
        )
        patches = _shifted(g, a, (top, left), (0, 0))
        channels = []
        for dy, dx in itertools.product(*self.displacements()):
            other = _shifted(g, b, (top, left), (dy, dx))
            both = g.op("Sub" if self.subtract else "Mul", patches, other)
            if self.subtract:
                both = g.op("Abs", both)
            channels.append(g.op("ReduceMean", both, axes=[1], keepdims=1))
        y = g.op("Concat", *channels, axis=1) if len(channels) > 1 else channels[0]
        if self.kernel == self.stride == 1:
            return [y]
        kernel, strides = [self.kernel] * 2, [self.stride] * 2
        return [g.op("AveragePool", y, kernel_shape=kernel, strides=strides)]


def _shifted(g: OnnxBuilder, x: str, margins: tuple[int, int], by: tuple[int, int]) -> str:
    """``x`` less a margin on all sides, moved ``by`` rows and columns."""
    end = int(np.iinfo(np.int64).max)
    starts = [m + d for m, d in zip(margins, by, strict=True)]
    ends = [d - m or end for m, d in zip(margins, by, strict=True)]
    parts = (starts, ends, [2, 3])
    return str(g.op("Slice", x, *(g.const(part, np.int64) for part in parts)))
