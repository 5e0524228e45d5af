"""Sequences of classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def ctc_greedy(x: Tensor, blank: int, merge: bool) -> Tensor:
    """The classes (N, T, 1, 1) of scores (T, N, C), less repetitions and blanks.

    They are followed by -1.
    """
    best = x.flatten(2).argmax(2).T
    keep = best != blank
    if merge:
        keep[:, 1:] &= best[:, 1:] != best[:, :-1]
    steps = best.shape[1]
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
