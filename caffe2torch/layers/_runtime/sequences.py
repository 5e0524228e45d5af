"""Sequences of classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def ctc_greedy(
    x: Tensor, blank: int, merge: bool, going_on: Tensor | None = None
) -> Tensor:
    """The classes (N, T, 1, 1) of scores (T, N, C), less repetitions and blanks.

    They are followed by -1. ``going_on`` (T, N) is 0 where a sequence has ended; its
    first row is not read.
    """
    best = x.flatten(2).argmax(2).T
    keep = best != blank
    if merge:
        keep[:, 1:] &= best[:, 1:] != best[:, :-1]
    steps = best.shape[1]
    if going_on is not None:
        ended = (going_on.reshape(steps, -1) == 0).T
        ended = torch.cat([torch.zeros_like(ended[:, :1]), ended[:, 1:]], 1)
        keep &= ended.cumsum(1) == 0
    # Steps left out go to places of their own behind the sequence, which are cut off.
    behind = torch.arange(steps, 2 * steps, device=x.device)
    place = torch.where(keep, keep.cumsum(1) - 1, behind)
    y = x.new_full((len(best), 2 * steps), -1).scatter(1, place, best.to(x.dtype))
    return y[:, :steps, None, None]


def all_but_first_stream(x: Tensor) -> Tensor:
    """1 for the steps and streams of ``x`` (T, N, ..), but 0 for the first stream."""
    y = x.new_ones(x.shape[:2])
    y[:, 0] = 0
    return y


class Continuation(nn.Module):
    """0 for the streams of the first step, 1 for those of the others, as (T, N)."""

    y: Tensor

    def __init__(self, steps: int, streams: int) -> None:
        super().__init__()
        y = torch.ones(steps, streams)
        y[0] = 0
        self.register_buffer("y", y, persistent=False)

    def forward(self) -> Tensor:
        """The numbers."""
        return self.y


def continuation_of(x: Tensor, steps: int, axis: int) -> Tensor:
    """0 for the first of ``steps``, else 1: (T, N) with N the size of ``axis``."""
    y = x.new_ones(steps, x.shape[axis])
    y[0] = 0
    return y


def text_proposals(
    scores: Tensor,
    deltas: Tensor,
    info: Tensor,
    bounds: Sequence[Sequence[int]],
    stride: int,
) -> tuple[Tensor, Tensor]:
    """Boxes of CTPN's anchors within an image of ``info``, and their scores.

    ``bounds`` are the top and bottom of each anchor at the first pixel.
    """
    height, width = scores.shape[2:]
    first = scores.new_tensor([[0, top, 15, bottom] for top, bottom in bounds])
    y = torch.arange(height, device=scores.device).to(scores) * stride
    x = torch.arange(width, device=scores.device).to(scores) * stride
    y, x = y[:, None].expand(height, width), x.expand(height, width)
    anchors = (torch.stack((x, y, x, y), 2)[:, :, None] + first).reshape(-1, 4)
    left, top, right, bottom = anchors.chunk(4, 1)
    dy, dh = deltas.permute(0, 2, 3, 1).reshape(-1, 2).chunk(2, 1)
    size = bottom - top + 1
    high = dh.exp() * size
    above = dy * size + (top + bottom) / 2 - high / 2
    boxes = torch.cat((left, above, right, above + high), 1)
    limits = info.flatten()[:2].flip(0).repeat(2) - 1
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    kept = scores[:, len(bounds) :].permute(0, 2, 3, 1).reshape(-1, 1)
    return boxes, kept


def later_steps(x: Tensor) -> Tensor:
    """0 for the first step of ``x`` (T, N, ..), 1 for the later ones: (T, N)."""
    steps = torch.arange(x.shape[0], device=x.device)[:, None].expand(x.shape[:2])
    return (steps > 0).to(x.dtype)
