"""One layer on tensors: the TorchBuilder that computes, its module, and it as a function."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, _runtime

Function = Callable[..., Any]


def _definitions() -> dict[str, Any]:
    """All that the files of ``layers/_runtime`` define, by name."""
    found: dict[str, Any] = {}
    for file in pkgutil.iter_modules(_runtime.__path__, f"{_runtime.__name__}."):
        found |= vars(importlib.import_module(file.name))
    return found


@torch.fx.wrap
def run_layer(layer: Function, *inputs: Any, **options: Any) -> Any:
    """``layer`` on its inputs, as one node of a trace by torch.fx.

    A layer's own form asks for sizes, which such a trace does not have yet.
    """
    return layer(*inputs, **options)


class EagerTorch:
    """The TorchBuilder with which a layer computes on tensors. See there for the members."""

    torch: Any = torch
    nn: Any = nn
    F: Any = nn.functional
    math: Any = math
    runtime: Any = SimpleNamespace(**_definitions())

    def __init__(self, module: Any) -> None:
        self.params = module
        """The node's submodule."""

    @property
    def module(self) -> Any:
        return one_node(self.params)

    @property
    def training(self) -> bool:
        return bool(self.params.training)

    def exact(self, value: Any) -> Any:
        return value

    def check(self, layer: Layer, inputs: Sequence[Tensor]) -> None:
        layer.infer_shapes([tuple(x.shape) for x in inputs])

    def use(self, function: Function) -> Function:
        return function


class LayerModule(nn.Module):
    """The module of a layer that has no ready-made one: it holds the arrays, and runs to_torch."""

    def __init__(self, layer: Layer, bottoms: Sequence[Shape]) -> None:
        super().__init__()
        self.layer, self.bottoms = layer, bottoms

    def forward(self, *inputs: Tensor) -> Tensor | Sequence[Tensor]:
        """Inputs and outputs are those of the Caffe layer, in its order."""
        result: Tensor | Sequence[Tensor] = self.layer.to_torch(
            EagerTorch(self), inputs, self.bottoms
        )
        return result

    def extra_repr(self) -> str:
        """The layer's resolved parameters."""
        return repr(self.layer)


def one_node(module: nn.Module) -> Function:
    """``module`` as what torch.fx traces as one node; it does so by itself with torch's own."""
    return module if type(module).__module__.startswith("torch.nn") else partial(run_layer, module)


def module_of(layer: Layer, bottoms: Sequence[Shape]) -> nn.Module:
    """The submodule of a node, without its learned arrays, which the caller registers.

    Raises UnsupportedLayerError for a layer without a torch form.
    """
    module = layer.torch_module(EagerTorch(None), bottoms)
    if module is None and type(layer).to_torch is Layer.to_torch:
        raise layer.unsupported("it has no torch form")
    return LayerModule(layer, bottoms) if module is None else module


def function_of(layer: Layer, module: nn.Module, bottoms: Sequence[Shape]) -> Function:
    """The layer as a function of its inputs: ``module``, and what its form does around it."""
    t = EagerTorch(module)
    return lambda *inputs: layer.to_torch(t, inputs, bottoms)


def check_indices(layer: Layer, values: Tensor, bottoms: Sequence[Shape], name: str) -> None:
    """Raise NetError if ``values``, a bottom that ``layer`` reads as indices, exceed their range.

    ``bottoms`` are the shapes of its bottoms, ``name`` is that of the values.
    """
    count = layer.index_count(bottoms)
    indices = values.detach().long()
    wrong = (indices < 0) | (indices >= count)
    ignored = getattr(layer, "ignore_label", None)
    if ignored is not None:
        wrong &= indices != ignored
    if count and bool(wrong.any()):
        raise layer.net_error(
            f"{int(indices[wrong][0])} is in {name!r}, where 0 to {count - 1} may be: correct the "
            "data, or the number of classes"
        )
