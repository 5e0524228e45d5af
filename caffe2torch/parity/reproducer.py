"""A few layers of a net, written as a net of their own with inputs and expected outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from caffe2torch.errors import ParityError
from caffe2torch.graph import Array, FloatArray, Graph, Node, Shape
from caffe2torch.io.atomic import atomic_write
from caffe2torch.io.npz import write_npz
from caffe2torch.io.schema import Message, message_class
from caffe2torch.io.write_caffemodel import write_caffemodel
from caffe2torch.lower.batch import batch_of, shapes_at


@dataclass(frozen=True)
class Reproducer:
    """The files of a reproducer: a net, its weights, inputs and the baseline's outputs."""

    model: str
    prototxt: str
    inputs: str
    reference: str


@dataclass(frozen=True)
class Excerpt:
    """Some layers as a net, with the inputs they got and the outputs they made of them."""

    net: Graph
    inputs: Mapping[str, FloatArray]
    outputs: Mapping[str, Array]


def excerpt(
    graph: Graph, nodes: Sequence[Node], reads: Sequence[str], values: Mapping[str, Array]
) -> Excerpt:
    """``nodes`` of ``graph`` as a net whose inputs are the values ``reads``.

    Its blobs carry the names of values, so that no layer is in place. ``values`` are those of
    the whole net; the outputs are the layers' values among them.
    """
    inputs = {name: np.require(values[name], np.float32, "C") for name in reads}
    made = [value for node in nodes for value in node.outputs if value in values]
    return Excerpt(subgraph(graph, nodes, inputs), inputs, {name: values[name] for name in made})


def one_item(graph: Graph, whole: Excerpt, item: int) -> Excerpt | None:
    """``whole`` cut to one item of its batch, or None where the layers have no batch axis."""
    batch = batch_of(whole.net)
    shapes = shapes_at(whole.net, batch, 1) if batch is not None and batch > 1 else None
    if batch is None or shapes is None or item >= batch:
        return None

    def cut(name: str, array: Array) -> Array:
        followed = shapes[name][:1] != whole.net.shapes[name][:1]
        return array[item : item + 1] if followed else array

    inputs = {name: cut(name, array) for name, array in whole.inputs.items()}
    outputs = {name: cut(name, array) for name, array in whole.outputs.items()}
    return Excerpt(subgraph(graph, whole.net.nodes, inputs), inputs, outputs)


def subgraph(graph: Graph, nodes: Sequence[Node], inputs: Mapping[str, FloatArray]) -> Graph:
    """``nodes`` of ``graph`` as a net fed with ``inputs``; every value is a blob."""
    shapes: dict[str, Shape] = {name: array.shape for name, array in inputs.items()}
    between_values = []
    for node in nodes:
        tops = node.layer.infer_shapes([shapes[value] for value in node.inputs])
        shapes.update(zip(node.outputs, tops, strict=True))
        proto = deepcopy(node.proto)
        proto.bottom[:], proto.top[:] = node.inputs, node.outputs
        between_values.append(replace(node, proto=proto))
    read = {value for node in nodes for value in node.inputs}
    return replace(
        graph,
        name=" + ".join(node.layer.name for node in nodes),
        sources=tuple(_source(name, array.shape) for name, array in inputs.items()),
        nodes=tuple(between_values),
        outputs=tuple(v for node in nodes for v in node.outputs if v not in read),
        blobs={value: value for value in shapes},
        shapes=shapes,
        params={key: graph.params[key] for node in nodes for key in node.params.values()},
        preprocessing=None,
    )


def _source(blob: str, shape: Shape) -> Message:
    layer = message_class("LayerParameter")(name=f"input {blob}", type="Input", top=[blob])
    layer.input_param.shape.add(dim=shape)
    return layer


def write_excerpt(found: Excerpt, directory: str | os.PathLike[str]) -> Reproducer:
    """Write ``found`` into ``directory``, which is made if it is not there.

    Raises:
        ParityError: the folder cannot be made.
        ArtefactError: a file cannot be written.
    """
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParityError(f"{folder}: the folder cannot be made: {error.strerror}") from error
    names = ("net.caffemodel", "net.prototxt", "inputs.npz", "reference.npz")
    files = Reproducer(*(os.fspath(folder / name) for name in names))
    write_caffemodel(found.net, files.model, files.prototxt)
    for path, arrays in ((files.inputs, found.inputs), (files.reference, found.outputs)):
        with atomic_write(path) as file:
            write_npz(file, arrays)
    return files
