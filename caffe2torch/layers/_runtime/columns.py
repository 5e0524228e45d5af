"""Convolutions over any number of spatial axes, by the columns of the windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def im2col(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """The windows of ``x`` (N, C, *spatial) as columns (N, C, *kernel, *output)."""
    count = len(kernel)
    if not count:
        return x
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    x = pad_to_fit(x, extent, stride, pad)
    x = F.pad(x, [margin for p in reversed(pad) for margin in (p, p)])
    for axis in range(count):
        x = x.unfold(2 + axis, extent[axis], stride[axis])
        if dilation[axis]:
            x = x[..., :: dilation[axis]]
        else:  # All read one pixel.
            x = x.expand(*x.shape[:-1], kernel[axis])
    outputs, kernels = range(2, 2 + count), range(2 + count, 2 + 2 * count)
    return x.permute(0, 1, *kernels, *outputs)


def conv_columns(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """The convolution of ``x`` (N, C, *spatial) with ``weight``."""
    kernel, outputs = weight.shape[2:], len(weight)
    columns = im2col(x, kernel, stride, pad, dilation)
    sizes = columns.shape[2 + len(kernel) :]
    columns = columns.reshape(len(x), groups, weight[0].numel(), -1)
    y = weight.reshape(groups, outputs // groups, -1) @ columns
    y = y.reshape(len(x), outputs, *sizes)
    return y if bias is None else y + bias.reshape(-1, *[1] * len(kernel))


def conv_transpose_columns(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """The transposed convolution of ``x`` (N, C, *spatial) with ``weight``."""
    kernel, sizes = weight.shape[2:], x.shape[2:]
    pixels = x.reshape(len(x), groups, x.shape[1] // groups, -1)
    rows = weight.reshape(groups, x.shape[1] // groups, -1).transpose(1, 2)
    columns = (rows @ pixels).reshape(len(x), -1, *kernel, *sizes)
    image = columns.new_zeros(
        *columns.shape[:2],
        *(
            s * (n - 1) + d * (k - 1) + 1
            for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
        ),
    )
    whole = (slice(None), slice(None))
    for offset in torch.ones(kernel).nonzero().tolist():
        place = tuple(
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, d, n, s in zip(offset, dilation, sizes, stride, strict=True)
        )
        image[whole + place] += columns[whole + tuple(offset)]
    y = image[
        whole
        + tuple(slice(p, n - p) for p, n in zip(pad, image.shape[2:], strict=True))
    ]
    return y if bias is None else y + bias.reshape(-1, *[1] * len(kernel))


def conv_point(
    x: Tensor, weight: Tensor, bias: Tensor | None, groups: int = 1
) -> Tensor:
    """A convolution of (N, C), without spatial axes."""
    y = F.conv1d(x[..., None], weight[..., None], bias, groups=groups)
    return y[..., 0]


def conv_transpose_point(
    x: Tensor, weight: Tensor, bias: Tensor | None, groups: int = 1
) -> Tensor:
    """A transposed convolution of (N, C), without spatial axes."""
    y = F.conv_transpose1d(x[..., None], weight[..., None], bias, groups=groups)
    return y[..., 0]


def pad_to_fit(
    x: Tensor, extent: Sequence[int], stride: Sequence[int], pad: Sequence[int]
) -> Tensor:
    """``x`` with zeros after each axis that a window of ``extent`` exceeds.

    C++ divides towards zero, so that a window larger than the padded image by less than
    a stride still has one place.
    """
    spare = [
        n + 2 * p - e for n, e, p in zip(x.shape[-len(pad) :], extent, pad, strict=True)
    ]
    after = [
        -room if -stride_ < room < 0 else 0
        for room, stride_ in zip(spare, stride, strict=True)
    ]
    return F.pad(x, [size for end in reversed(after) for size in (0, end)])
