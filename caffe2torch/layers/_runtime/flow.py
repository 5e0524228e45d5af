"""Layers of nets for optical flow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def correlate(
    a: Tensor,
    b: Tensor,
    pads: Sequence[int],
    margins: Sequence[int],
    down: Sequence[int],
    right: Sequence[int],
    kernel: int,
    stride: int,
    subtract: bool = False,
) -> Tensor:
    """How patches of ``a`` and displaced patches of ``b`` agree.

    Each displacement ``down`` goes with each one to the ``right``; none exceeds the
    ``margins``.
    """
    y_pad, x_pad = pads
    a, b = (F.pad(x, (x_pad, x_pad, y_pad, y_pad)) for x in (a, b))
    top, left = margins
    height, width = a.shape[2] - 2 * top, a.shape[3] - 2 * left
    patches = a[:, :, top : top + height, left : left + width]
    channels = []
    for dy in down:
        for dx in right:
            other = b.narrow(2, top + dy, height).narrow(3, left + dx, width)
            both = (patches - other).abs() if subtract else patches * other
            channels.append(both.mean(1))
    y = torch.stack(channels, 1)
    return y if kernel == stride == 1 else F.avg_pool2d(y, kernel, stride)


def accumulate(
    inputs: Sequence[Tensor],
    size: Sequence[int] | None = None,
    given: Sequence[int] = (0, 0),
    multiple: int = 1,
) -> Tensor:
    """``inputs`` resized to one size, one after another as channels.

    Without ``size`` it is the largest of theirs, or else ``given``, or those rounded up
    to ``multiple``, if both sizes are larger.
    """
    if size is None:
        size = largest = [max(x.shape[axis] for x in inputs) for axis in (2, 3)]
        if multiple > 1:
            given = [-(-n // multiple) * multiple for n in largest]
        if given[0] > largest[0] and given[1] > largest[1]:
            size = given
    return torch.cat([resize_aligned(x, size) for x in inputs], 1)


def resize_aligned(x: Tensor, size: Sequence[int]) -> Tensor:
    """``x`` (N, C, H, W) resized, linearly, the corners' centres staying there."""
    return F.interpolate(x, list(size), mode="bilinear", align_corners=True)


def flow_warp(image: Tensor, flow: Tensor, outside: float) -> Tensor:
    """``image`` at each pixel's place plus ``flow`` (x, y), bilinearly.

    Places outside of the image give ``outside``.
    """
    height, width = image.shape[2:]
    x = torch.arange(width, device=flow.device) + flow[:, :1]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1:]
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    x, y = torch.where(inside, x, 0), torch.where(inside, y, 0)
    left, top = x.detach().floor(), y.detach().floor()
    alpha, beta = x - left, y - top
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    pixels = image.flatten(2)

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        place = (rows * width + columns).long().flatten(2)
        return pixels.gather(2, place.expand(-1, image.shape[1], -1)).view_as(image)

    warped = (
        (1 - alpha) * (1 - beta) * at(top, left)
        + alpha * (1 - beta) * at(top, right)
        + (1 - alpha) * beta * at(bottom, left)
        + alpha * beta * at(bottom, right)
    )
    return torch.where(inside, warped, outside)


def shift_channels(x: Tensor, scale: float, shifts: Sequence[float]) -> Tensor:
    """``scale * x`` plus one of ``shifts`` for each channel of ``x`` (N, C, H, W)."""
    return scale * x + x.new_tensor(shifts)[:, None, None]


def own_places(flow: Tensor) -> Tensor:
    """The place (x, y) of each pixel of ``flow`` (N, 2, H, W), moved by it."""
    height, width = flow.shape[2:]
    x = torch.arange(width, device=flow.device) + flow[:, :1]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1:]
    return torch.cat((x, y), 1)


def pixel_places(x: Tensor) -> Tensor:
    """The place (x, y) of each pixel of ``x`` (N, C, H, W)."""
    return own_places(torch.zeros_like(x[:, :1]).expand(-1, 2, -1, -1))


def sample_pixels(image: Tensor, places: Tensor, within: bool = False) -> Tensor:
    """``image`` at ``places`` (x, y), bilinearly between pixels that are 0 outside.

    With ``within``, all that is not between the outermost pixels is 0.
    """
    height, width = image.shape[2:]
    x, y = places[:, :1], places[:, 1:]
    left, top = x.detach().floor(), y.detach().floor()
    pixels = image.flatten(2)
    total = torch.zeros_like(x)
    for rows, share_y in ((top, top + 1 - y), (top + 1, y - top)):
        for columns, share_x in ((left, left + 1 - x), (left + 1, x - left)):
            inside = (rows >= 0) & (rows < height)
            inside = inside & (columns >= 0) & (columns < width)
            at = torch.where(inside, rows * width + columns, 0).long().flatten(2)
            near = pixels.gather(2, at.expand(-1, image.shape[1], -1))
            part = share_y * share_x * near.reshape(*near.shape[:2], *x.shape[2:])
            total = total + torch.where(inside, part, 0)
    if within:
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        total = torch.where(inside, total, 0)
    return total
