"""PeriodicShuffle: channels as the pixels of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    NOTHING,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
)
from caffe2torch.layers._spatial import require_axes


@register_layer()
class PeriodicShuffle(Layer):
    """y[n, c, g h + i, g w + j] = x[n, (g i + j) C + c, h, w] for i, j below g = ``group_size``.

    Fork: Wangyupei/CED, periodic_shuffle_layer.cpp. Bottom (N, g g C, H, W), top
    (N, C, g H, g W), C = ``num_output``. Errors: either is 0, other channels, not four axes.
    """

    type = "PeriodicShuffle"
    reads = NOTHING
    parameters = Parameters(
        "periodic_shuffle_param",
        "optional uint32 num_output = 1; optional uint32 group_size = 2;",
    )

    channels: int
    size: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        for name in ("num_output", "group_size"):
            if not getattr(param, name):
                raise net_error(
                    proto, "must be given and positive", f"periodic_shuffle_param.{name}"
                )
        return cls(name=proto.name, channels=param.num_output, size=param.group_size)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        require_axes(self, bottoms[0])
        batch, channels, height, width = bottoms[0]
        wanted = self.channels * self.size**2
        if channels != wanted:
            raise self.net_error(f"the bottom has {channels} channels, not {wanted}")
        return [(batch, self.channels, height * self.size, width * self.size)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.periodic_shuffle(inputs[0], self.size)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("DepthToSpace", inputs[0], blocksize=self.size, mode="DCR")]
