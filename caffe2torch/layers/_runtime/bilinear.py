"""Products of channels, gathered at random (compact bilinear pooling)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caffe2torch.layers._runtime.rand import bilinear_sketch


class CompactBilinear(nn.Module):
    """Sums over the pixels of products of two channels, at ``size`` random places."""

    places: Tensor
    signs: Tensor

    def __init__(self, first: int, second: int, size: int) -> None:
        super().__init__()
        self.size = size
        places, signs = bilinear_sketch(first, second, size)
        flat = torch.tensor(places).flatten()
        self.register_buffer("places", flat, persistent=False)
        self.register_buffer("signs", torch.tensor(signs), persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        products = x.flatten(2) @ y.flatten(2).transpose(1, 2) * self.signs
        total = x.new_zeros(x.shape[0], self.size)
        total = total.index_add(1, self.places, products.flatten(1))
        return self.size * total[:, :, None, None]


def gram(x: Tensor) -> Tensor:
    """The products of two channels of ``x`` each, in the mean: (N, C, C, 1)."""
    rows = x.flatten(2)
    return (rows @ rows.transpose(1, 2) / rows[0].numel())[..., None]
