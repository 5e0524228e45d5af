"""Dropout: the identity or a factor at inference; zeroes elements at random in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    TEXT_ONLY,
    Affine,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)
from caffe2torch.layers._random import DropoutInTraining


@register_layer()
class Dropout(DropoutInTraining):
    """y = x in phase TEST, mask * x / (1 - dropout_ratio) in TRAIN (Caffe: dropout_layer.cpp).

    The mask is 0 with probability ``dropout_ratio`` (default 0.5, between 0 and 1), drawn
    anew at every pass. Random numbers have no exact ONNX form: they are refused there.

    ``scale_train: false`` (Fast R-CNN's fork) moves the factor to the other phase:
    y = (1 - dropout_ratio) * x in TEST, mask * x in TRAIN. ``sample_weights_test`` (SegNet's
    fork) draws the mask in TEST too, so that several passes give a sample of predictions. Both
    have the number 2: a binary in which it is true is refused.
    """

    type = "Dropout"
    keeps_signs = True
    parameters = Parameters(
        "dropout_param",
        f"""
        optional bool scale_train = 2 [default = true];
        optional bool sample_weights_test = {TEXT_ONLY};
        """,
    )

    scale_train: bool = True
    sample_weights_test: bool = False

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        ratio, param = proto.dropout_param.dropout_ratio, cls.parameters.of(proto)
        if not 0 <= ratio <= 1:
            raise net_error(
                proto, f"{ratio:g} is not between 0 and 1", "dropout_param.dropout_ratio"
            )
        if ratio == 1 and param.scale_train and enum_name(proto, "phase") == "TRAIN":
            raise net_error(
                proto,
                "1 keeps no element, and 0 / (1 - 1) makes NaN of all in phase TRAIN; give less",
                "dropout_param.dropout_ratio",
            )
        numbers = [u for u in proto.unknown_field if cls.parameters.claims(u) and u.number]
        if numbers and param.scale_train:
            raise unsupported(
                proto,
                "field 2 is true in the binary, which is scale_train in Fast R-CNN's fork and "
                "sample_weights_test in SegNet's; give the net's prototxt",
                "dropout_param",
            )
        if param.sample_weights_test and not param.scale_train:
            raise net_error(
                proto,
                "no fork has it beside scale_train: false; keep the one of the fork that trained "
                "the net",
                "dropout_param.sample_weights_test",
            )
        return cls(
            name=proto.name,
            dropout_ratio=ratio,
            phase=enum_name(proto, "phase"),
            scale_train=param.scale_train,
            sample_weights_test=param.sample_weights_test,
        )

    @property
    def is_identity(self) -> bool:
        """Whether the layer is of phase TEST, and y = x in it."""
        return self.phase == "TEST" and self.scale_train and not self.sample_weights_test

    def affine(self, params: Mapping[str, FloatArray], channels: int) -> Affine | None:
        if self.sample_weights_test or self.phase == "TRAIN":
            return None
        factor = 1.0 if self.scale_train else 1 - self.dropout_ratio
        return Affine(np.full(channels, factor), np.zeros(channels))

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return None if self.sample_weights_test else t.nn.Dropout(self.dropout_ratio)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        if self.sample_weights_test:
            return t.F.dropout(inputs[0], self.dropout_ratio, training=True)
        y = t.module(inputs[0])
        # The module divides what it keeps by this factor in training, which takes it back.
        return y if self.scale_train else y * (1 - self.dropout_ratio)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        self.refuse_draws()
        if self.dropout_ratio and self.sample_weights_test:
            raise self.unsupported(
                "dropout that stays random at inference has no exact ONNX form; convert to torch, "
                "or set it to false for the mean instead of a sample",
                "dropout_param.sample_weights_test",
            )
        if self.scale_train:
            return [g.op("Identity", inputs[0])]
        return [g.op("Mul", inputs[0], g.const(1 - self.dropout_ratio))]
