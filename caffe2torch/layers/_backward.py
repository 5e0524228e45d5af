"""How Caffe's backward pass of a layer deals with memory: what it reads, finds and shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple


class Reads(NamedTuple):
    """Which blobs' data Caffe's Backward_cpu reads: memory that later layers may overwrite.

    What a layer keeps of its forward pass for itself (a mask, a variance) does not count.
    """

    bottoms: slice = slice(None)
    tops: slice = slice(0)
    signs: bool = False
    """Only the signs of the data count, 0 as a negative number."""
    always: bool = False
    """The gradient differs from the formula's even where nothing is overwritten."""


NOTHING = Reads(slice(0))
"""A backward pass that reads no blob's data."""


@dataclass(frozen=True)
class Backward:
    """What a layer's backward pass finds, as tensors.

    ``bottoms`` and ``tops`` are what the blobs' memory holds by then, in the shapes of the layer;
    ``given`` are the bottoms that its forward pass has read, ``diffs`` the gradients of the tops.
    ``wanted`` says for each bottom whether its gradient is asked for, ``in_place`` whether the
    first top is the first bottom.
    """

    diffs: Sequence[Any]
    bottoms: Sequence[Any]
    tops: Sequence[Any]
    given: Sequence[Any]
    wanted: Sequence[bool]
    in_place: bool


class GradientSharing(Enum):
    """When Caffe makes the top's and the bottom's gradient one memory, of layers that share data.

    In the backward pass that is the top's. BY_SUM never shares: the bottom's is the tops' sum.
    """

    FORWARD = "forward"
    BACKWARD = "backward"
    BY_SUM = "by sum"
