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
    _set_gradients(running, steps, named)
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
        return PythonStep(proto, layer.host, bottoms)
    module = running.module.get_submodule(node.key)
    shapes = [blob._shape for blob in bottoms]
    learned = Learned(node, module, shapes, shared) if layer.blob_specs(shapes) else None
    if layer.keeps_tops:
        return KeptStep(proto, tops, module, learned)
    if layer.shares_memory:
        return SharedStep(proto, node, bottoms, tops)
    return TorchStep(proto, node, module, bottoms, tops, learned)


def _set_gradients(
    running: TrainingNet, steps: Sequence[Step], named: Sequence[tuple[str, Blob]]
) -> None:
    """Which layers, bottoms and learned blobs have gradients (Net::Init)."""
    needs: set[int] = set()
    for step in steps:
        stated = list(step.proto.propagate_down)
        needed = [id(bottom) in needs for bottom in step.bottoms]
        step.propagate = [bool(given) for given in stated] or list(needed)
        step.learns = [
            index not in step.statistics and _lr_mult(step, index) != 0
            for index in range(len(step.blobs))
        ]
        step.need_backward = any(needed) or any(step.learns)
        if step.need_backward:
            needs |= {id(top) for top in step.tops}
    _leave_out(steps)
    if running.net.force_backward:
        for step in steps:
            step.need_backward = True
            step.propagate = [
                wanted or step.allows_backward(index) for index, wanted in enumerate(step.propagate)
            ]
            step.learns = [index not in step.statistics for index in range(len(step.blobs))]


def _leave_out(steps: Sequence[Step]) -> None:
    """Leave out layers below no loss, and those none of whose tops is propagated through."""
    below: set[int] = set()
    skipped: set[int] = set()
    for step in reversed(steps):
        contributes = any(step.weights) or any(id(top) in below for top in step.tops)
        if all(id(top) in skipped for top in step.tops) or not contributes:
            step.need_backward = False
            step.propagate = [False] * len(step.bottoms)
        for bottom, wanted in zip(step.bottoms, step.propagate, strict=True):
            if contributes:
                below.add(id(bottom))
            if not wanted:
                skipped.add(id(bottom))


def _lr_mult(step: Step, index: int) -> float:
    param = step.proto.param
    return float(param[index].lr_mult) if index < len(param) else 1.0
