"""Correlation: the cost volume of FlowNet."""

from __future__ import annotations

from caffe2torch.layers import register_layer
from caffe2torch.layers._correlation import CorrelationBase


@register_layer()
class Correlation(CorrelationBase):
    """Top channel ``(dy + r) (2 r + 1) + dx + r``, r = max_displacement / stride_2, rounded down.

    FlowNet: correlation_layer.cpp, .cu. The displacements are (stride_2 dy, stride_2 dx), dy and
    dx from -r to r; both axes are padded by ``pad``. H' = (H + 2 pad - 2 max_displacement -
    kernel_size + 1) / stride_1, rounded up. Formula, defaults and fields: ``CorrelationBase``.
    Errors: no kernel_size or max_displacement, an even kernel, bottoms of different shapes, an
    empty top.
    """

    type = "Correlation"

    def pads(self) -> tuple[int, int]:
        return self.pad, self.pad

    def margins(self) -> tuple[int, int]:
        return self.reach, self.reach

    def displacements(self) -> tuple[list[int], list[int]]:
        radius = self.reach // self.step
        steps = [k * self.step for k in range(-radius, radius + 1)]
        return steps, steps
