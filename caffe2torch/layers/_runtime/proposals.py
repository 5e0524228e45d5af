"""Boxes that a network proposes: which of them are kept, in which order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe2torch.layers._runtime.arrays import refuse_trace


def propose(
    scores: Tensor,
    deltas: Tensor,
    info: Tensor,
    *,
    anchors: Sequence[Sequence[float]],
    stride: int,
    min_size: float,
    size_scales: Sequence[int],
    drop_small: bool,
    limits: Sequence[int | None],
    threshold: float | None,
    fallback: Sequence[float] | None,
    flat_scores: bool,
    last_first: bool = False,
) -> tuple[Tensor, Tensor]:
    """Regions of a proposal network, rows (image, x1, y1, x2, y2), and their scores.

    ``scores`` (N, 2A, H, W), ``deltas`` (N, 4A, H, W), ``info`` N rows (height, width,
    scale, ..). A box is too small if a side is less than ``min_size`` times the column
    of ``info`` that ``size_scales`` names (for the width, for the height): it is
    dropped, or counts as one of score 0. ``fallback`` is the row if there is no other.
    The scores are (R, 1), or (R) if ``flat_scores``. Of equal scores the first box is
    the best, or the last if ``last_first``.
    """
    info = info.detach().reshape(len(info), -1)[:, None]
    boxes = anchor_boxes(deltas.detach(), anchors, stride)
    boxes = boxes.minimum(info[..., [1, 0, 1, 0]] - 1).clamp(min=0)
    scores = scores.detach()[:, len(anchors) :].permute(0, 2, 3, 1).flatten(1)
    size = boxes[..., 2:] - boxes[..., :2] + 1
    large = (size >= min_size * info[..., size_scales]).all(-1)
    if not drop_small:
        scores, large = scores.where(large, 0.0), torch.ones_like(large)
    if last_first:
        boxes, scores, large = (x.flip(1) for x in (boxes, scores, large))
    rows, scores = keep_boxes(boxes, scores, large, limits, threshold, 1)
    rows = or_row(rows, fallback) if fallback else rows
    return rows, scores if flat_scores else scores[:, None]


def anchor_boxes(
    deltas: Tensor, anchors: Sequence[Sequence[float]], stride: int
) -> Tensor:
    """The boxes (N, H * W * A, 4) that the deltas make of the anchors at each cell.

    Of an anchor of size s (its last pixel belongs to it) around c they make one of
    size s exp(dw) around c + s dx.
    """
    height, width = deltas.shape[2:]
    base = torch.tensor(anchors, dtype=torch.float64, device=deltas.device)
    x = torch.arange(width, device=deltas.device) * stride
    y = torch.arange(height, device=deltas.device)[:, None] * stride
    shift = torch.stack([x.expand(height, width), y.expand(height, width)] * 2, -1)
    placed = (base + shift[:, :, None]).reshape(-1, 4).to(deltas.dtype)
    size = placed[:, 2:] - placed[:, :2] + 1
    centre = placed[:, :2] + 0.5 * size
    deltas = deltas.permute(0, 2, 3, 1).reshape(len(deltas), -1, 4)
    centre = deltas[..., :2] * size + centre
    half = 0.5 * (deltas[..., 2:].exp() * size)
    return torch.cat([centre - half, centre + half], -1)


def keep_boxes(
    boxes: Tensor,
    scores: Tensor,
    candidates: Tensor,
    limits: Sequence[int | None],
    threshold: float | None,
    pixel: int,
    overlap: str = "IOU",
) -> tuple[Tensor, Tensor]:
    """Rows (image, x1, y1, x2, y2) of the boxes (N, K, 4) that are kept, with scores.

    Of each image's ``candidates`` (N, K) the best ``limits[0]`` go through
    ``suppress_overlaps`` (unless ``threshold`` is None), and the best ``limits[1]`` of
    those remain, equal scores by index.
    """
    refuse_trace()
    rows, found = [], []
    for image in range(len(boxes)):
        index = candidates[image].nonzero()[:, 0]
        order = scores[image, index].sort(descending=True, stable=True).indices
        index = index[order[: limits[0]]]
        if threshold is not None:
            chosen = boxes[image, index]
            kept = suppress_overlaps(chosen, threshold, limits[1], pixel, overlap)
            index = index[kept]
        index = index[: limits[1]]
        number = torch.full_like(boxes[image, index, :1], image)
        rows.append(torch.cat([number, boxes[image, index]], 1))
        found.append(scores[image, index])
    return torch.cat(rows), torch.cat(found)


def suppress_overlaps(
    boxes: Tensor, threshold: float, most: int | None, pixel: int, overlap: str
) -> Tensor:
    """The indices of boxes (K, 4), best first, that overlap no kept one by more.

    ``pixel`` is added to each side. The overlap is the shared area over that of both
    together (IOU), of the smaller box (IOMU) or of the kept one (IOFU). An inverted box
    and one without area overlap nothing. Stops at ``most`` boxes.
    """
    size = boxes[:, 2:] - boxes[:, :2] + pixel
    area = size.prod(1)
    upright = ((size > 0) & (size >= pixel)).all(1)
    left = torch.arange(len(boxes), device=boxes.device)
    kept: list[Tensor] = []
    while len(left) and (most is None or len(kept) < most):
        first, left = left[0], left[1:]
        kept.append(first)
        low = torch.maximum(boxes[first, :2], boxes[left, :2])
        high = torch.minimum(boxes[first, 2:], boxes[left, 2:])
        shared = (high - low + pixel).clamp(min=0).prod(1)
        whole = area[first] + area[left] - shared
        if overlap == "IOMU":
            whole = torch.minimum(area[first], area[left])
        elif overlap == "IOFU":
            whole = area[first].expand(len(left))
        sized = upright[left] & upright[first]
        left = left[~(sized & (shared / whole > threshold))]
    return torch.stack(kept) if kept else left


def or_row(rows: Tensor, row: Sequence[float]) -> Tensor:
    """``rows``, or the one ``row`` if there are none."""
    return rows if len(rows) else rows.new_tensor([row])
