"""What convolution and deconvolution share: parameters, checks, learned blobs, shapes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    BlobSpec,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    canonical_axis,
    net_error,
)
from caffe2torch.layers._spatial import (
    HOLES,
    Window,
    require_positive,
    resolve_window,
    window_from_proto,
)

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
    parameters: ClassVar[Parameters | None] = HOLES
    torch_family: ClassVar[str]
    """The class in torch.nn without its number of axes."""
    torch_function: ClassVar[str]
    """The function in torch.nn.functional without its number of axes."""

    num_output: int
    bias_term: bool
    group: int
    axis: int
    window: Window
    weight_filler: Message = field(repr=False)
    bias_filler: Message = field(repr=False)
    weight_filler_given: bool = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
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
    def _compute_onnx(
        self, window: Window, g: OnnxBuilder, inputs: Sequence[str], sizes: Sequence[int]
    ) -> str:
        """The same as ONNX nodes; ``inputs`` are x, weight and perhaps bias."""

    def resolved(self, bottom: Shape) -> tuple[int, Window]:
        """The channel axis and the window on a bottom of this shape."""
        axis = canonical_axis(self, self.axis, len(bottom))
        return axis, resolve_window(self, self.window, len(bottom) - axis - 1, still=True)

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

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        axis, window = self.resolved(bottoms[0])
        if not has_module(window):
            return None
        return getattr(t.nn, f"{self.torch_family}{len(window.kernel)}d")(
            bottoms[0][axis],
            self.num_output,
            window.kernel,
            stride=window.stride,
            padding=window.pad,
            # Of one pixel it does nothing, but oneDNN reads beyond a channels-last image for it.
            dilation=tuple(
                d if k > 1 else 1 for k, d in zip(window.kernel, window.dilation, strict=True)
            ),
            groups=self.group,
            bias=self.bias_term,
        )

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        tops = [self._top(t, x, bottoms[0]) for x in inputs]
        return tops if len(tops) > 1 else tops[0]

    def _top(self, t: TorchBuilder, x: Any, bottom: Shape) -> Any:
        axis, window = self.resolved(bottom)
        y = x
        if axis != 1:  # To one axis of items before the channels, and back.
            y = t.torch.flatten(x, 0, axis - 1) if axis else x[None]
        if any(self._excess(window, bottom[axis + 1 :])):
            y = t.runtime.pad_to_fit(y, window.extent, window.stride, window.pad)
        y = self._convolved(t, window, y)
        if axis != 1:
            y = t.torch.unflatten(y, 0, x.shape[:axis]) if axis else y[0]
        return y

    def _convolved(self, t: TorchBuilder, window: Window, x: Any) -> Any:
        """The layer on (N, C, *spatial)."""
        if has_module(window):
            return t.module(x)
        return self._of_columns(t, window, x, t.params.weight)

    def _of_columns(self, t: TorchBuilder, window: Window, x: Any, weight: Any) -> Any:
        """The same for as many spatial axes as torch has no module for."""
        bias = t.params.bias if self.bias_term else None
        if window.kernel:
            compute = getattr(t.runtime, f"{self.torch_function}_columns")
            return compute(x, weight, bias, window.stride, window.pad, window.dilation, self.group)
        return getattr(t.runtime, f"{self.torch_function}_point")(x, weight, bias, self.group)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        learned = [g.params[name] for name in ("weight", "bias") if name in g.params]
        return [self._apply_onnx(g, x, learned) for x in inputs]

    def _apply_onnx(self, g: OnnxBuilder, x: str, learned: Sequence[str]) -> str:
        import numpy as np

        shape = g.shape(x)
        axis, window = self.resolved(shape)
        (top,) = self.infer_shapes([shape])
        if axis == 1 and window.kernel and 0 not in window.dilation:
            return self._compute_onnx(window, g, [x, *learned], shape[2:])
        sizes: Shape = shape[axis + 1 :] or (1,)
        weight, *bias = learned
        if 0 in window.dilation:  # The elements that read one pixel are one: their sum.
            still = [i for i, step in enumerate(window.dilation) if not step]
            axes = g.const([2 + i for i in still], np.int64)
            weight = g.op("ReduceSum", weight, axes, keepdims=1)
            window = _without(window, still)
        if not window.kernel:
            window = POINT
            weight = g.op("Unsqueeze", weight, g.const([-1], np.int64))
        x = g.op("Reshape", x, g.const([-1, shape[axis], *sizes], np.int64))
        y = self._compute_onnx(window, g, [x, weight, *bias], sizes)
        # The first axis is the batch, and may change, unless the channels come first.
        target = [-1, *top[1:]] if axis else list(top)
        return str(g.op("Reshape", y, g.const(target, np.int64)))


def has_module(window: Window) -> bool:
    """Whether torch has a module for the window: of one to three axes, none of dilation 0."""
    return 1 <= len(window.kernel) <= 3 and 0 not in window.dilation


def _without(window: Window, axes: Sequence[int]) -> Window:
    """The window with a kernel of one element on ``axes``."""

    def ones(values: Shape) -> Shape:
        return tuple(1 if i in axes else value for i, value in enumerate(values))

    return replace(window, kernel=ones(window.kernel), dilation=ones(window.dilation))
