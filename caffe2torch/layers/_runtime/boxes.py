"""Boxes as SSD codes and suppresses them: tensors of (xmin, ymin, xmax, ymax)."""

from __future__ import annotations

import torch
from torch import Tensor


def decode_boxes(
    loc: Tensor, prior: Tensor, variance: Tensor | float, code_type: str
) -> Tensor:
    """The boxes that the offsets ``loc`` (..., P, 4) make of the priors (.., P, 4).

    CORNER: p + v l. CORNER_SIZE: p + v l s, s the prior's size. CENTER_SIZE: centre
    c + v l s and size s exp(v l).
    """
    offset = variance * loc
    low, high = prior.chunk(2, -1)
    size = high - low
    if code_type == "CORNER":
        return prior + offset
    if code_type == "CORNER_SIZE":
        return prior + offset * torch.cat([size, size], -1)
    shift, growth = offset.chunk(2, -1)
    centre = shift * size + (low + high) / 2
    half = growth.exp() * size / 2
    return torch.cat([centre - half, centre + half], -1)


def move_corners(offsets: Tensor, prior: Tensor, variance: Tensor) -> Tensor:
    """The quadrangles (.., P, 8) that offsets of that shape make of the priors (P, 4).

    Corners go clockwise from the top left: c + v l s, v the variance of the centre.
    """
    factor = variance[:, :2] * (prior[:, 2:] - prior[:, :2])
    corners = prior[:, [0, 1, 2, 1, 2, 3, 0, 3]]
    return corners + offsets * torch.cat([factor] * 4, -1)


@torch.jit.script_if_tracing  # type: ignore
def suppress(boxes: Tensor, candidates: Tensor, threshold: float, eta: float) -> Tensor:
    """Greedy non-maximum suppression of groups of boxes (G, K, 4) at once.

    Each group is in descending order of score. Of the ``candidates`` (G, K) the mask
    returned keeps those that overlap no earlier kept box by more than the threshold,
    which is multiplied by ``eta`` after each kept box for as long as it is above 0.5.
    Inverted boxes have no area and overlap nothing. The loop runs as many times as the
    fullest group keeps boxes; a trace by torch.jit has the loop, not what it did once.
    """
    low, high = boxes.detach().chunk(2, -1)
    boxes = torch.cat([low, torch.maximum(low, high)], -1)
    index = torch.arange(boxes.shape[1], device=boxes.device)
    group = torch.arange(len(boxes), device=boxes.device)
    kept = torch.zeros_like(candidates)
    worst = torch.zeros_like(boxes[..., 0])
    limit = torch.full_like(boxes[:, :1, 0], threshold)
    while bool(candidates.any()):
        found, first = candidates.any(1), candidates.int().argmax(1)
        kept[group, first] = kept[group, first] | found
        worst = torch.maximum(worst, box_overlap(boxes[group, first, None], boxes))
        limit = torch.where(limit > 0.5, limit * eta, limit)
        candidates = candidates & (index > first[:, None]) & (worst <= limit)
    return kept


def suppress_recorded(
    boxes: Tensor, candidates: Tensor, threshold: float, eta: float
) -> Tensor:
    """``suppress`` for torch.export, with the loop as an operator of the program."""
    from torch._higher_order_ops.while_loop import while_loop

    low, high = boxes.detach().chunk(2, -1)
    boxes = torch.cat([low, torch.maximum(low, high)], -1)
    index = torch.arange(boxes.shape[1], device=boxes.device)

    def goes_on(candidates: Tensor, *_: Tensor) -> Tensor:
        return candidates.any()

    def step(
        candidates: Tensor, kept: Tensor, worst: Tensor, limit: Tensor
    ) -> tuple[Tensor, ...]:
        found = candidates.any(1, keepdim=True)
        first = candidates.int().argmax(1, keepdim=True)
        kept = kept | ((index == first) & found)
        box = boxes.gather(1, first[..., None].expand(-1, 1, 4))
        worst = torch.maximum(worst, box_overlap(box, boxes))
        limit = torch.where(limit > 0.5, limit * eta, limit)
        candidates = candidates & (index > first) & (worst <= limit)
        return candidates, kept, worst, limit

    candidates = candidates.clone(memory_format=torch.contiguous_format)
    worst = boxes.new_zeros(candidates.shape)
    limit = boxes.new_full((len(boxes), 1), threshold)
    start = candidates, torch.zeros_like(candidates), worst, limit
    _, kept, _, _ = while_loop(goes_on, step, start)  # type: ignore
    return kept  # type: ignore


def box_overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of ``box`` (G, 1, 4) and ``boxes`` (G, K, 4): (G, K)."""
    low = torch.maximum(box[..., :2], boxes[..., :2])
    size = torch.minimum(box[..., 2:], boxes[..., 2:]) - low
    shared = size.prod(-1)
    ratio = shared / (box_area(box) + box_area(boxes) - shared)
    return torch.where((size > 0).all(-1), ratio, 0.0)


def box_area(boxes: Tensor) -> Tensor:
    """Width times height."""
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)
