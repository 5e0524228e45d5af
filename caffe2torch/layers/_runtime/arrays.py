"""A home for learned arrays."""

from __future__ import annotations

import torch
from torch import nn


class Arrays(nn.Module):
    """Learned arrays of the given shapes, for a layer that is a function of them."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
