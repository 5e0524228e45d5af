"""Maps resized to a size or by a scale: what the layers that do so share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers._base import Layer
from caffe2torch.layers._spatial import require_axes


def scaled(size: int, factor: float) -> int:
    """The whole part of their product in float32, as C++ makes an int of it."""
    return int(np.float32(size) * np.float32(factor))


@dataclass(frozen=True)
class ResizedMap(Layer):
    """Base of layers that resize (N, C, H, W) to ``size``, or by ``scale``, rounded down."""

    size_field: ClassVar[str]
    """The field that an error about an empty top names."""

    scale: tuple[float, float]
    size: Shape | None
    """Height and width of the top; None if they are scaled."""

    def sizes(self, sizes: Sequence[int]) -> Shape:
        """The top's height and width for those of the bottom."""
        return self.size or tuple(scaled(n, s) for n, s in zip(sizes, self.scale, strict=True))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        require_axes(self, shape)
        sizes = self.sizes(shape[2:])
        if min(sizes) < 1:
            raise self.net_error(f"the output size {sizes} is not positive", self.size_field)
        return [(*shape[:2], *sizes)]
