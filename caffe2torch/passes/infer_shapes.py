"""Shapes of every value, layer by layer, as Caffe's Reshape gives them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from caffe2torch.graph import Shape
from caffe2torch.layers._base import Layer

MAX_COUNT = 2**31 - 1
"""Caffe counts a blob's elements in an int and aborts above this."""


def infer_step(layer: Layer, bottoms: Sequence[Shape]) -> Sequence[Shape]:
    """Return the shapes of the tops of ``layer``.

    Raises NetError naming the layer for a negative size or a blob above Caffe's limit.
    """
    tops = layer.infer_shapes(bottoms)
    for shape in tops:
        check_size(layer, shape)
    return [tuple(int(size) for size in shape) for shape in tops]


def check_size(layer: Layer, shape: Shape) -> None:
    """Raise NetError if Caffe could not hold a blob of ``shape``."""
    if any(size < 0 for size in shape):
        raise layer.net_error(
            f"the output would have the shape {tuple(shape)}: the input is too small for it."
        )
    if prod(shape) > MAX_COUNT:
        raise layer.net_error(f"a blob of shape {tuple(shape)} has more than 2**31 - 1 elements.")
