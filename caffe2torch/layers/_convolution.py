"""What convolution and deconvolution share: parameters, checks, learned blobs, shapes."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers._base import (
    BlobSpec,
    Layer,
    OnnxBuilder,
    SourceBuilder,
    canonical_axis,
    net_error,
)
from caffe2torch.layers._python import call, per_axis
from caffe2torch.layers._spatial import (
    Window,
    require_positive,
    resolve_window,
    window_from_proto,
)

if TYPE_CHECKING:
    from torch import Tensor, nn
    from typing_extensions import Self

DEFAULTS = {
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "bias": True,
}
"""Of torch's modules."""

POINT = Window(kernel=(1,), stride=(1,), pad=(0,), dilation=(1,))
"""The window of a layer without spatial axes, which is computed on one axis of size 1."""


@dataclass(frozen=True)
class ConvolutionBase(Layer):
    """Base of both directions (Caffe: base_conv_layer.cpp).

    Axes before ``axis`` count as the batch, axes after it are spatial. All bottoms have
    the same shape and share the learned blobs. The engine, ``force_nd_im2col`` among it,
    does not change the result.
    """

    bottoms: ClassVar[tuple[int, int | None]] = (1, None)
    tops: ClassVar[tuple[int, int | None]] = (1, None)
    same_bottoms_and_tops: ClassVar[bool] = True
    torch_family: ClassVar[str]
    """The class in torch.nn without its number of axes."""

    num_output: int
    bias_term: bool
    group: int
    axis: int
    window: Window
    weight_filler: Message = field(repr=False)
    bias_filler: Message = field(repr=False)
    weight_filler_given: bool = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
        param = proto.convolution_param
        if param.num_output < 1:
            raise net_error(proto, "it must be given and positive", "num_output")
        group = cls._group(proto)
        if group < 1 or param.num_output % group:
            raise net_error(
                proto, f"num_output {param.num_output} is not divisible by group {group}", "group"
            )
        return cls(
            name=proto.name,
            num_output=param.num_output,
            bias_term=param.bias_term,
            group=group,
            axis=param.axis,
            window=window_from_proto(proto, param),
            weight_filler=param.weight_filler,
            bias_filler=param.bias_filler,
            weight_filler_given=param.HasField("weight_filler"),
        )

    @classmethod
    def _group(cls, proto: Message) -> int:
        return int(proto.convolution_param.group)

    @abstractmethod
    def _weight_channels(self, channels: int) -> tuple[int, int]:
        """The first two sizes of the weight for bottoms of ``channels`` channels."""

    @abstractmethod
    def _output_sizes(self, window: Window, sizes: Sequence[int]) -> Shape:
        """Spatial sizes of the top."""

    def _excess(self, window: Window, sizes: Sequence[int]) -> Shape:
        """How far the last window reaches beyond the padded bottom."""
        return (0,) * len(sizes)

    @abstractmethod
    def _compute(self, window: Window, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer on one (N, C, *spatial) tensor with at least one spatial axis."""

    @abstractmethod
    def _compute_onnx(
        self, window: Window, g: OnnxBuilder, inputs: Sequence[str], sizes: Sequence[int]
    ) -> str:
        """The same as ONNX nodes; ``inputs`` are x, weight and perhaps bias."""

    def resolved(self, bottom: Shape) -> tuple[int, Window]:
        """The channel axis and the window on a bottom of this shape."""
        axis = canonical_axis(self, self.axis, len(bottom))
        return axis, resolve_window(self, self.window, len(bottom) - axis - 1)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        first = bottoms[0]
        axis, window = self.resolved(first)
        if first[axis] % self.group:
            raise self.net_error(
                f"the bottom's {first[axis]} channels are not divisible by {self.group}", "group"
            )
        if any(bottom != first for bottom in bottoms):
            raise self.net_error(f"all bottoms must have one shape, but they are {list(bottoms)}")
        sizes = self._output_sizes(window, first[axis + 1 :])
        require_positive(self, sizes, first)
        return [(*first[:axis], self.num_output, *sizes)] * len(bottoms)

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        axis, window = self.resolved(bottoms[0])
        shape = (*self._weight_channels(bottoms[0][axis]), *window.kernel)
        weight = BlobSpec("weight", shape, self.weight_filler, self.weight_filler_given)
        if not self.bias_term:
            return [weight]
        return [weight, BlobSpec("bias", (self.num_output,), self.bias_filler, True)]

    def is_plain(self, bottoms: Sequence[Shape]) -> bool:
        """Whether torch's own module computes the layer for these bottoms."""
        axis, window = self.resolved(bottoms[0])
        return len(bottoms) == 1 and axis == 1 and 1 <= len(window.kernel) <= 3

    def module_arguments(self, bottoms: Sequence[Shape]) -> dict[str, int | Shape | bool]:
        """Arguments that torch's ``ConvNd`` and ``ConvTransposeNd`` share."""
        axis, window = self.resolved(bottoms[0])
        return {
            "in_channels": bottoms[0][axis],
            "out_channels": self.num_output,
            "kernel_size": window.kernel,
            "stride": window.stride,
            "padding": window.pad,
            "dilation": window.dilation,
            "groups": self.group,
            "bias": self.bias_term,
        }

    def forward(
        self, inputs: Sequence[Tensor], params: Mapping[str, Tensor], training: bool
    ) -> Tensor | Sequence[Tensor]:
        weight, bias = params["weight"], params.get("bias")
        return [self._apply(x, weight, bias) for x in inputs]

    def _apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        axis, window = self.resolved(tuple(x.shape))
        batch = x.shape[:axis]
        x = x.reshape(math.prod(batch), *x.shape[axis:])
        if window.kernel:
            y = self._compute(window, x, weight, bias)
        else:
            y = self._compute(POINT, x.unsqueeze(-1), weight.unsqueeze(-1), bias).squeeze(-1)
        return y.reshape(*batch, *y.shape[1:])

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        axis, window = self.resolved(bottoms[0])
        if not 1 <= len(window.kernel) <= 3:
            raise self.unsupported(
                f"with {len(window.kernel)} spatial axes it has no source form; convert to .pt "
                "instead",
                "axis",
            )
        module = s.module(self._constructor(bottoms))
        results = []
        for x in inputs:
            shape = f"{x}.shape[:{axis}]"
            y = {0: f"{x}[None]", 1: x}.get(axis, call("torch.flatten", x, 0, axis - 1))
            if any(self._excess(window, bottoms[0][axis + 1 :])):
                fit = s.use("pad_to_fit")
                y = call(fit, y, window.extent, window.stride, window.pad)
            y = f"{module}({y})"
            results.append({0: f"{y}[0]", 1: y}.get(axis, call("torch.unflatten", y, 0, shape)))
        return results[0] if len(results) == 1 else results

    def _constructor(self, bottoms: Sequence[Shape]) -> str:
        """The torch module, with the arguments that differ from its defaults."""
        arguments: dict[str, Any] = {}
        for name, value in self.module_arguments(bottoms).items():
            arguments[name] = per_axis(value) if isinstance(value, tuple) else value
        sizes = [arguments.pop(name) for name in ("in_channels", "out_channels", "kernel_size")]
        given = {name: value for name, value in arguments.items() if value != DEFAULTS[name]}
        num_axes = len(self.resolved(bottoms[0])[1].kernel)
        return call(f"nn.{self.torch_family}{num_axes}d", *sizes, **given)

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        learned = [params[name] for name in ("weight", "bias") if name in params]
        return [self._apply_onnx(g, x, learned) for x in inputs]

    def _apply_onnx(self, g: OnnxBuilder, x: str, learned: Sequence[str]) -> str:
        import numpy as np

        shape = g.shape(x)
        axis, window = self.resolved(shape)
        (top,) = self.infer_shapes([shape])
        if axis == 1 and window.kernel:
            return self._compute_onnx(window, g, [x, *learned], shape[2:])
        sizes: Shape = shape[axis + 1 :] or (1,)
        weight, *bias = learned
        if not window.kernel:
            window = POINT
            weight = g.op("Unsqueeze", weight, g.const([-1], np.int64))
        x = g.op("Reshape", x, g.const([-1, shape[axis], *sizes], np.int64))
        y = self._compute_onnx(window, g, [x, weight, *bias], sizes)
        # The first axis is the batch, and may change, unless the channels come first.
        target = [-1, *top[1:]] if axis else list(top)
        return str(g.op("Reshape", y, g.const(target, np.int64)))


def torch_module(family: str, num_axes: int) -> type[nn.Module]:
    """The torch class of a family (``Conv``, ``ConvTranspose``) for 1 to 3 spatial axes."""
    from torch import nn

    module: type[nn.Module] = getattr(nn, f"{family}{num_axes}d")
    return module
