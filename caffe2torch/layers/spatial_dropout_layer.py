"""The Python layer ``SpatialDropoutLayer`` of ENet: dropout of whole channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    TorchBuilder,
    net_error,
    python_params,
    register_layer,
    unsupported,
)
from caffe2torch.layers._random import RandomInTraining


@register_layer()
class SpatialDropoutLayer(RandomInTraining):
    """y = x / (1 - p); where ``phase`` is TRAIN, mask[n, c] * x / (1 - p), for x (N, C, H, W).

    Fork: TimoSaemann/caffe-enet, python/spatial_dropout.py. ``phase`` and ``p`` are both in
    ``param_str``. The mask is 0 with probability p. Unlike Dropout, it scales where it does
    not drop, too. Random numbers have no exact ONNX form, and are refused in a net of phase TEST.
    Errors: p not between 0 and 1, or none; no phase.
    """

    type = "Python spatial_dropout.SpatialDropoutLayer"
    drawn = "dropout of phase TRAIN has"

    ratio: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        given = python_params(proto)
        phase, text = given.get("phase"), given.get("p")
        try:
            ratio = float(text)  # type: ignore[arg-type]  # None raises TypeError.
        except (TypeError, ValueError):
            ratio = 0
        if not 0 < ratio < 1:
            raise net_error(
                proto, f"p is {text!r}; it must lie between 0 and 1", "python_param.param_str"
            )
        if phase is None:
            raise net_error(proto, "it gives no phase", "python_param.param_str")
        if phase == "TRAIN" and enum_name(proto, "phase") == "TEST":
            raise unsupported(
                proto,
                "its phase TRAIN stays random at inference; give it the phase TEST",
                "python_param.param_str",
            )
        return cls(name=proto.name, ratio=ratio, phase=phase)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if self.draws and len(bottoms[0]) != 4:
            raise self.net_error(f"a bottom of shape {bottoms[0]} must have four axes")
        return [bottoms[0]]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.runtime.ChannelDropout(self.ratio) if self.draws else None

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.module(inputs[0]) if self.draws else inputs[0] * (1 / (1 - self.ratio))

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        self.refuse_draws()
        return [g.op("Mul", inputs[0], g.const(1 / (1 - self.ratio)))]
