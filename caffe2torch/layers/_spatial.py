"""Sliding windows over spatial axes: the fields that describe them, and their sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe2torch.graph import Shape
from caffe2torch.io.parameters import TEXT_ONLY, Parameters
from caffe2torch.io.schema import Message
from caffe2torch.layers._base import Layer, net_error


@dataclass(frozen=True)
class Window:
    """A kernel's size and how it moves: one value a spatial axis, symmetric padding.

    As written in a net (``window_from_proto``) a field may also hold one value for all
    axes or none for the default; ``resolve_window`` expands it.
    """

    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape

    @property
    def extent(self) -> Shape:
        """Size of the dilated kernel on each axis."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def output_sizes(self, sizes: Sequence[int]) -> Shape:
        """``(size + 2 pad - extent) / stride + 1`` in integers that truncate towards zero.

        As C++ divides, a kernel that exceeds the padded image by less than a stride still
        has one position.
        """
        return tuple(
            _truncated_quotient(n + 2 * p - e, s) + 1
            for n, p, e, s in zip(sizes, self.pad, self.extent, self.stride, strict=True)
        )

    def excess(self, sizes: Sequence[int]) -> Shape:
        """How far the last window reaches beyond the padded image on each axis."""
        outputs = self.output_sizes(sizes)
        return tuple(
            max(0, (o - 1) * s + e - n - 2 * p)
            for o, n, p, e, s in zip(
                outputs, sizes, self.pad, self.extent, self.stride, strict=True
            )
        )


def _truncated_quotient(a: int, b: int) -> int:
    return a // b if a >= 0 else -(-a // b)


HOLES = Parameters(
    "convolution_param",
    f"""
    repeated uint32 hole = 17;
    optional uint32 hole_h = {TEXT_ONLY};
    optional uint32 hole_w = {TEXT_ONLY + 1};
    """,
)
"""Dilation, as DeepLab's fork writes it. In Caffe 17 is a bool, ``force_nd_im2col``."""


def window_from_proto(proto: Message, param: Message) -> Window:
    """The kernel, stride, pad and dilation fields of a ConvolutionParameter, as written.

    The ``hole`` fields of DeepLab's fork are its name for dilation.
    """
    dilation = tuple(param.dilation)
    holes = _per_axis(proto, HOLES.of(proto), "hole", ("hole_h", "hole_w"))
    if dilation and holes:
        raise net_error(proto, "dilation and hole are both given; write only one", "hole")
    return Window(
        kernel=_per_axis(proto, param, "kernel_size", ("kernel_h", "kernel_w")),
        stride=_per_axis(proto, param, "stride", ("stride_h", "stride_w")),
        pad=_per_axis(proto, param, "pad", ("pad_h", "pad_w")),
        dilation=dilation or holes,
    )


def _per_axis(proto: Message, param: Message, field: str, pair: tuple[str, str]) -> Shape:
    repeated = tuple(getattr(param, field))
    if not any(param.HasField(name) for name in pair):
        return repeated
    if repeated:
        raise net_error(proto, f"{field} and {pair[0]}/{pair[1]} are both given", field)
    return tuple(int(getattr(param, name)) for name in pair)


def resolve_window(layer: Layer, written: Window, num_axes: int, *, still: bool = False) -> Window:
    """``written`` with one value for each of ``num_axes`` spatial axes.

    Raises NetError for a wrong count and for a zero kernel or stride, and
    UnsupportedLayerError for a zero dilation unless ``still`` says that the layer has a form
    for it: all of the kernel's elements read one pixel.
    """
    window = Window(
        kernel=_expand(layer, written.kernel, num_axes, "kernel_size"),
        stride=_expand(layer, written.stride or (1,), num_axes, "stride"),
        pad=_expand(layer, written.pad or (0,), num_axes, "pad"),
        dilation=_expand(layer, written.dilation or (1,), num_axes, "dilation"),
    )
    if 0 in window.kernel:
        raise layer.net_error(f"kernel {window.kernel} has a zero size", "kernel_size")
    if 0 in window.stride:
        raise layer.net_error(f"stride {window.stride} has a zero step", "stride")
    if 0 in window.dilation and not still:
        raise layer.unsupported("a dilation of 0 reads one pixel only", "dilation")
    return window


def _expand(layer: Layer, values: Shape, num_axes: int, field: str) -> Shape:
    if len(values) == num_axes:
        return values
    if len(values) != 1:
        raise layer.net_error(
            f"{len(values)} values for {num_axes} spatial axes; give one, or one an axis", field
        )
    return values * num_axes


def require_axes(layer: Layer, shape: Shape, num_axes: int = 4) -> None:
    """Raise NetError unless a bottom of ``shape`` has ``num_axes`` axes."""
    if len(shape) != num_axes:
        raise layer.net_error(f"bottom must have {num_axes} axes, but its shape is {shape}")


def require_positive(layer: Layer, sizes: Sequence[int], bottom: Shape) -> None:
    """Raise NetError if a top would be empty: its window does not fit the bottom."""
    if any(size < 1 for size in sizes):
        raise layer.net_error(
            f"the kernel does not fit the padded bottom of shape {tuple(bottom)}: "
            f"the spatial size of the top would be {tuple(sizes)}",
            "kernel_size",
        )
