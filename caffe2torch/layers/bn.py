"""BN: the batch normalisation of two families of forks, told apart by their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message, enum_name, enum_value
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
    unsupported,
)
from caffe2torch.layers._broadcast import trailing
from caffe2torch.layers._normalization import (
    affine_of_normalize,
    normalize_by_batch_onnx,
    normalize_onnx,
)

SCALE_SHIFT_FIELDS = ("bn_mode", "scale_filler", "shift_filler")
RUNNING_FIELDS = ("slope_filler", "bias_filler", "momentum", "eps", "frozen", "moving_average")
SCALE_SHIFT_EPS = 1e-9


@register_layer()
class BN(Layer):
    """y = weight[c] * (x - mean[c]) / sqrt(variance[c] + eps) + bias[c] (bn_layer.cpp of forks).

    Two forms, for bottoms (N, C, ..):

    * SegNet and ENet (``bn_mode``, ``scale_filler``, ``shift_filler``), of two to four axes: blobs
      scale, shift, each (1, C, 1, 1). Mode INFERENCE is y = scale * x + shift. Mode LEARN, the
      default, takes the statistics of the batch with eps 1e-9; a second and third top are the
      batch's mean and biased variance, (1, C, 1, 1).
    * TSN, PSPNet and Pseudo-3D (``slope_filler``, ``bias_filler``, ``momentum``, ``eps``,
      ``frozen``): blobs slope, bias, running mean and variance, each (1, C) or (1, C, 1, 1).
      ``frozen`` always takes the running statistics, otherwise phase TRAIN takes those of the
      batch, and phase TEST those of the batch while the module trains. Training updates
      running' = momentum * running + (1 - momentum) * batch. ``moving_average: true``, of an
      older form, says the same; false is refused, as nothing sets the statistics in phase TEST.

    Without any of these the number of the layer's blobs, or of ``param`` entries above two,
    tells the form; a layer that shows nothing is refused.
    """

    type = "BN"
    reads = NOTHING
    works_in_place = True
    parameters = Parameters(
        "bn_param",
        """
        enum BNMode {
          LEARN = 0;
          INFERENCE = 1;
        }
        optional FillerParameter scale_filler = 1;
        optional FillerParameter shift_filler = 2;
        optional BNMode bn_mode = 3 [default = LEARN];
        optional FillerParameter slope_filler = 500000001;
        optional FillerParameter bias_filler = 500000002;
        optional float momentum = 500000003 [default = 0.9];
        optional float eps = 500000004 [default = 1e-5];
        optional bool frozen = 500000005 [default = false];
        optional bool moving_average = 500000007 [default = true];
        enum Engine {
          DEFAULT = 0;
          CAFFE = 1;
          CUDNN = 2;
        }
        optional Engine engine = 500000006;  // Which library computes the layer.
        """,
    )
    tops = (1, 3)
    buffers = frozenset({"running_mean", "running_var"})

    has_running_stats: bool
    by_batch: bool | None
    """Whether the batch's statistics count; None if they do while the module trains."""
    eps: float
    momentum: float
    num_tops: int
    fillers: tuple[Message, Message] = field(repr=False)
    fillers_given: tuple[bool, bool] = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        running = _has_running_stats(proto, param)
        names = ("slope_filler", "bias_filler") if running else ("scale_filler", "shift_filler")
        by_batch = (
            _running_form(proto, param) if running else enum_name(param, "bn_mode") == "LEARN"
        )
        if len(proto.top) > 1 and (running or not by_batch):
            raise net_error(proto, "only bn_mode LEARN has more than one top", "top")
        return cls(
            name=proto.name,
            has_running_stats=running,
            by_batch=by_batch,
            eps=param.eps if running else SCALE_SHIFT_EPS,
            momentum=param.momentum,
            num_tops=len(proto.top),
            fillers=(getattr(param, names[0]), getattr(param, names[1])),
            fillers_given=(param.HasField(names[0]), param.HasField(names[1])),
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (x,) = bottoms
        if len(x) < 2 or (len(x) > 4 and not self.has_running_stats):
            raise self.net_error(f"a bottom of shape {x} must have two to four axes")
        if not self.has_running_stats:
            x = x + (1,) * (4 - len(x))
        return [x, (1, x[1], 1, 1), (1, x[1], 1, 1)][: self.num_tops]

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        row: Shape = (1, bottoms[0][1])
        column = (*row, 1, 1)
        shape, other = (row, column) if self.has_running_stats else (column, row)
        names = ["weight", "bias", "running_mean", "running_var"]
        fillers = [*self.fillers, constant_filler(0), constant_filler(self.by_batch is False)]
        given = [*self.fillers_given, *[self.by_batch is True] * 2]
        count = 4 if self.has_running_stats else 2
        return [
            BlobSpec(*spec, other_shapes=(other,))
            for spec in list(zip(names, [shape] * 4, fillers, given, strict=True))[:count]
        ]

    def import_blobs(
        self, blobs: Sequence[FloatArray], bottoms: Sequence[Shape]
    ) -> Mapping[str, FloatArray]:
        specs = self.blob_specs(bottoms)
        return {s.name: b.reshape(-1) for s, b in zip(specs, blobs, strict=True)}

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        if not self.has_running_stats:
            return None
        return t.runtime.BN(bottoms[0][1], self.eps, t.exact(self.momentum), self.by_batch)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        (x,), (shape,) = inputs, bottoms
        if self.has_running_stats:
            return t.module(x)
        learned = t.params.weight, t.params.bias
        if not self.by_batch:
            return t.runtime.channel_affine(trailing(x, 4 - len(shape)), *learned)
        tops = t.runtime.batch_bn(x, *learned, self.eps)
        return {1: tops[0], 2: tops[:2], 3: tops}[self.num_tops]

    def affine(self, params: Mapping[str, FloatArray], channels: int) -> Affine | None:
        if self.by_batch or self.num_tops > 1:
            return None
        own = Affine(params["weight"].astype(np.float64), params["bias"].astype(np.float64))
        if not self.has_running_stats:
            return own
        mean, variance = params["running_mean"], params["running_var"]
        return affine_of_normalize(mean, variance, self.eps).then(own)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        num_axes = len(g.shape(x))
        weight, bias = g.params["weight"], g.params["bias"]
        if self.has_running_stats and not self.by_batch:
            mean, variance = g.params["running_mean"], g.params["running_var"]
            return [normalize_onnx(g, x, mean, variance, self.eps, weight, bias)]
        y, mean, variance = x, "", ""
        if self.by_batch:
            y, mean, variance = normalize_by_batch_onnx(g, x, self.eps)
        column = g.const([-1] + [1] * (num_axes - 2), np.int64)
        y = g.op("Mul", y, g.op("Reshape", weight, column))
        y = g.op("Add", y, g.op("Reshape", bias, column))
        if not self.has_running_stats and num_axes < 4:
            y = g.op("Reshape", y, g.const([0] * num_axes + [1] * (4 - num_axes), np.int64))
        statistics = g.const([1, -1, 1, 1], np.int64)
        return [y, *(g.op("Reshape", s, statistics) for s in (mean, variance)[: self.num_tops - 1])]


def _has_running_stats(proto: Message, param: Message) -> bool:
    """Whether the layer is of the form with running statistics; raises if it cannot be told."""
    scale_shift = [name for name in SCALE_SHIFT_FIELDS if param.HasField(name)]
    running = [name for name in RUNNING_FIELDS if param.HasField(name)]
    if scale_shift and running:
        raise unsupported(
            proto,
            f"{scale_shift[0]} belongs to the form with two blobs, {running[0]} to the form with "
            "four; keep those of the fork that trained the net",
            "bn_param",
        )
    if not param.moving_average:
        raise unsupported(
            proto,
            "without it nothing sets the statistics in phase TEST; write true if the layer has the "
            "running mean and variance",
            "bn_param.moving_average",
        )
    if scale_shift or running:
        return bool(running)
    if len(proto.blobs) in (2, 4):
        return len(proto.blobs) == 4
    if len(proto.param) > 2:
        return True
    raise unsupported(
        proto,
        "nothing tells which fork's BN it is. Write its parameters out: bn_mode for the form "
        "with the blobs scale and shift (SegNet), momentum or frozen for the one with slope, "
        "bias, mean and variance (PSPNet)",
        "bn_param",
    )


def _running_form(proto: Message, param: Message) -> bool | None:
    if param.frozen:
        return False
    return True if proto.phase == enum_value("Phase", "TRAIN") else None
