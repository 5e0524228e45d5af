"""Pruning of one convolution: which weights go, and what the others become to make up for it.

A convolution is a linear map of patches, y = W x with x = (patch, 1) and W = (weight, bias).
Over calibration images it has the second moment H = E[x x^T], and other weights V change its
output by E|V x - W x|^2 = trace((V - W) H (V - W)^T), which is least, among the V that are 0
where they must be, at a closed form for each row. The weight to remove next is the one of the
least V[i]^2 / inverse(H)[i, i], the increase of that error once the rest of its row has made
up for it (optimal brain surgeon: Hassibi and Stork, 1993; in layers: arXiv:2208.11580).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
