"""What the batch-normalising layers share: y = (x - mean[c]) / sqrt(variance[c] + eps)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers._backward import NOTHING
from caffe2torch.layers._base import Affine, BlobSpec, Layer, constant_filler
from caffe2torch.layers._builders import OnnxBuilder, TorchBuilder
from caffe2torch.layers._onnx import check_constant

CUDNN_MIN_EPS = 1e-5
"""cuDNN takes no smaller eps, so forks that call it raise theirs to this."""


@dataclass(frozen=True)
class ScaledNorm(Layer):
    """Base: y = weight[c] * (x - mean[c]) / sqrt(variance[c] + eps) + bias[c].

    The statistics are those of the batch (biased variance) or the running ones. Training
    moves the latter: running' = momentum * running + (1 - momentum) * batch.
    """

    buffers: ClassVar[frozenset[str]] = frozenset({"running_mean", "running_var"})
    works_in_place: ClassVar[bool] = True
    reads = NOTHING

    by_batch: bool | None
    """Whether the batch's statistics count; None if they do while the module trains."""
    eps: float
    momentum: float
    fillers: tuple[Message, Message] = field(repr=False)
    """Of weight and bias."""

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if len(bottoms[0]) < 2:
            raise self.net_error(f"a bottom of shape {bottoms[0]} has fewer than two axes")
        return [bottoms[0]]

    def own_specs(self, shape: Shape, other_shapes: tuple[Shape, ...]) -> list[BlobSpec]:
        """Weight, bias, running_mean and running_var, for the subclass to order."""
        given = self.by_batch is True
        zero = constant_filler(0)
        return [
            BlobSpec("weight", shape, self.fillers[0], True, other_shapes),
            BlobSpec("bias", shape, self.fillers[1], True, other_shapes),
            BlobSpec("running_mean", shape, zero, given, other_shapes),
            BlobSpec("running_var", shape, constant_filler(1), given, other_shapes),
        ]

    def import_blobs(
        self, blobs: Sequence[FloatArray], bottoms: Sequence[Shape]
    ) -> Mapping[str, FloatArray]:
        named = super().import_blobs(blobs, bottoms)
        return {name: blob.reshape(-1) for name, blob in named.items()}

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.runtime.BN(bottoms[0][1], self.eps, t.exact(self.momentum), self.by_batch)

    def affine(self, params: Mapping[str, FloatArray], channels: int) -> Affine | None:
        if self.by_batch:
            return None
        own = Affine(params["weight"].astype(np.float64), params["bias"].astype(np.float64))
        mean, variance = params["running_mean"], params["running_var"]
        return affine_of_normalize(mean, variance, self.eps).then(own)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        names = ("running_mean", "running_var", "weight", "bias")
        mean, variance, weight, bias = (g.params[name] for name in names)
        if not self.by_batch:
            return [normalize_onnx(g, x, mean, variance, self.eps, weight, bias)]
        y, _, _ = normalize_by_batch_onnx(g, x, self.eps)
        column = g.const([-1] + [1] * (len(g.shape(x)) - 2), np.int64)
        y = g.op("Mul", y, g.op("Reshape", weight, column))
        return [g.op("Add", y, g.op("Reshape", bias, column))]


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
    axes = len(g.shape(x))
    mean = _channel_mean_onnx(g, x, axes)
    centred = g.op("Sub", x, mean)
    variance = _channel_mean_onnx(g, g.op("Mul", centred, centred), axes)
    deviation = g.op("Sqrt", g.op("Add", variance, g.const(eps)))
    return g.op("Div", centred, deviation), mean, variance


def _channel_mean_onnx(g: OnnxBuilder, x: str, axes: int) -> str:
    """The mean of each channel. OpenCV 5.0 gives another for the batch and its pixels at once."""
    if axes > 2:
        x = g.op("ReduceMean", x, axes=list(range(2, axes)))
    return str(g.op("ReduceMean", x, axes=[0]))
