"""Noise: the identity at inference; adds random numbers in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    Layer,
    Parameters,
    TorchBuilder,
    register_layer,
    unsupported,
)
from caffe2torch.layers._random import RandomInTraining


@register_layer()
class Noise(RandomInTraining):
    """y = x in phase TEST, x plus noise in TRAIN (happynear/caffe-windows: noise_layer.cpp).

    The noise is normal with the mean ``bias`` and the deviation ``gaussian_std`` times the
    root of the mean of x^2 over the bottom, or, if only ``uniform_range`` is given, uniform
    within that of ``bias``. Random numbers have no exact ONNX form. Neither of the two is
    refused: the fork would add what its memory holds.
    """

    type = "Noise"
    drawn = "noise of phase TRAIN has"
    parameters = Parameters(
        "noise_param",
        """
        optional float gaussian_std = 1 [default = 0];
        optional float uniform_range = 2 [default = 0];
        optional float bias = 3 [default = 0];
        """,
    )

    gaussian_std: float | None
    uniform_range: float
    bias: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        gaussian = param.HasField("gaussian_std")
        if not gaussian and not param.HasField("uniform_range"):
            raise unsupported(
                proto, "neither gaussian_std nor uniform_range is given", "noise_param"
            )
        return cls(
            name=proto.name,
            gaussian_std=param.gaussian_std if gaussian else None,
            uniform_range=param.uniform_range,
            bias=param.bias,
            phase=enum_name(proto, "phase"),
        )

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.runtime.Noise(self.gaussian_std, self.uniform_range, self.bias)
