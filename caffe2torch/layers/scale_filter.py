"""ScaleFilter: the identity at inference; scales channels at random in training."""

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
from caffe2torch.layers._spatial import require_axes


@register_layer()
class ScaleFilter(RandomInTraining):
    """y = x in phase TEST, scale[n, c] * x in TRAIN, for x (N, C, H, W).

    Fork: OpenVINO's training_toolbox_caffe, scale_filter_layer.cpp. Scales are uniform between
    ``min_scale`` and ``max_scale``, both required, drawn anew at every pass. Random numbers have
    no exact ONNX form. Errors: not 0 < ``min_scale`` < ``max_scale``; not four axes.
    """

    type = "ScaleFilter"
    drawn = "scales of phase TRAIN have"
    parameters = Parameters(
        "scale_filter_param",
        """
        optional float min_scale = 1;
        optional float max_scale = 2;
        """,
    )

    low: float
    high: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        if not 0 < p.min_scale < p.max_scale:
            raise net_error(
                proto,
                f"min_scale {p.min_scale:g} and max_scale {p.max_scale:g} are not positive and "
                "rising",
                "scale_filter_param",
            )
        return cls(proto.name, p.min_scale, p.max_scale, phase=enum_name(proto, "phase"))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        require_axes(self, bottoms[0])
        return [bottoms[0]]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.runtime.ChannelScaling(self.low, self.high)
