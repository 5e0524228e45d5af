"""Correlation1D: the cost volume of DispNet."""

from __future__ import annotations

from caffe2torch.io.schema import Message
from caffe2torch.layers import net_error, register_layer, unsupported
from caffe2torch.layers._correlation import CorrelationBase


@register_layer()
class Correlation1D(CorrelationBase):
    """Top channel k is the displacement by ``stride_2 * (k - r)`` columns.

    DispNet: correlation_layer1d.cpp, .cu. r = max_displacement / stride_2, rounded down, and
    there are 2 r + 1 channels; with ``single_direction`` 1 there are r + 1, by ``stride_2 * k``.
    Only the columns are padded. H' = (H - kernel_size + 1) / stride_1, W' as in Correlation.
    Formula, defaults and fields: ``CorrelationBase``.

    ``single_direction`` -1 is refused: the fork's code displaces by r + 1 steps to the left
    first, which reads pixels of other rows.
    """

    type = "Correlation1D"

    @classmethod
    def check_direction(cls, proto: Message, direction: int) -> None:
        if not -1 <= direction <= 1:
            raise net_error(
                proto, f"{direction} must be -1, 0 or 1", "correlation_param.single_direction"
            )
        if direction < 0:
            raise unsupported(
                proto,
                "-1 reads pixels of other rows in the fork's code",
                "correlation_param.single_direction",
            )

    def pads(self) -> tuple[int, int]:
        return 0, self.pad

    def margins(self) -> tuple[int, int]:
        return 0, self.reach

    def displacements(self) -> tuple[list[int], list[int]]:
        radius = self.reach // self.step
        first = 0 if self.direction else -radius
        return [0], [k * self.step for k in range(first, radius + 1)]
