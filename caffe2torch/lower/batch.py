"""Which dimensions of a net follow its batch size, or the size of its image."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

from caffe2torch.errors import ArtefactError, Caffe2TorchError
from caffe2torch.graph import FloatArray, Graph, Shape


def batch_of(graph: Graph) -> int | None:
    """The declared batch size if every layer works for any other too, else None.

    The batch is the first axis, of one size, of all inputs; beside a larger batch an input
    may have size 1, for all items alike (the priors of an SSD net). A layer whose shapes or
    learned blobs would not fit another batch, or whose lowering fixes it, makes it fixed.
    """
    sizes = {i.shape[0] for i in graph.inputs if i.shape}
    sizes = sizes - {1} or sizes
    if len(sizes) != 1 or not all(i.shape for i in graph.inputs):
        return None
    if any(node.layer.fixes_batch for node in graph.nodes):
        return None
    batch = sizes.pop()
    others = [shapes_at(graph, batch, batch + step) for step in (1, 3)]
    return None if any(other is None for other in others) else batch


def with_batch(graph: Graph, size: int) -> Graph:
    """``graph`` declared for batches of ``size``.

    Raises ArtefactError if it takes no such batch.
    """
    if all(i.shape[:1] == (size,) for i in graph.inputs):
        return graph
    declared = batch_of(graph)
    shapes = None if declared is None else shapes_at(graph, declared, size)
    if declared is None or shapes is None:
        inputs = ", ".join(f"{i.name!r} {i.shape}" for i in graph.inputs)
        raise ArtefactError(
            f"the net takes no batch of {size}: a layer, or the shapes of its inputs "
            f"({inputs}), fix it. Leave the batch out, or give other shapes with --input-shape."
        )
    sources = []
    for source in graph.sources:
        source = deepcopy(source)
        for shape in source.input_param.shape:
            if shape.dim and shape.dim[0] == declared:
                shape.dim[0] = size
        sources.append(source)
    return replace(graph, sources=tuple(sources), shapes=shapes)


def shapes_at(graph: Graph, batch: int, other: int) -> Mapping[str, Shape] | None:
    """The shapes of all values for ``other`` in place of ``batch``; None if the net has none."""
    inputs = {
        i.name: (other, *i.shape[1:]) if i.shape[0] == batch else i.shape for i in graph.inputs
    }
    return _shapes_from(graph, inputs)


def image_sized(graph: Graph, height: int, width: int) -> Graph | None:
    """``graph`` for images of another size, where it declares 1 x 1 as one set at run time.

    None where no input is declared so, or the shapes or learned blobs would not fit.
    """
    inputs = {
        i.name: (*i.shape[:2], height, width) if i.shape[2:] == (1, 1) else i.shape
        for i in graph.inputs
    }
    if all(inputs[i.name] == i.shape for i in graph.inputs):
        return None
    shapes = _shapes_from(graph, inputs)
    return None if shapes is None else replace(graph, shapes=shapes)


def _shapes_from(graph: Graph, inputs: Mapping[str, Shape]) -> Mapping[str, Shape] | None:
    """The shapes of all values for inputs of other shapes; None if the net has none."""
    shapes = dict(inputs)
    try:
        for node in graph.nodes:
            bottoms = [shapes[name] for name in node.inputs]
            declared = [graph.shapes[name] for name in node.inputs]
            specs = [spec.shape for spec in node.layer.blob_specs(bottoms)]
            if specs != [spec.shape for spec in node.layer.blob_specs(declared)]:
                return None
            shapes.update(zip(node.outputs, node.layer.infer_shapes(bottoms), strict=True))
    except Caffe2TorchError:
        return None
    return shapes


def free_axes(graph: Graph) -> Mapping[str, set[int]]:
    """The axes of values, by name, whose sizes depend on the data, as ``Layer.free_axes`` says.

    So do sizes that follow from them: those that change where a free one does.
    """
    shapes, free = dict(graph.shapes), {name: set[int]() for name in graph.shapes}
    for node in graph.nodes:
        bottoms = [shapes[name] for name in node.inputs]
        follows = bottoms != [graph.shapes[name] for name in node.inputs]
        try:
            tops = node.layer.infer_shapes(bottoms) if follows else []
        except Caffe2TorchError:
            tops = []
        for name, top in zip(node.outputs, tops or [shapes[n] for n in node.outputs], strict=True):
            sizes = [n + (axis in node.layer.free_axes) for axis, n in enumerate(top)]
            shapes[name] = tuple(sizes)
            pairs = enumerate(zip(sizes, graph.shapes[name], strict=True))
            free[name] = {axis for axis, (other, declared) in pairs if other != declared}
    return free


def fed_shapes(graph: Graph, inputs: Mapping[str, FloatArray]) -> Mapping[str, Shape]:
    """The shapes of all values of ``graph`` for the batch size of ``inputs``."""
    batch = batch_of(graph)
    declared = {i.name: i.shape for i in graph.inputs}
    sizes = [a.shape[0] for name, a in inputs.items() if declared[name][:1] == (batch,)]
    if batch is None or not sizes or sizes[0] == batch:
        return graph.shapes
    return shapes_at(graph, batch, sizes[0]) or graph.shapes
