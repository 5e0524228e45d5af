"""SeLuDropout: the identity at inference; dropout that keeps mean and deviation in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    Layer,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
)
from caffe2torch.layers._random import RandomInTraining


@register_layer()
class SeLuDropout(RandomInTraining):
    """y = x in phase TEST, a * (x or ``alpha``) + b in TRAIN.

    Fork: py-RFCN-priv, selu_dropout_layer.cpp. ``alpha`` (default -1.75809934, where SELU ends) is
    taken with the probability r = ``dropout_ratio`` (default 0.1), drawn anew at every pass;
    a = ((1 - r) (1 + alpha^2 r))^-0.5 and b = -a r alpha. Random numbers have no exact ONNX form.
    Errors: a ratio outside of (0, 1).
    """

    type = "SeLuDropout"
    drawn = "values of phase TRAIN have"
    parameters = Parameters(
        "selu_dropout_param",
        """
        optional float dropout_ratio = 1 [default = 0.1];
        optional float alpha = 2 [default = -1.75809934];
        """,
    )

    dropout_ratio: float
    alpha: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        if not 0 < p.dropout_ratio < 1:
            raise net_error(
                proto,
                f"{p.dropout_ratio:g} is not between 0 and 1",
                "selu_dropout_param.dropout_ratio",
            )
        return cls(proto.name, p.dropout_ratio, p.alpha, phase=enum_name(proto, "phase"))

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.runtime.SelfNormalDropout(self.dropout_ratio, self.alpha)
