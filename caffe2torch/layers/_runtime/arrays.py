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


class LearnedBlob(nn.Module):
    """A learned array as a function of nothing."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self) -> Tensor:
        """A copy: the array itself would need a gradient where none is wanted."""
        return self.weight.clone()

    def keep(self, value: Tensor, top: int = 0) -> None:
        """Take what in-place layers made of the array: the next pass begins with it."""
        with torch.no_grad():
            self.weight.copy_(value.reshape(self.weight.shape))


class Constants(nn.Module):
    """Tensors that hold one of ``values`` everywhere, each of its shape."""

    values: Tensor

    def __init__(self, values: Sequence[float], shapes: Sequence[list[int]]) -> None:
        super().__init__()
        self.shapes = shapes
        self.kept: dict[int, Tensor] = {}
        self.register_buffer("values", torch.tensor(values), persistent=False)

    def forward(self) -> Tensor | list[Tensor]:
        """The tensor, or all of them."""
        pairs = zip(self.values, self.shapes, strict=True)
        tensors = [value.expand(shape) for value, shape in pairs]
        for top, value in self.kept.items():
            tensors[top] = value.to(tensors[top])
        return tensors if len(tensors) > 1 else tensors[0]

    def keep(self, value: Tensor, top: int = 0) -> None:
        """Take what in-place layers made of a tensor: the next pass begins with it."""
        self.kept[top] = value.detach().reshape(self.shapes[top])


def refuse_trace() -> None:
    """Raise RuntimeError in a trace by torch.jit, which keeps its example's choice."""
    if is_tracing():
        raise RuntimeError(
            "torch.jit and torch.export would keep the boxes chosen for their example."
            " Take the .onnx form, or run the module itself."
        )


def is_tracing() -> bool:
    """Whether torch.jit.trace or torch.export records this pass, for any others."""
    return is_exporting() or bool(torch.jit.is_tracing())  # type: ignore


def is_exporting() -> bool:
    """Whether torch.export records this pass."""
    known = getattr(torch.compiler, "is_exporting", None)  # Since torch 2.7.
    return known is not None and known()
