"""Convolution and pooling over time, rows and columns, and over any number of axes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import BlobSpec, Layer, OnnxBuilder, Parameters, TorchBuilder, net_error
from caffe2torch.layers import _pooling as pooling
from caffe2torch.layers._convolution import ConvolutionBase
from caffe2torch.layers._pooling import PoolWindow
from caffe2torch.layers._spatial import Window, require_axes, require_positive

VOLUME_CONVOLUTION = Parameters(
    ("convolution3d_param", "convolution_param"),
    """
    optional uint32 num_output = 1;
    optional bool bias_term = 2 [default = true];
    optional uint32 pad = 3 [default = 0];
    optional uint32 kernel_size = 4;
    optional uint32 group = 5 [default = 1];
    optional uint32 kernel_depth = 6;
    optional uint32 stride = 7 [default = 1];
    optional uint32 temporal_stride = 8 [default = 1];
    optional FillerParameter weight_filler = 9;
    optional FillerParameter bias_filler = 10;
    optional uint32 filter_group = 11 [default = 1];
    optional uint32 temporal_pad = 12 [default = 0];
    """,
)
"""C3D's parameters of both directions: 1.1 has a message of its own, 1.0 changed Caffe's."""


@dataclass(frozen=True)
class VolumeConvolution(ConvolutionBase):
    """Base of C3D's convolutions of a bottom (N, C, L, H, W)."""

    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    parameters = VOLUME_CONVOLUTION

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = VOLUME_CONVOLUTION.of(proto)
        size, depth = param.kernel_size, param.kernel_depth
        for name in ("num_output", "kernel_size", "kernel_depth", "stride", "temporal_stride"):
            if not getattr(param, name):
                raise net_error(proto, "must be given and positive", name)
        if not param.filter_group or param.num_output % param.filter_group:
            raise net_error(
                proto,
                f"num_output {param.num_output} is not divisible by {param.filter_group}",
                "filter_group",
            )
        return cls(
            name=proto.name,
            num_output=param.num_output,
            bias_term=param.bias_term,
            group=1,
            axis=1,
            window=Window(
                kernel=(depth, size, size),
                stride=(param.temporal_stride, param.stride, param.stride),
                pad=(param.temporal_pad, param.pad, param.pad),
                dilation=(1, 1, 1),
            ),
            weight_filler=param.weight_filler,
            bias_filler=param.bias_filler,
            weight_filler_given=param.HasField("weight_filler"),
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        require_axes(self, bottoms[0], 5)
        return super().infer_shapes(bottoms)

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        weight, *bias = super().blob_specs(bottoms)
        return [weight, *(replace(b, other_shapes=((1, 1, 1, 1, *b.shape),)) for b in bias)]


@dataclass(frozen=True)
class VolumePooling(Layer):
    """Base of poolings of (N, C, *spatial), one to three spatial axes, without a mask."""

    method: str
    window: PoolWindow | None
    """None: all spatial axes whole."""

    @abstractmethod
    def window_on(self, sizes: Sequence[int]) -> PoolWindow:
        """The window on a bottom of these spatial sizes."""

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        sizes = self.window_on(shape[2:]).output_sizes(shape[2:])
        require_positive(self, sizes, shape)
        return [(*shape[:2], *sizes)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        w = self.window_on(bottoms[0][2:])
        run = t.runtime.max_pool_volume if self.method == "MAX" else t.runtime.mean_pool_volume
        if self.window is None:
            return run(inputs[0])
        return run(inputs[0], w.kernel, w.stride, w.pad, w.drops)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        sizes = g.shape(inputs[0])[2:]
        run = pooling.max_pool_onnx if self.method == "MAX" else pooling.average_pool_onnx
        return [run(g, inputs[0], self.window_on(sizes), sizes)]
