"""Mean: a constant for each channel, subtracted or added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    Affine,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)
from caffe2torch.layers._spatial import require_axes


@register_layer()
class Mean(Layer):
    """y[c] = output_scale (input_scale x[c] - mean_scale value[c]) for bottoms (N, C, H, W).

    FlowNet 2: mean_layer.cpp. ``operation: ADD`` adds instead. The values repeat if there are
    fewer than channels. Each bottom has a top. Scales default to 1. Errors: no operation, no
    values, channels that are not a multiple of the values. A mean ``file`` is not part of the
    net and refused.
    """

    type = "Mean"
    parameters = Parameters(
        "mean_param",
        """
        enum MeanOperation { ADD = 1; SUBTRACT = 4; }
        optional MeanOperation operation = 1;
        optional string file = 2;
        repeated float value = 3;
        optional float mean_scale = 4 [default = 1];
        optional float input_scale = 5 [default = 1];
        optional float output_scale = 6 [default = 1];
        """,
    )
    bottoms: ClassVar[tuple[int, int | None]] = (1, None)
    tops: ClassVar[tuple[int, int | None]] = (1, None)
    same_bottoms_and_tops = True

    scale: float
    shifts: tuple[float, ...]

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if not param.HasField("operation"):
            raise net_error(proto, "must be ADD or SUBTRACT", "mean_param.operation")
        if param.HasField("file"):
            raise unsupported(
                proto,
                "the mean is in a file beside the net; write it as values, one for each channel",
                "mean_param.file",
            )
        if not param.value:
            raise net_error(proto, "must be given", "mean_param.value")
        sign = 1 if enum_name(param, "operation") == "ADD" else -1
        factor = sign * param.output_scale * param.mean_scale
        return cls(
            name=proto.name,
            scale=param.output_scale * param.input_scale,
            shifts=tuple(factor * value for value in param.value),
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        for shape in bottoms:
            require_axes(self, shape)
            if shape[1] % len(self.shifts):
                raise self.net_error(
                    f"{shape[1]} channels are not a multiple of {len(self.shifts)} values",
                    "mean_param.value",
                )
        return bottoms

    def _shifts(self, channels: int) -> list[float]:
        return [*self.shifts] * (channels // len(self.shifts))

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        shifts = [self._shifts(shape[1]) for shape in bottoms]
        run = t.runtime.shift_channels
        tops = [run(x, self.scale, n) for x, n in zip(inputs, shifts, strict=True)]
        return tops if len(tops) > 1 else tops[0]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        tops = []
        for x in inputs:
            shifts = np.reshape(self._shifts(g.shape(x)[1]), (1, -1, 1, 1))
            y = x if self.scale == 1 else g.op("Mul", x, g.const(self.scale))
            tops.append(g.op("Add", y, g.const(shifts)))
        return tops

    def affine(self, params: Mapping[str, FloatArray], channels: int) -> Affine | None:
        return Affine(np.full(channels, self.scale), np.array(self._shifts(channels)))
