"""The end padding of a convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


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
