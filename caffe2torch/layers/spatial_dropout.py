"""SpatialDropout: the identity at inference; zeroes whole channels at random in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    TEXT_ONLY,
    Layer,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)
from caffe2torch.layers._random import DropoutInTraining


@register_layer()
class SpatialDropout(DropoutInTraining):
    """y = x in phase TEST, mask[n, c] * x / (1 - dropout_ratio) in TRAIN, for x (N, C, ..).

    Forks: spatial_dropout_layer.cpp of Intel's Caffe, with Dropout's ``dropout_param``, and of
    jtetrea/caffe-enet, with ``spatial_dropout_param``. The mask is 0 with probability
    ``dropout_ratio`` (default 0.5). Random numbers have no exact ONNX form.
    ``sample_weights_test`` is refused: that fork's code leaves most of the top as it was.
    """

    type = "SpatialDropout"
    parameters = Parameters(
        "spatial_dropout_param",
        f"""
        optional float dropout_ratio = 1 [default = 0.5];
        optional bool sample_weights_test = {TEXT_ONLY};
        """,
    )

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        own = cls.parameters.of(proto)
        if own.sample_weights_test:
            raise unsupported(
                proto, "that fork's code is undefined for it", "spatial_dropout_param"
            )
        ratio = (own if own.HasField("dropout_ratio") else proto.dropout_param).dropout_ratio
        if not 0 <= ratio < 1:
            raise net_error(
                proto, f"{ratio:g} is not between 0 and 1", "dropout_param.dropout_ratio"
            )
        return cls(name=proto.name, dropout_ratio=ratio, phase=enum_name(proto, "phase"))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if len(bottoms[0]) < 2:
            raise self.net_error(f"a bottom of shape {bottoms[0]} has fewer than two axes")
        return [bottoms[0]]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.runtime.ChannelDropout(self.dropout_ratio)
