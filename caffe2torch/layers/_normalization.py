"""What the batch-normalising layers share: y = (x - mean[c]) / sqrt(variance[c] + eps)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from caffe2torch.graph import FloatArray
from caffe2torch.layers._base import Affine, OnnxBuilder
from caffe2torch.layers._onnx import check_constant

if TYPE_CHECKING:
    pass


def affine_of_normalize(mean: FloatArray, variance: FloatArray, eps: float) -> Affine:
    """The layer by given statistics as a factor and a summand for each channel."""
    scale = 1 / np.sqrt(np.asarray(variance, np.float64) + eps)
    return Affine(scale, -mean * scale)


def normalize_onnx(
    g: OnnxBuilder,
    x: str,
    mean: str,
    variance: str,
    eps: float,
    weight: str | None = None,
    bias: str | None = None,
) -> str:
    """``normalize`` in ONNX."""
    channels = g.shape(x)[1]
    check_constant(channels)
    weight = weight or g.const(np.ones(channels))
    bias = bias or g.const(np.zeros(channels))
    return str(g.op("BatchNormalization", x, weight, bias, mean, variance, epsilon=eps))


def normalize_by_batch_onnx(g: OnnxBuilder, x: str, eps: float) -> tuple[str, str, str]:
    """``normalize_by_batch`` in ONNX."""
    axes = [axis for axis in range(len(g.shape(x))) if axis != 1]
    mean = g.op("ReduceMean", x, axes=axes)
    centred = g.op("Sub", x, mean)
    variance = g.op("ReduceMean", g.op("Mul", centred, centred), axes=axes)
    deviation = g.op("Sqrt", g.op("Add", variance, g.const(eps)))
    return g.op("Div", centred, deviation), mean, variance
