"""Boxes as MS-CNN and Cascade R-CNN code them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe2torch.layers._runtime.arrays import refuse_trace
from caffe2torch.layers._runtime.proposals import keep_boxes, or_row


def field_boxes(
    offsets: Tensor,
    field: Sequence[float],
    stride: int,
    bounds: Sequence[float],
    scales: Sequence[float],
    shifts: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """Low corners and sizes (N, H * W, 2) of the boxes that offsets (N, 4, H, W) make.

    They are scaled and shifted, centres limited to +-``bounds[0]`` and logarithms of
    sizes to +-``bounds[1]``; then centres are in units of the ``field`` (width, height)
    around each cell's middle, and sizes fractions of it.
    """
    height, width = offsets.shape[2:]
    values = offsets.permute(0, 2, 3, 1).flatten(1, 2)
    values = values * values.new_tensor(scales) + values.new_tensor(shifts)
    move, grow = values.chunk(2, -1)
    extent = values.new_tensor(field)
    x = torch.arange(width, device=values.device).expand(height, width)
    y = torch.arange(height, device=values.device)[:, None].expand(height, width)
    middle = (torch.stack([x, y], -1).flatten(0, 1) + 0.5).to(values.dtype) * stride
    centre = move.clamp(-bounds[0], bounds[0]) * extent + middle
    size = extent * grow.clamp(-bounds[1], bounds[1]).exp()
    return centre - size / 2, size


def box_output(
    maps: Sequence[Tensor],
    *,
    fields: Sequence[Sequence[float]],
    strides: Sequence[int],
    bounds: Sequence[float],
    scales: Sequence[float],
    shifts: Sequence[float],
    score_threshold: float,
    min_size: float,
    limits: Sequence[int | None],
    threshold: float,
    overlap: str,
) -> tuple[Tensor, Tensor]:
    """MS-CNN's proposals (R, 5, 1, 1), and the same with their scores (R, 6, 1, 1).

    ``maps`` (N, classes + 4, H, W), the scores of the classes (background first), then
    offsets. A box's score is that of its best class above the background's.
    """
    boxes, scores = [], []
    for values, field, stride in zip(maps, fields, strides, strict=True):
        values = values.detach()
        low, size = field_boxes(values[:, -4:], field, stride, bounds, scales, shifts)
        low = low.clamp(min=0)
        limit = low.new_tensor([values.shape[3] * stride, values.shape[2] * stride])
        size = torch.minimum(size, limit - low)
        boxes.append(torch.cat([low, size], -1))
        scores.append((values[:, 1:-4].amax(1) - values[:, 0]).flatten(1))
    # Of equal scores Caffe takes the later box first.
    box, score = torch.cat(boxes, 1).flip(1), torch.cat(scores, 1).flip(1)
    chosen = (score >= score_threshold) & (box[..., 2:] >= min_size).all(-1)
    corners = torch.cat([box[..., :2], box[..., :2] + box[..., 2:]], -1)
    rows, found = keep_boxes(corners, score, chosen, limits, threshold, 0, overlap)
    return proposal_tops(rows, found)


def box_group_output(
    maps: Sequence[Tensor],
    *,
    fields: Sequence[Sequence[Sequence[float]]],
    strides: Sequence[int],
    bounds: Sequence[float],
    scales: Sequence[float],
    shifts: Sequence[float],
    score_threshold: float,
    min_size: float,
    limits: Sequence[int | None],
    threshold: float,
    overlap: str,
) -> tuple[Tensor, Tensor]:
    """Cascade R-CNN's proposals (R, 5, 1, 1), and those with scores (R, 6, 1, 1).

    ``maps`` are pairs of probabilities (N * G, classes, H, W), the background's first,
    and offsets (N * G, 4, H, W), G the number of fields of a pair.
    """
    boxes, scores = [], []
    for index, (group, stride) in enumerate(zip(fields, strides, strict=True)):
        probability, offsets = (x.detach() for x in maps[2 * index : 2 * index + 2])
        limit = offsets.new_tensor(
            [offsets.shape[3] * stride, offsets.shape[2] * stride]
        )
        for place, field in enumerate(group):
            low, size = field_boxes(
                offsets[place :: len(group)], field, stride, bounds, scales, shifts
            )
            high = torch.minimum(low + size - 1, limit)
            boxes.append(torch.cat([low.clamp(min=0), high], -1))
            scores.append(1 - probability[place :: len(group), 0].flatten(1))
    box, score = torch.cat(boxes, 1), torch.cat(scores, 1)
    sized = (box[..., 2:] - box[..., :2] + 1 >= min_size).all(-1)
    chosen = (score >= score_threshold) & sized
    rows, found = keep_boxes(box, score, chosen, limits, threshold, 1, overlap)
    return proposal_tops(rows, found)


def proposal_tops(rows: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The tops of both layers; a row of their own stands for no proposal."""
    scored = or_row(torch.cat([rows, scores[:, None]], 1), [0.0] * 6)
    rows = or_row(rows, [0.0, 1.0, 1.0, 10.0, 10.0])
    return rows[..., None, None], scored[..., None, None]


