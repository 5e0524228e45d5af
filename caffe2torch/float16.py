"""What a float16 ONNX file keeps in float32, and how far it is from the float32 one."""

from __future__ import annotations

from collections.abc import Callable, Container
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffe2torch.artefact.onnx import float32_layers
from caffe2torch.artefact.write import PathLike, write_graph
from caffe2torch.compare import BlobDifference
from caffe2torch.graph import Graph
from caffe2torch.lower.batch import with_batch

if TYPE_CHECKING:
    from caffe2torch.lower.to_torch import CaffeModule

BATCHES = 3
"""Random inputs that both precisions run on."""


def write_and_report(
    graph: Graph,
    path: PathLike,
    *,
    report: Callable[[str], None],
    half: bool,
    batch: int | None = None,
    **options: Any,
) -> None:
    """Write ``graph`` as an .onnx in float16 with a writer's options, and tell of it in lines.

    The layers that compute in float32, and for each output how far it is from float32's on seeded
    random inputs. That is computed by the torch module, each result rounded to float16 where the
    file has it so: what a device does that sums products in float32. ONNX Runtime on a CPU has
    few float16 kernels and does most in float32.
    """
    import torch

    from caffe2torch.lower.to_torch import to_torch
    from caffe2torch.parity.inputs import random_batches

    if batch is not None:
        options["batch"] = batch
    write_graph(graph, path, half=half, **options)
    if not Path(path).is_file():  # What a pipe was given cannot be read again.
        return
    fed = graph if batch is None else with_batch(graph, batch)
    kept = float32_layers(path)
    types = {node.layer.name: node.layer.type for node in graph.nodes}
    named = [f"{types[name]} {name}" for name in kept if name in types]
    report(f"computed in float32: {', '.join(named) or 'nothing'}")
    exact, rounded = to_torch(fed), _rounding(fed, kept)
    found = {blob: BlobDifference(blob) for blob in fed.outputs}
    for random in random_batches(fed, BATCHES):
        tensors = {name: torch.from_numpy(array) for name, array in random.inputs.items()}
        with torch.no_grad():
            first, second = (module.blobs(tensors) for module in (exact, rounded))
        for blob, difference in found.items():
            difference.add(first[blob].numpy(), second[blob].numpy())
    for blob, difference in found.items():
        report(f"{blob}: {_distance(difference)}, on {BATCHES} random inputs")


def _rounding(graph: Graph, kept: Container[str]) -> CaffeModule:
    """The module with its weights, and results of layers that are not ``kept``, in float16."""
    from torch import Tensor

    from caffe2torch.lower.to_torch import to_torch

    def rounded(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.half().float() if value.is_floating_point() else value
        return type(value)(map(rounded, value)) if isinstance(value, tuple | list) else value

    module = to_torch(graph)
    for parameter in module.parameters():
        parameter.data = rounded(parameter.data)
    for node in graph.nodes:
        if node.layer.name not in kept:
            module.get_submodule(node.key).register_forward_hook(lambda m, i, out: rounded(out))
    return module


def _distance(difference: BlobDifference) -> str:
    if isfinite(difference.max_abs):
        return f"{difference.max_rel:.1e} of its peak from float32"
    return (
        "not the values of float32: as many boxes as there are may be others, or values pass "
        "float16's end, 65504"
    )
