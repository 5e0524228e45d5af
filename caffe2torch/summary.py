"""What ``inspect`` and ``layers`` show, as plain values."""

from __future__ import annotations

from typing import Any

from caffe2torch.graph import Graph
from caffe2torch.layers import all_layers
from caffe2torch.layers._base import Layer, Role


def summary(graph: Graph) -> dict[str, Any]:
    """Return layers, parameters and multiply-adds of ``graph`` at its declared input shapes.

    A parameter that several layers share counts once, in the first of them.
    """
    counted: set[str] = set()
    rows = []
    for node in graph.nodes:
        own = [key for key in node.params.values() if key not in counted]
        counted.update(own)
        bottoms = [graph.shapes[name] for name in node.inputs]
        tops = [graph.shapes[name] for name in node.outputs]
        rows.append(
            {
                "name": node.layer.name,
                "type": node.layer.type,
                "output_shapes": [list(shape) for shape in tops],
                "parameters": sum(graph.params[key].size for key in own),
                "multiply_adds": node.layer.multiply_adds(bottoms, tops),
            }
        )
    return {
        "name": graph.name,
        "inputs": {i.name: list(i.shape) for i in graph.inputs},
        "outputs": {b: list(graph.shapes[graph.blobs[b]]) for b in graph.outputs},
        "layers": rows,
        "parameters": sum(row["parameters"] for row in rows),
        "multiply_adds": sum(row["multiply_adds"] for row in rows),
    }


TORCH_FORM = ("torch_module", "to_torch")
"""The methods of which the module and the source are both made."""


def support() -> list[dict[str, str]]:
    """Return every known layer type with its support in torch, ONNX and PyTorch source."""
    return [
        {
            "type": name,
            "torch": _state(cls, *TORCH_FORM),
            "onnx": _state(cls, "to_onnx"),
            "source": _state(cls, *TORCH_FORM),
            "summary": (cls.__doc__ or "").strip().split("\n")[0].rstrip("."),
        }
        for name, cls in all_layers().items()
    ]


def _state(cls: type[Layer], *methods: str) -> str:
    if cls.role is Role.INPUT or cls.role is Role.DATA:
        return "input"
    if cls.converts and any(
        getattr(cls, method) is not getattr(Layer, method) for method in methods
    ):
        return "yes"
    return "no"