def moved_boxes(
    offsets: Tensor,
    low: Tensor,
    high: Tensor,
    scales: Sequence[float],
    shifts: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """The corners (.., 2) of boxes that offsets (.., 4) move and resize.

    The last pixel belongs to a box: the one from ``low`` to ``high`` has the size
    high - low + 1.
    """
    offsets = offsets * offsets.new_tensor(scales) + offsets.new_tensor(shifts)
    move, grow = offsets.chunk(2, -1)
    old = high - low + 1
    size = old * grow.exp()
    corner = move * old + 0.5 * (high + low) - (size - 1) / 2
    return corner, corner + size - 1


def decode_regions(
    offsets: Tensor,
    regions: Tensor,
    scales: Sequence[float],
    shifts: Sequence[float],
    upright: bool,
    matched: Tensor | None = None,
    overlap: float = 1,
) -> Tensor:
    """The regions (R, 5) moved and resized by the last four of ``offsets`` (R, 8).

    As (R, 5, 1, 1); inverted boxes are left out if only ``upright`` ones are asked for,
    and those whose last number in ``matched`` (R, D) is ``overlap`` or more.
    """
    image, low, high = regions.detach().flatten(1).tensor_split((1, 3), 1)
    values = offsets.detach().flatten(1)[:, 4:]
    corner, far = moved_boxes(values, low, high, scales, shifts)
    rows = torch.cat([image, corner, far], 1)
    if upright:
        kept = (corner <= far).all(1)
        if matched is not None:
            kept = kept & ~(matched.detach().flatten(1)[:, -1] >= overlap)
        rows = rows[kept]
    return rows[..., None, None]


def route_by_scale(
    bottoms: Sequence[Tensor], low: float, high: float, middle: float
) -> list[Tensor]:
    """The items of all bottoms whose regions (R, 5), the first, have scales in a range.

    If there is none, the item whose scale is the nearest to ``middle``.
    """
    refuse_trace()
    corners = bottoms[0].detach().flatten(1)[:, 1:]
    first, last = corners.chunk(2, 1)
    side = torch.where(last < first, 0.0, last - first + 1)
    scale = side.prod(1).sqrt()
    index = ((scale >= low) & (scale < high)).nonzero()[:, 0]
    if not len(index):
        index = (scale / middle).log().abs().argmin()[None]
    tops = (bottom.detach()[index] for bottom in bottoms)
    return [top.reshape(*top.shape, *[1] * (4 - top.ndim)) for top in tops]


def frcnn_output(
    scores: Tensor,
    offsets: Tensor,
    regions: Tensor,
    image: Tensor,
    *,
    scales: Sequence[float],
    shifts: Sequence[float],
    by_class: bool,
    score_threshold: float,
    threshold: float,
    overlap: str,
    most: int | None,
) -> Tensor:
    """Cascade R-CNN's detections (K + 1, 7, 1, 1): (0, x1, y1, x2, y2, label, score).

    Of scores (R, C), offsets (R, 4C), or (R, 8) if not ``by_class``, regions (R, 5) and
    the image's (height, width).
    """
    scores = scores.detach().flatten(1)[:, 1:].T
    values = offsets.detach().reshape(len(offsets), -1, 4)[:, 1:].transpose(0, 1)
    low, high = regions.detach().flatten(1)[:, 1:5].chunk(2, 1)
    corner, far = moved_boxes(values, low, high, scales, shifts)
    far = torch.minimum(far, image.detach().flatten()[[1, 0]])
    boxes = torch.cat([corner.clamp(min=0), far], 2)
    if not by_class:
        boxes = boxes.expand(len(scores), -1, -1)
    high_enough = scores >= score_threshold
    limits = None, None
    rows, found = keep_boxes(boxes, scores, high_enough, limits, threshold, 1, overlap)
    best = found.sort(descending=True, stable=True).indices[:most].sort().values
    rows, found = rows[best], found[best]
    table = [
        torch.zeros_like(rows[:, :1]),
        rows[:, 1:],
        rows[:, :1] + 1,
        found[:, None],
    ]
    none = rows.new_tensor([[0.0] + [-1.0] * 6])
    return torch.cat([none, torch.cat(table, 1)])[..., None, None]
