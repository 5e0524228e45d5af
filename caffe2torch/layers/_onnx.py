"""Small ONNX idioms: Caffe's blobs are float32 even when they hold indices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe2torch.errors import UnsupportedLayerError
from caffe2torch.layers._builders import OnnxBuilder

FLOAT, INT64 = 1, 7
"""Values of onnx.TensorProto.DataType."""


MAX_CONSTANT = 1 << 22
"""Values of a constant: one for each pixel of a 2048 x 2048 map, far more than nets have.

onnx and its checker copy a model some eight times.
"""


def check_constant(count: int) -> None:
    """Raise UnsupportedLayerError if a constant of ``count`` values is too large to make.

    A net's text can ask for any size in a few bytes. Call it before the values are made;
    the builder adds the layer's name to the error.
    """
    if count > MAX_CONSTANT:
        raise UnsupportedLayerError(
            f"its ONNX form needs a constant of {count} values, more than {MAX_CONSTANT}. "
            "Give the net smaller inputs, or convert it to torch."
        )


def to_float(g: OnnxBuilder, value: str) -> str:
    """``value`` as float32."""
    return str(g.op("Cast", value, to=FLOAT))


def to_int(g: OnnxBuilder, value: str) -> str:
    """``value`` as int64, truncated towards zero like a C++ cast."""
    return str(g.op("Cast", value, to=INT64))


def ints(g: OnnxBuilder, *values: int) -> tuple[str, ...]:
    """An int64 constant of one number for each of ``values``."""
    return tuple(g.const([value], np.int64) for value in values)


def kept_rows(g: OnnxBuilder, rows: str, kept: str) -> str:
    """The ``rows`` (K, ..) for which the mask ``kept`` (K) is true, in their order.

    It is what Compress does, which tract and TensorRT do not have.
    """
    return str(g.op("Gather", rows, places_of(g, kept), axis=0))


def places_of(g: OnnxBuilder, kept: str) -> str:
    """Where the mask ``kept`` (K) is true, as int64 (R)."""
    return str(g.op("Squeeze", g.op("NonZero", kept), g.const([0], np.int64)))


def tanh(g: OnnxBuilder, value: str) -> str:
    """Hyperbolic tangent. It is 1 in float32 from 10 on; OpenCV 5.0 makes it NaN from 44 on."""
    return str(g.op("Tanh", g.op("Clip", value, g.const(-20.0), g.const(20.0))))


def reshape_axes(g: OnnxBuilder, value: str, head: Sequence[int], stop: int) -> str:
    """``value`` with the axes before ``stop`` replaced by ``head``, in ONNX's meaning of 0 and -1.

    The axes from ``stop`` on are read when the model runs: one of them may be the batch.
    """
    target = g.const(head, np.int64)
    if stop < len(g.shape(value)):
        target = g.op("Concat", target, g.op("Shape", value, start=stop), axis=0)
    return str(g.op("Reshape", value, target))


def resize_aligned(g: OnnxBuilder, x: str, sizes: Sequence[int], to: Sequence[int]) -> str:
    """``x`` (N, C, *sizes) resized linearly, so that the corners' centres stay there."""
    if list(sizes) == list(to):
        return x
    scales = [_scale(n, out) for n, out in zip(sizes, to, strict=True)]
    mode = "align_corners"
    scale = g.const([1.0, 1.0, *scales])
    return str(g.op("Resize", x, "", scale, mode="linear", coordinate_transformation_mode=mode))


def _scale(size: int, output: int) -> float:
    """The smallest float32 of which ``floor(size * scale)`` is ``output``."""
    scale = np.float32(output / size)
    while size * float(scale) < output:
        scale = np.nextafter(scale, np.float32(np.inf))
    return float(scale)
