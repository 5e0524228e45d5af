"""Homes for learned and constant arrays."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Arrays(nn.Module):
    """Learned arrays of the given shapes, for a layer that is a function of them."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))


class Constants(nn.Module):
    """Tensors that hold one of ``values`` everywhere, each of its shape."""

    values: Tensor

    def __init__(self, values: Sequence[float], shapes: Sequence[list[int]]) -> None:
        super().__init__()
        self.shapes = shapes
        self.register_buffer("values", torch.tensor(values), persistent=False)

    def forward(self) -> Tensor | list[Tensor]:
        """The tensor, or all of them."""
        pairs = zip(self.values, self.shapes, strict=True)
        tensors = [value.expand(shape) for value, shape in pairs]
        return tensors if len(tensors) > 1 else tensors[0]
