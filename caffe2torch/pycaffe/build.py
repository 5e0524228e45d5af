"""From an opened net to the layers that run: blobs, learned blobs, and who needs a gradient."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.graph import Node
from caffe2torch.passes.resolve import AUTOMATIC
from caffe2torch.pycaffe.blob import Blob
from caffe2torch.pycaffe.layer import PythonLayer
from caffe2torch.pycaffe.learned import Learned
from caffe2torch.pycaffe.steps import (
    DataStep,
    KeptStep,
    PythonStep,
    SharedStep,
    Step,
    TorchStep,
)
from caffe2torch.training.backward import needs_of
from caffe2torch.training.net import TrainingNet


def build(running: TrainingNet) -> tuple[list[Step], list[tuple[str, Blob]]]:
    """The layers in order, and the blobs in the order in which they are made."""
    graph = running.graph
    nodes = iter(graph.nodes)
    fed = {top for proto in graph.sources for top in proto.top}
    steps: list[Step] = []
    named: list[tuple[str, Blob]] = []
    latest: dict[str, Blob] = {}
    shared: dict[str, Blob] = {}
    for proto in running.net.layer:
        bottoms = [latest[name] for name in proto.bottom]
        is_source = bool(proto.top) and not proto.bottom and set(proto.top) <= fed
        node = None if is_source else next(nodes)
        layer = None if node is None else node.layer
        if isinstance(layer, PythonLayer):
            made = zip(proto.top, layer.host.tops, strict=True)
            tops = [latest[name] if name in proto.bottom else top for name, top in made]
            layer.host.tops[:] = tops
        else:
            values = proto.top if node is None else node.outputs
            tops = [
                latest[name] if name in proto.bottom else Blob._of(graph.shapes[value])
                for name, value in zip(proto.top, values, strict=True)
            ]
        for name, top in zip(proto.top, tops, strict=True):
            if name not in proto.bottom:
                named.append(("(automatic)" if name.startswith(AUTOMATIC) else name, top))
            latest[name] = top
        if node is None:
            source = running.sources.get(proto.name)
            step = Step(proto, (), tops) if source is None else DataStep(proto, tops, source)
        else:
            step = _step(running, node, bottoms, tops, shared)
            step.weights = [running.loss_weights.get(value, 0.0) for value in node.outputs]
        step.node = node
        steps.append(step)
    layers = [(step.proto, step.node) for step in steps]
    needs = needs_of(layers, graph, force=running.net.force_backward)
    for step, of_step in zip(steps, needs, strict=True):
        step.needs = of_step
    running.module.requires_grad_(False)  # A shared parameter has one if any of its layers learns.
    for step in steps:
        for top, weight in zip(step.tops, step.weights, strict=True):
            if weight:
                top._diff.tensor.fill_(weight)
        step.prepare()
    return steps, named


def _step(
    running: TrainingNet,
    node: Node,
    bottoms: Sequence[Blob],
    tops: Sequence[Blob],
    shared: dict[str, Blob],
) -> Step:
    layer, proto = node.layer, node.proto
    if isinstance(layer, PythonLayer):
        for param, blob in zip(proto.param, layer.host.instance.blobs, strict=False):
            if param.name:
                owner = shared.setdefault(param.name, blob)
                blob._data, blob._diff = owner._data, owner._diff
        return PythonStep(proto, layer.host, bottoms)
    module = running.module.get_submodule(node.key)
    shapes = [blob._shape for blob in bottoms]
    learned = Learned(node, module, shapes, shared) if layer.blob_specs(shapes) else None
    if layer.keeps_tops:
        return KeptStep(proto, tops, module, learned)
    if layer.shares_memory:
        return SharedStep(proto, node, bottoms, tops)
    return TorchStep(proto, node, module, bottoms, tops, learned)
