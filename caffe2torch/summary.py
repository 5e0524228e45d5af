"""What ``inspect`` and ``layers`` show, as plain values."""

from __future__ import annotations

from typing import Any

from caffe2torch.graph import Graph
from caffe2torch.layers import Layer, Role, all_layers


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


def support() -> list[dict[str, str]]:
    """Return every known layer type with its support in torch, ONNX and PyTorch source."""
    rows = []
    for name, cls in all_layers().items():
        # The module and the source are both made of these methods.
        torch, onnx = _state(cls, "torch_module", "to_torch"), _state(cls, "to_onnx")
        summary = (cls.__doc__ or "").strip().split("\n")[0].rstrip(".")
        rows.append(
            {"type": name, "torch": torch, "onnx": onnx, "source": torch, "summary": summary}
        )
    return rows


def _state(cls: type[Layer], *methods: str) -> str:
    if cls.role in (Role.INPUT, Role.DATA, Role.SAMPLE):
        return "input"
    has_form = any(getattr(cls, method) is not getattr(Layer, method) for method in methods)
    return "yes" if cls.converts and has_form else "no"
