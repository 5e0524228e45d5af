"""What Deep Compression does to a layer: pruning, its share of the bytes, and a codebook.

Pruning decides which weights go, and what the others become to make up for it.

A convolution is a linear map of patches, y = W x with x = (patch, 1) and W = (weight, bias).
Over calibration images it has the second moment H = E[x x^T], and other weights V change its
output by E|V x - W x|^2 = trace((V - W) H (V - W)^T), which is least, among the V that are 0
where they must be, at a closed form for each row. The weight to remove next is the one of the
least V[i]^2 / inverse(H)[i, i], the increase of that error once the rest of its row has made
up for it (optimal brain surgeon: Hassibi and Stork, 1993; in layers: arXiv:2208.11580).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from caffe2torch.errors import NetError
from caffe2torch.io.deep_compression import REACH, layer_size

_FINE = 1000
"""Shares that are looked at, from the least that was measured to all."""

_HALVINGS = 100

ROUNDS = 100
"""Lloyd's steps at most; 256 clusters of weights are still after some dozens."""

_CHUNK = 20_000_000  # Numbers in the matrices that are solved at a time: 80 MB.


def sample_patches(conv: nn.Conv2d, x: Tensor, places: Tensor) -> Tensor:
    """The patches (P, in * height * width + 1) that a square convolution of x (N, C, H, W) reads.

    ``places`` are indices of its output's positions, image by image and row by row. Each
    patch ends with the 1 that the bias is multiplied by.
    """
    assert not isinstance(conv.padding, str)
    columns = F.unfold(x, conv.kernel_size, padding=conv.padding, stride=conv.stride)
    per_image = columns.shape[2]
    patches = columns[places // per_image, :, places % per_image]
    return torch.cat([patches, torch.ones(len(patches), 1)], 1)


def output_places(conv: nn.Conv2d, x: Tensor) -> int:
    """How many positions the convolution's output has for x (N, C, H, W)."""
    sides = (
        (side + 2 * int(conv.padding[axis]) - conv.kernel_size[axis]) // conv.stride[axis] + 1
        for axis, side in enumerate(x.shape[2:])
    )
    height, width = sides
    return len(x) * height * width


def as_matrix(conv: nn.Conv2d) -> Tensor:
    """A convolution's weight and bias as one matrix (out, in * height * width + 1)."""
    assert conv.bias is not None
    return torch.cat([conv.weight.flatten(1), conv.bias[:, None]], 1).detach()


def prune(moment: Tensor, target: Tensor, counts: Sequence[int]) -> Iterator[Tensor]:
    """Yield the matrix with each of ``counts`` weights left, which descend; biases all stay.

    Args:
        moment: H (d + 1, d + 1), positive definite.
        target: W (out, d + 1), the matrix to come close to.
        counts: how many weights stay at each step; smaller steps choose better.
    """
    right = target @ moment
    mask = torch.ones_like(target, dtype=torch.bool)
    matrix = target
    inverse = torch.linalg.inv(moment.double()).diagonal().float().expand_as(target)
    for count in counts:
        cost = matrix.square() / inverse.clamp_min(1e-30)
        cost = cost.masked_fill(~mask, -1.0)[:, :-1]
        kept = torch.topk(cost.flatten(), count).indices
        weights = torch.zeros(cost.numel(), dtype=torch.bool)
        weights[kept] = True
        mask[:, :-1] = weights.view_as(cost)
        matrix, inverse = _solve(moment, right, mask)
        yield matrix


def _solve(moment: Tensor, right: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's best values under its mask, and the diagonals of its inverse moments."""
    matrix, inverse = torch.zeros_like(right), torch.zeros_like(right)
    order = mask.sum(1).argsort(stable=True)
    for rows, size in _chunks(mask.sum(1)[order].tolist()):
        chosen = order[rows]
        # A row's own entries first; rows with fewer of them are filled up with an identity.
        places = (~mask[chosen]).to(torch.uint8).argsort(dim=1, stable=True)[:, :size]
        own = mask[chosen].gather(1, places)
        blocks = moment[places[:, :, None], places[:, None, :]]
        blocks *= own[:, :, None] & own[:, None, :]
        blocks.diagonal(dim1=1, dim2=2).add_((~own).float())
        factor = torch.linalg.cholesky(blocks)
        values = torch.cholesky_solve((right[chosen].gather(1, places) * own)[:, :, None], factor)
        diagonal = torch.cholesky_inverse(factor).diagonal(dim1=1, dim2=2)
        matrix[chosen] = matrix[chosen].scatter(1, places, values[:, :, 0] * own)
        inverse[chosen] = inverse[chosen].scatter(1, places, diagonal * own)
    return matrix, inverse


def _chunks(sizes: Sequence[int]) -> Iterator[tuple[slice, int]]:
    """Ranges of rows, whose ascending sizes are given, that fit the memory; their largest size."""
    start = 0
    while start < len(sizes):
        end = start + 1
        while end < len(sizes) and (end + 1 - start) * sizes[end] ** 2 <= _CHUNK:
            end += 1
        yield slice(start, end), sizes[end - 1]
        start = end


@dataclass(frozen=True)
class Curve:
    """The error of a layer by the share of its weights that stay.

    ``shares`` descend and lie between 1, where there is no error, and 0.
    """

    name: str
    weights: int
    outputs: int
    shares: Sequence[float]
    errors: Sequence[float]


def share_out(curves: Sequence[Curve], size: int) -> list[int]:
    """The bytes of each layer that keep the sum of the errors least and are ``size`` in all.

    At the optimum a byte saves as much error in one layer as in any other, so one exchange
    rate of errors to bytes decides for all layers; it is found by bisection. Raises NetError
    if not even the smallest shares fit.
    """
    tables = [_table(curve) for curve in curves]
    least = sum(int(table.sizes[0]) for table in tables)
    if size < least:
        raise NetError(
            f"a file of {size:,} bytes is too small for this net: it needs {least:,}, of which "
            f"{sum(fixed_bytes(c.outputs) for c in curves):,} are codebooks and biases"
        )
    low, high = 1e-30, 1e30
    for _ in range(_HALVINGS):
        rate = (low * high) ** 0.5
        if sum(table.best(rate) for table in tables) <= size:
            high = rate
        else:
            low = rate
    return [table.best(high) for table in tables]


def fixed_bytes(outputs: int) -> int:
    """What a layer takes however few weights it keeps."""
    return layer_size(0, outputs)


@dataclass(frozen=True)
class _Table:
    """Sizes of a layer in bytes, which rise, and the errors that go with them."""

    sizes: NDArray[np.int64]
    errors: NDArray[np.float64]

    def best(self, rate: float) -> int:
        """The size of the least error and cost at ``rate`` a byte."""
        return int(self.sizes[np.argmin(self.errors + rate * self.sizes)])


def _table(curve: Curve) -> _Table:
    shares = np.linspace(curve.shares[-1], 1, _FINE)
    weights = np.round(shares * curve.weights)
    # Of weights that stand at random, a share (1 - p)^16 has 16 zeros or more before it.
    bridge = (1 - shares) ** REACH
    fillers = weights * bridge / (1 - bridge)
    sizes = [layer_size(int(n), curve.outputs) for n in weights + fillers]
    return _Table(np.array(sizes, np.int64), _errors(curve, shares))


def _errors(curve: Curve, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The errors at ``shares``, whose last is 1: a power of the share that is removed.

    Between two measurements the power is what leads from one to the other, above the first
    it is 3: of weights that are spread evenly near 0, the least go first.
    """
    removed = np.log(1 - shares[:-1])
    measured = np.log(1 - np.array(curve.shares))
    logs = np.log(np.maximum(curve.errors, np.finfo(np.float64).tiny))
    powers = np.interp(removed, measured, logs) + 3 * np.minimum(removed - measured[0], 0)
    # What makes no difference on the images is still kept where there is room for it.
    slope = 1e-9 * (max(curve.errors) + np.finfo(np.float64).tiny) * (1 - shares)
    errors: NDArray[np.float64] = np.append(np.exp(powers), 0.0) + slope
    return errors


def cluster(values: NDArray[np.floating[Any]], count: int) -> NDArray[np.float32]:
    """At most ``count`` centres for ``values``, ascending: a local optimum of the squared error.

    Lloyd's algorithm, from centres that stand half evenly over the range and half evenly
    among the values: large weights are few and matter, small ones are many. On sorted values
    a cluster is an interval, so a step takes two searches and a sum. No more distinct values
    than ``count`` are their own centres.
    """
    ordered = np.sort(values.astype(np.float64), axis=None)
    distinct = np.unique(ordered)
    if len(distinct) <= count:
        return distinct.astype(np.float32)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres = _first_centres(ordered, count)
    for _ in range(ROUNDS):
        ends = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], ends, [len(ordered)]])
        sizes = np.diff(bounds)
        means = np.diff(sums[bounds]) / np.maximum(sizes, 1)
        moved = np.sort(np.where(sizes > 0, means, centres))
        if np.array_equal(moved, centres):
            break
        centres = moved
    used = np.unique(np.searchsorted((centres[1:] + centres[:-1]) / 2, ordered))
    return np.unique(centres[used].astype(np.float32))


def nearest(values: NDArray[np.floating[Any]], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """The index of the nearest of ``centres``, which ascend, for each value."""
    middles = (centres[1:].astype(np.float64) + centres[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.int64)


def _first_centres(ordered: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    even = np.linspace(ordered[0], ordered[-1], count // 2)
    dense = np.quantile(ordered, (np.arange(count - len(even)) + 0.5) / (count - len(even)))
    return np.sort(np.concatenate([even, dense]))
