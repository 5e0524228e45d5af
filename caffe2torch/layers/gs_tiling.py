"""GSTiling: pixels to channels, or channels to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    TEXT_ONLY,
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
class GSTiling(Layer):
    """Blocks of s x s pixels to s^2 times the channels (caffe-xilinx: gs_tiling_layer.cpp).

    (N, C, H, W) to (N, C s^2, H / s, W / s): y[(s i + j) C + c, h, w] = x[c, s h + i, s w + j].
    ``reverse`` is the inverse. Errors: no ``stride``; H or W, or with ``reverse`` C, not
    divisible. The fork's default of ``reverse`` is not public: without it, it is refused.
    """

    type = "GSTiling"
    parameters = Parameters(
        "gs_tiling_param",
        f"optional uint32 stride = {TEXT_ONLY}; optional bool reverse = {TEXT_ONLY + 1};",
    )

    stride: int
    reverse: bool

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if not param.stride:
            raise net_error(proto, "it must be given and positive", "gs_tiling_param.stride")
        if not param.HasField("reverse"):
            raise unsupported(
                proto, "write reverse: true or reverse: false", "gs_tiling_param.reverse"
            )
        return cls(name=proto.name, stride=param.stride, reverse=param.reverse)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        require_axes(self, shape)
        s, (n, c, h, w) = self.stride, shape
        if self.reverse:
            if c % (s * s):
                raise self.net_error(f"{c} channels are not divisible by {s * s}", "stride")
            return [(n, c // (s * s), h * s, w * s)]
        if h % s or w % s:
            raise self.net_error(f"height {h} and width {w} are not divisible by {s}", "stride")
        return [(n, c * s * s, h // s, w // s)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        if self.reverse:
            return t.runtime.reorg(inputs[0], self.stride, True)
        return t.runtime.gather_blocks(inputs[0], self.stride)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        if self.reverse:
            return [g.op("DepthToSpace", inputs[0], blocksize=self.stride, mode="DCR")]
        return [g.op("SpaceToDepth", inputs[0], blocksize=self.stride)]
