"""BatchNorm: normalise each channel by the statistics of the batch or by running ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message, enum_value
from caffe2torch.layers import (
    NOTHING,
    Affine,
    BlobSpec,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    constant_filler,
    net_error,
    register_layer,
)
from caffe2torch.layers._normalization import (
    CUDNN_MIN_EPS,
    ScaledNorm,
    affine_of_normalize,
    normalize_by_batch_onnx,
    normalize_onnx,
)

SCALED = Parameters(
    "batch_norm_param",
    """
    optional FillerParameter scale_filler = 5;
    optional FillerParameter bias_filler = 6;
    optional bool scale_bias = 7 [default = false];
    """,
)
"""What NVIDIA's fork adds."""


@register_layer()
class BatchNorm(Layer):
    """y = (x - mean[c]) / sqrt(variance[c] + eps) for bottoms (N, C, ..) (batch_norm_layer.cpp).

    ``use_global_stats`` true always takes the running statistics, false those of the batch
    (biased variance); None, the default in phase TEST, takes those of the batch while the
    module trains and the running ones otherwise. A layer of phase TRAIN defaults to false.

    Caffe's blobs are mean (C), variance (C) and a scale factor (1) that both are divided
    by; factor 0 makes them 0. The torch buffers hold the quotients and the factor, so that
    a training step updates them as Caffe does:

        scale_factor' = moving_average_fraction * scale_factor + 1
        running' = (moving_average_fraction * scale_factor * running + batch) / scale_factor'

    with the batch's variance corrected by m / (m - 1).

    A bottom of fewer than two axes is an error, as is a ``param`` with a learning rate.
    A net with ``scale_bias``, ``scale_filler`` or ``bias_filler`` is one of NVIDIA's fork:
    see ``ScaledBatchNorm``.
    """

    type = "BatchNorm"
    reads = NOTHING
    parameters = SCALED
    works_in_place = True
    whole_backward = True
    buffers = frozenset({"running_mean", "running_var", "scale_factor"})

    use_global_stats: bool | None
    moving_average_fraction: float
    eps: float

    @property
    def learns_in_test(self) -> bool:
        return self.use_global_stats is False

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param, scaled = proto.batch_norm_param, cls.parameters.of(proto)
        if scaled.scale_bias or scaled.HasField("scale_filler") or scaled.HasField("bias_filler"):
            return ScaledBatchNorm.from_proto(proto)
        if any(spec.lr_mult for spec in proto.param[:3]):
            raise net_error(
                proto, "running statistics cannot be learned; set it to 0", "param.lr_mult"
            )
        use_global_stats: bool | None = None
        if param.HasField("use_global_stats"):
            use_global_stats = param.use_global_stats
        elif proto.phase == enum_value("Phase", "TRAIN"):
            use_global_stats = False
        return cls(
            name=proto.name,
            use_global_stats=use_global_stats,
            moving_average_fraction=param.moving_average_fraction,
            eps=param.eps,
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if len(bottoms[0]) < 2:
            raise self.net_error(f"a bottom of shape {bottoms[0]} has fewer than two axes")
        return [bottoms[0]]

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return self.eps > 0

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        zero, given = constant_filler(0), self.use_global_stats is False
        channels = (bottoms[0][1],)
        return [
            BlobSpec("running_mean", channels, zero, given),
            BlobSpec("running_var", channels, zero, given),
            BlobSpec("scale_factor", (1,), zero, given),
        ]

    def import_blobs(
        self, blobs: Sequence[FloatArray], bottoms: Sequence[Shape]
    ) -> Mapping[str, FloatArray]:
        mean, variance, factor = blobs
        inverse = _inverse(factor)
        return {
            "running_mean": mean * inverse,
            "running_var": variance * inverse,
            "scale_factor": factor,
        }

    def export_blobs(
        self, params: Mapping[str, FloatArray], bottoms: Sequence[Shape]
    ) -> Sequence[FloatArray]:
        factor = params["scale_factor"]
        statistics = (params["running_mean"], params["running_var"])
        return [*(_undivided(array, _inverse(factor)) for array in statistics), factor]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.runtime.BatchNorm(
            bottoms[0][1],
            eps=self.eps,
            momentum=self.moving_average_fraction,
            use_global_stats=self.use_global_stats,
        )

    def affine(self, params: Mapping[str, FloatArray], channels: int) -> Affine | None:
        if self.use_global_stats is False:
            return None
        return affine_of_normalize(params["running_mean"], params["running_var"], self.eps)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        if self.use_global_stats is False:
            return [normalize_by_batch_onnx(g, inputs[0], self.eps)[0]]
        mean, variance = g.params["running_mean"], g.params["running_var"]
        return [normalize_onnx(g, inputs[0], mean, variance, self.eps)]


@dataclass(frozen=True)
class ScaledBatchNorm(ScaledNorm):
    """BatchNorm that scales and shifts (NVIDIA's Caffe 0.16 and 0.17: batch_norm_layer.cpp).

    Five blobs: mean (C), variance (C), a correction (1), scale (C) and bias (C). The
    statistics are used as they are: the correction, 1 in that fork's files, divides nothing.
    The phase alone decides between running and batch statistics: ``use_global_stats`` has no
    effect there. eps is at least 1e-5. Scale starts at 1 and bias at 0 unless ``scale_filler``
    and ``bias_filler`` say otherwise.

    That fork's version 0.15 writes the blobs in another order, scale first; its files are
    refused by the shape of the third blob.
    """

    type = "BatchNorm"
    parameters = SCALED

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param, scaled = proto.batch_norm_param, cls.parameters.of(proto)
        scale = scaled.scale_filler if scaled.HasField("scale_filler") else constant_filler(1)
        return cls(
            name=proto.name,
            by_batch=True if proto.phase == enum_value("Phase", "TRAIN") else None,
            eps=max(param.eps, CUDNN_MIN_EPS),
            momentum=param.moving_average_fraction,
            fillers=(scale, scaled.bias_filler),
        )

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        weight, bias, mean, variance = self.own_specs((bottoms[0][1],), ())
        correction = BlobSpec("correction", (1,), constant_filler(1), True)
        return [mean, variance, correction, weight, bias]

    def import_blobs(
        self, blobs: Sequence[FloatArray], bottoms: Sequence[Shape]
    ) -> Mapping[str, FloatArray]:
        named = dict(super().import_blobs(blobs, bottoms))
        del named["correction"]
        return named

    def export_blobs(
        self, params: Mapping[str, FloatArray], bottoms: Sequence[Shape]
    ) -> Sequence[FloatArray]:
        return super().export_blobs({**params, "correction": np.ones(1, np.float32)}, bottoms)


def _inverse(factor: FloatArray) -> FloatArray:
    """1 / factor in float32, as Caffe computes it; 0 for 0."""
    return np.divide(1, factor, out=np.zeros_like(factor), where=factor != 0)


def _undivided(statistics: FloatArray, inverse: FloatArray) -> FloatArray:
    """The blob whose product with ``inverse`` is ``statistics``, bit for bit if there is one."""
    if not inverse[0]:
        return np.zeros_like(statistics)
    blob = statistics / inverse
    above, below = (np.nextafter(blob, np.float32(end)) for end in (np.inf, -np.inf))
    for other in (above, below):
        better = (blob * inverse != statistics) & (other * inverse == statistics)
        blob = np.where(better, other, blob)
    return blob
