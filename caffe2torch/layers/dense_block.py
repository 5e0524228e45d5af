"""DenseBlock: a whole block of DenseNet in one layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, NamedTuple

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message, enum_value
from caffe2torch.layers import (
    BlobSpec,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    constant_filler,
    net_error,
    register_layer,
    unsupported,
)
from caffe2torch.layers._spatial import require_axes

EPS = 1e-5


class _Kind(NamedTuple):
    """Arrays of each transition: their name and their filler."""

    name: str
    filler: str
    """The field of the filler, or else its constant value."""


_PLAIN = (
    _Kind("weight", "BN_Scaler_Filler"),
    _Kind("bias", "BN_Bias_Filler"),
    _Kind("running_mean", "0"),
    _Kind("running_var", "1"),
)
_BOTTLENECK = tuple(_Kind(f"{kind.name}_1x1_", kind.filler) for kind in _PLAIN)


@register_layer()
class DenseBlock(Layer):
    """x' = concat(x, conv3x3(relu(norm(x)))), numTransition times (DenseBlock_layer.cpp).

    caffe_ocr, and the memory-saving DenseNet that it took the layer from. Each transition adds
    growthRate channels. With ``use_BC`` it is conv3x3(relu(norm(conv1x1(relu(norm(x)))))), and
    the 1x1 convolution has 4 growthRate channels. norm(x) = scale (x - mean) / sqrt(variance +
    1e-5) + shift, always by the running statistics. The kernels are turned by 180 degrees, as
    the fork asks cuDNN for a convolution, not a correlation.

    Blobs, one of each for every transition: 3x3 filters, scale, shift, mean, variance, with
    ``use_BC`` the 1x1 filters and their scale, shift, mean, variance; last a factor (1). The
    fork's code for the CPU divides the statistics by the factor, the one for the GPU neither
    reads nor writes it: so here they are divided by it unless it is 0.

    ``initChannel`` is the bottom's number of channels, whatever is given; kernel sizes, pads,
    strides and dropout fields do not change the output. A layer of phase TRAIN is refused.
    Defaults: numTransition 40, growthRate 12. Errors: one of these not positive.
    """

    type = "DenseBlock"
    parameters = Parameters(
        "denseblock_param",
        """
        optional int32 numTransition = 1 [default = 40];
        optional int32 initChannel = 2 [default = 16];
        optional int32 growthRate = 3 [default = 12];
        optional int32 pad_h = 4 [default = 1];
        optional int32 pad_w = 5 [default = 1];
        optional int32 conv_verticalStride = 6 [default = 1];
        optional int32 conv_horizentalStride = 7 [default = 1];
        optional int32 filter_H = 8 [default = 3];
        optional int32 filter_W = 9 [default = 3];
        optional FillerParameter Filter_Filler = 10;
        optional FillerParameter BN_Scaler_Filler = 11;
        optional FillerParameter BN_Bias_Filler = 12;
        optional int32 gpuIdx = 15 [default = 0];
        optional bool use_dropout = 16 [default = false];
        optional float dropout_amount = 17 [default = 0];
        optional bool use_BC = 18 [default = false];
        optional bool BC_ultra_space_efficient = 19 [default = false];
        optional int32 workspace_MB = 20 [default = 8];
        optional float moving_average_fraction = 21 [default = 0.1];
        """,
    )

    transitions: int
    growth: int
    bottleneck: bool
    fillers: Message = field(repr=False)
    """The layer's parameters, for their fillers."""

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        for name in ("numTransition", "growthRate"):
            if getattr(param, name) < 1:
                raise net_error(proto, "must be positive", f"denseblock_param.{name}")
        if proto.phase == enum_value("Phase", "TRAIN"):
            raise unsupported(proto, "the statistics of a batch are not implemented", "phase")
        return cls(
            name=proto.name,
            transitions=param.numTransition,
            growth=param.growthRate,
            bottleneck=param.use_BC,
            fillers=param,
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        require_axes(self, shape)
        return [(shape[0], shape[1] + self.transitions * self.growth, *shape[2:])]

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        widths = [bottoms[0][1] + i * self.growth for i in range(self.transitions)]
        inner = 4 * self.growth
        from_inner = [inner] * self.transitions if self.bottleneck else widths
        specs = self._filters("filter", [(self.growth, n, 3, 3) for n in from_inner])
        specs += self._arrays(_PLAIN, widths)
        if self.bottleneck:
            specs += self._filters("filter_1x1_", [(inner, n, 1, 1) for n in widths])
            specs += self._arrays(_BOTTLENECK, [inner] * self.transitions)
        return [*specs, BlobSpec("scale_factor", (1,), constant_filler(0), True)]

    def _filters(self, name: str, shapes: Sequence[Shape]) -> list[BlobSpec]:
        given = self.fillers.HasField("Filter_Filler")
        filler = self.fillers.Filter_Filler
        return [BlobSpec(f"{name}{i}", shape, filler, given) for i, shape in enumerate(shapes)]

    def _arrays(self, kinds: Sequence[_Kind], channels: Sequence[int]) -> list[BlobSpec]:
        specs = []
        for kind in kinds:
            constant = kind.filler.isdigit()
            filler = (
                constant_filler(float(kind.filler))
                if constant
                else getattr(self.fillers, kind.filler)
            )
            specs += [
                BlobSpec(f"{kind.name}{i}", (1, n, 1, 1), filler, True)
                for i, n in enumerate(channels)
            ]
        return specs

    def import_blobs(
        self, blobs: Sequence[FloatArray], bottoms: Sequence[Shape]
    ) -> Mapping[str, FloatArray]:
        specs = self.blob_specs(bottoms)
        named = {spec.name: blob for spec, blob in zip(specs, blobs, strict=True)}
        return {n: b if n.startswith("filter") else np.ravel(b) for n, b in named.items()}

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.dense_block(inputs[0], t.params, self.transitions, self.bottleneck)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x = inputs[0]
        for i in range(self.transitions):
            y = self._normalized_onnx(g, x, "", i)
            if self.bottleneck:
                y = self._normalized_onnx(
                    g, g.op("Conv", y, g.params[f"filter_1x1_{i}"]), "_1x1_", i
                )
            turned = g.const(g.array(g.params[f"filter{i}"])[:, :, ::-1, ::-1])
            x = g.op("Concat", x, g.op("Conv", y, turned, pads=[1] * 4), axis=1)
        return [x]

    def _normalized_onnx(self, g: OnnxBuilder, x: str, suffix: str, i: int) -> str:
        """relu(norm(x)) of transition ``i``."""
        factor = float(g.array(g.params["scale_factor"])[0]) or 1.0
        scale, shift, mean, variance = (
            g.array(g.params[f"{name}{suffix}{i}"]).astype(np.float64)
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance / factor + EPS)
        shift = shift - scale * mean / factor
        scale, shift = (np.reshape(values, (1, -1, 1, 1)) for values in (scale, shift))
        y = g.op("Mul", x, g.const(_single(scale)))
        return str(g.op("Relu", g.op("Add", y, g.const(_single(shift)))))

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        batch, _, *sizes = bottoms[0]
        filters = [s for s in self.blob_specs(bottoms) if s.name.startswith("filter")]
        return batch * math.prod(sizes) * sum(math.prod(s.shape) for s in filters)


def _single(values: Any) -> FloatArray:
    return np.asarray(values, np.float32)
