"""Pooling of regions of interest, as Fast R-CNN and R-FCN give them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def roi_pool(
    data: Tensor,
    regions: Tensor,
    pooled: Sequence[int],
    spatial_scale: float,
    pad_ratio: float = 0,
) -> Tensor:
    """The maxima of each region's bins, 0 for an empty one: (R, C, *pooled)."""
    image, corners = split_regions(regions, len(data))
    corners = pad_regions(corners, pad_ratio)
    x1, y1, x2, y2 = round_half_away(corners * spatial_scale).unbind(1)
    y_start, y_end = (y[:, :, None] for y in roi_bins(y1, y2, pooled[0], data.shape[2]))
    x_start, x_end = (x[:, None, :] for x in roi_bins(x1, x2, pooled[1], data.shape[3]))
    maxima = running_maxima(running_maxima(data.permute(0, 2, 3, 1), 1), 3)
    best, filled = box_maxima(maxima, image, (y_start, y_end), (x_start, x_end))
    return torch.where(filled, best, 0.0).permute(0, 3, 1, 2)


def box_maxima(
    maxima: Tensor,
    image: Tensor,
    rows: tuple[Tensor, Tensor],
    columns: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """The maxima of boxes of cells (R, height, width, C), and which have a cell.

    ``maxima`` are the ``running_maxima`` of both axes, ``rows`` and ``columns`` the
    start and the end of each box.
    """
    height, width = maxima.shape[3:5]
    top, bottom, row_level = two_windows(*rows, height)
    left, right, column_level = two_windows(*columns, width)
    image = image[:, None, None]
    windows = [
        (column_level, row_level, image, y, x)
        for y in (top, bottom)
        for x in (left, right)
    ]
    best = torch.stack([maxima[window] for window in windows]).amax(0)
    filled = (rows[0] < rows[1]) & (columns[0] < columns[1])
    return best, filled[..., None]


def region_pool(
    data: Tensor,
    regions: Tensor,
    pooled: Sequence[int],
    spatial_scale: float,
    offset: float,
) -> Tensor:
    """The maxima of each region's bins outside of its inner box, or 0 (LocNet)."""
    image, boxes = split_regions(regions, len(data), 9)
    starts = ((boxes + 1 + offset) * spatial_scale).double() + 0.5
    ends = ((boxes + 1 - offset) * spatial_scale).double() - 0.5
    edges = []
    for axis in (0, 1, 4, 5):  # x and y of the outer box, and of the inner one.
        first, last = starts[:, axis].floor(), ends[:, axis + 2].ceil()
        middle = ((first + last) / 2).trunc()
        crossed = first > last
        first, last = (torch.where(crossed, middle, e) for e in (first, last))
        edges.append((first.to(data.dtype), last.to(data.dtype)))
    (x1, x2), (y1, y2), *inner = edges
    height, width = data.shape[2:]
    y_start, y_end = (y[:, :, None] for y in roi_bins(y1, y2, pooled[0], height))
    x_start, x_end = (x[:, None, :] for x in roi_bins(x1, x2, pooled[1], width))
    (left, right), (top, bottom) = (
        [edge.long()[:, None, None] for edge in pair] for pair in inner
    )
    maxima = running_maxima(running_maxima(data.permute(0, 2, 3, 1), 1), 3)
    total = data.new_zeros(())
    for rows, columns in (
        ((y_start, y_end.minimum(top + 1)), (x_start, x_end)),
        ((y_start.maximum(bottom), y_end), (x_start, x_end)),
        ((y_start, y_end), (x_start, x_end.minimum(left + 1))),
        ((y_start, y_end), (x_start.maximum(right), x_end)),
    ):
        best, filled = box_maxima(maxima, image, rows, columns)
        total = torch.where(filled & (best > total), best, total)
    return total.permute(0, 3, 1, 2)


def pad_regions(corners: Tensor, ratio: float) -> Tensor:
    """The corners (R, 4), apart by ``ratio`` times the lengths more at both ends."""
    low, high = corners.chunk(2, 1)
    pad = (high - low + 1) * ratio
    return torch.cat([low - pad, high + pad], 1)


def scaled_regions(
    regions: Tensor, scale: float, part: int, spatial_scale: float, shift: float
) -> Tensor:
    """Rows (image, x1, y1, x2, y2) ``scale`` times as large, or a half of each.

    ``part`` 1 to 4 is the left, right, upper or lower half; then corners are
    multiplied by ``spatial_scale``, and ``shift`` is added.
    """
    rows = regions.reshape(-1, 5)
    image, low, high = rows[:, :1], rows[:, 1:3], rows[:, 3:]
    centre, half = (low + high) / 2, (high - low) * scale / 2
    (x1, y1), (x2, y2) = (e.unbind(1) for e in (centre - half, centre + half))
    x, y = centre.unbind(1)
    x1, x2 = x if part == 2 else x1, x if part == 1 else x2
    y1, y2 = y if part == 4 else y1, y if part == 3 else y2
    corners = torch.stack((x1, y1, x2, y2), 1) * spatial_scale + shift
    return torch.cat((image, corners), 1)


def roi_bins(
    first: Tensor, last: Tensor, count: int, limit: int
) -> tuple[Tensor, Tensor]:
    """Start and end (R, count) of each region's bins, inside [0, limit]."""
    # float32 as in Caffe: where size / count is rounded up, a bin can be longer by one.
    size = ((last - first + 1).clamp(min=1) / count)[:, None]
    index = torch.arange(count, device=first.device, dtype=first.dtype)
    start = (index * size).floor() + first[:, None]
    end = ((index + 1) * size).ceil() + first[:, None]
    return start.long().clamp(0, limit), end.long().clamp(0, limit)


def two_windows(
    start: Tensor, end: Tensor, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Two windows of length 2 ** level that cover [start, end): starts and level.

    Of an empty bin only the indices' being valid matters.
    """
    level = torch.zeros_like(start)
    for power in range(1, limit.bit_length()):
        level += end - start >= 2**power
    return start.clamp(max=limit - 1), (end - (1 << level)).clamp(min=0), level


def running_maxima(data: Tensor, axis: int) -> Tensor:
    """Maxima over 1, 2, 4, ... cells from each on along ``axis``, stacked in front.

    Windows that reach over the border hold no meaningful value.
    """
    levels, span = [data], 1
    while 2 * span <= data.shape[axis]:
        levels.append(torch.maximum(levels[-1], levels[-1].roll(-span, axis)))
        span *= 2
    return torch.stack(levels)


def roi_grid(
    data: Tensor,
    regions: Tensor,
    pooled: Sequence[int],
    spatial_scale: float,
    pad_ratio: float,
) -> Tensor:
    """Values between cells, on the corners of each region's bins (MS-CNN's ROIAlign).

    (R, C, pooled + 1): bilinear, and 0 outside of the map or for an empty region.
    """
    image, corners = split_regions(regions, len(data))
    corners = pad_regions(corners, pad_ratio) * spatial_scale - 0.5
    x1, y1, x2, y2 = corners.unbind(1)
    rows = grid_edges(y1, y2, pooled[0], data.shape[2])
    columns = grid_edges(x1, x2, pooled[1], data.shape[3])
    return between_cells(data, image, rows, columns)


def grid_edges(
    first: Tensor, last: Tensor, count: int, limit: int
) -> list[tuple[Tensor, Tensor]]:
    """``cells_beside`` of a region's ``count + 1`` edges: weights 0 if it is empty."""
    size = (last - first)[:, None]
    index = torch.arange(count + 1, device=first.device, dtype=first.dtype)
    return cells_beside(first[:, None] + index * (size / count), size > 0, limit)


def roi_warp(
    data: Tensor, regions: Tensor, pooled: Sequence[int], spatial_scale: float
) -> Tensor:
    """Values between cells, at the first corners of each region's bins (MNC)."""
    image, corners = split_regions(regions, len(data))
    x1, y1, x2, y2 = round_half_away(corners * spatial_scale).unbind(1)
    rows = bin_starts(y1, y2, pooled[0], data.shape[2])
    columns = bin_starts(x1, x2, pooled[1], data.shape[3])
    return between_cells(data, image, rows, columns)


def bin_starts(
    first: Tensor, last: Tensor, count: int, limit: int
) -> list[tuple[Tensor, Tensor]]:
    """``cells_beside`` of where each of a region's ``count`` bins starts."""
    size = (last - first).clamp(min=0)[:, None]
    index = torch.arange(count, device=first.device, dtype=first.dtype)
    place = first[:, None] + index * (size / count)
    return cells_beside(place, size >= 0, limit)


def cells_beside(
    place: Tensor, counts: Tensor, limit: int
) -> list[tuple[Tensor, Tensor]]:
    """The two cells beside each place (R, K) on an axis, and their weights.

    A place before the first cell or behind the last takes that one. Weights are 0 more
    than half a cell outside of the map, and where ``counts`` is false.
    """
    inside = counts & (place >= -0.5) & (place <= limit - 0.5)
    low = place.nan_to_num().floor()
    cells = [edge.clamp(0, limit - 1) for edge in (low, low + 1)]
    part = place.clamp(0, limit - 1) - cells[0]
    weights = [torch.where(inside, weight, 0.0) for weight in (1 - part, part)]
    return [(c.long(), w) for c, w in zip(cells, weights, strict=True)]


def between_cells(
    data: Tensor,
    image: Tensor,
    rows: list[tuple[Tensor, Tensor]],
    columns: list[tuple[Tensor, Tensor]],
) -> Tensor:
    """The weighted sums of the cells at every row and column: (R, C, rows, columns)."""
    maps = data.permute(0, 2, 3, 1)
    image = image[:, None, None]
    total = torch.zeros_like(
        maps[image, rows[0][0][:, :, None], columns[0][0][:, None]]
    )
    for y, wy in rows:
        for x, wx in columns:
            weight = (wy[:, :, None] * wx[:, None])[..., None].to(data.dtype)
            total = total + weight * maps[image, y[:, :, None], x[:, None]]
    return total.permute(0, 3, 1, 2)


def bridge_stages(
    regions: Tensor, offsets: Tensor, scores: Tensor, info: Tensor
) -> Tensor:
    """Regions moved by the offsets of their best class, inside of the image (MNC)."""
    rows = torch.arange(len(scores), device=scores.device)
    regions, best = regions.detach().reshape(-1, 5), scores.detach().argmax(1)
    chosen = offsets.detach().reshape(len(scores), -1, 4)[rows, best]
    low, high = regions[:, 1:3], regions[:, 3:]
    size = high - low + 1
    centre = chosen[:, :2] * size + (low + 0.5 * size)
    half = 0.5 * (chosen[:, 2:].exp() * size)
    limit = info.detach()[0, [1, 0, 1, 0]] - 1
    corners = torch.cat([centre - half, centre + half], 1).minimum(limit).clamp(min=0)
    return torch.cat([torch.zeros_like(regions[:, :1]), corners], 1)


def psroi_pool(
    data: Tensor,
    regions: Tensor,
    output_dim: int,
    group_size: int,
    spatial_scale: float,
) -> Tensor:
    """The means of each region's bins, each of a channel of its own (R-FCN)."""
    image, corners = split_regions(regions, len(data))
    x1, y1, x2, y2 = round_half_away(corners).unbind(1)
    height, width = data.shape[2:]
    top, bottom = psroi_bins(y1, y2, group_size, spatial_scale, height)
    left, right = psroi_bins(x1, x2, group_size, spatial_scale, width)
    top, bottom = (edge[:, None, :, None] for edge in (top, bottom))
    left, right = (edge[:, None, None, :] for edge in (left, right))
    sums = F.pad(data.double(), (1, 0, 1, 0)).cumsum(2).cumsum(3)
    sums = sums.reshape(len(data), -1, group_size, group_size, *sums.shape[2:])
    channel = torch.arange(output_dim, device=data.device)[:, None, None]
    column = torch.arange(group_size, device=data.device)
    image, row = image[:, None, None, None], column[:, None]

    def sum_to(y: Tensor, x: Tensor) -> Tensor:
        return sums[image, channel, row, column, y, x]

    total = sum_to(bottom, right) - sum_to(top, right)
    total = total - (sum_to(bottom, left) - sum_to(top, left))
    area = (bottom - top) * (right - left)
    return torch.where(area > 0, total / area.clamp(min=1), 0.0).to(data.dtype)


def psroi_bins(
    first: Tensor, last: Tensor, count: int, spatial_scale: float, limit: int
) -> tuple[Tensor, Tensor]:
    """Start and end (R, count) of each region's bins, inside [0, limit]."""
    low, high = first * spatial_scale, (last + 1) * spatial_scale
    size = ((high - low).clamp(min=0.1) / count)[:, None]
    index = torch.arange(count, device=first.device, dtype=first.dtype)
    start = (index * size + low[:, None]).floor()
    end = ((index + 1) * size + low[:, None]).ceil()
    return start.long().clamp(0, limit), end.long().clamp(0, limit)


def split_regions(
    regions: Tensor, images: int, columns: int = 5
) -> tuple[Tensor, Tensor]:
    """The image index of each region (R), and x1, y1, x2, y2 (R, 4), or more.

    Caffe stops at an index below 0; here it becomes ``images``, one that torch refuses
    too instead of counting from the end.
    """
    regions = regions.detach().float().reshape(len(regions), columns)
    image = regions[:, 0].long()
    return image.where(image >= 0, images), regions[:, 1:]


def round_half_away(values: Tensor) -> Tensor:
    """C's round: halves go away from zero, where torch's go to the even neighbour."""
    whole = values.trunc()
    return whole + (2 * (values - whole)).trunc()


def combine_regression(
    labels: Tensor, remainders: Tensor, remainder_only: bool
) -> Tensor:
    """DenseReg's coordinates of labels (1, 1, H, W) and remainders (1, D, H, W)."""
    index = torch.arange(1, remainders.shape[1], device=labels.device)[:, None, None]
    value = (remainders[:, 1:] * (labels == index)).sum(1, keepdim=True)
    if remainder_only:
        return value.clamp(0, 1)
    value = (labels + value - 1) / (remainders.shape[1] - 1)
    return torch.where(value < 0, -1.0, value)
