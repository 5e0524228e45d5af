"""A few layers of a net, written as a net of their own with inputs and expected outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf import text_format

from caffe2torch.errors import ParityError
from caffe2torch.graph import Array, FloatArray, Graph, Input, Node, Shape
from caffe2torch.io.atomic import atomic_write
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.schema import Message, message_class
from caffe2torch.io.write_caffemodel import write_caffemodel
from caffe2torch.lower.batch import batch_of, shapes_at
from caffe2torch.parity.compare import worst_item
from caffe2torch.parity.npz import write_npz

if TYPE_CHECKING:
    from caffe2torch.parity.bisect import Suspect


@dataclass(frozen=True)
class Reproducer:
    """The files of a reproducer: a net, its weights, inputs and the baseline's outputs."""

    model: str
    prototxt: str
    inputs: str
    reference: str


def write_reproducer(
    graph: Graph,
    suspect: Suspect,
    first: Mapping[str, Array],
    second: Mapping[str, Array],
    directory: str | os.PathLike[str],
    *,
    one_item: bool,
) -> Reproducer | None:
    """Write the layers of ``suspect`` with the inputs and outputs of the baseline, ``first``.

    Blobs carry the names of values, so that no layer is in place. With ``one_item`` only the
    item of the batch that differs most is written; None where the layers cannot be cut so.

    Raises:
        ParityError: the folder cannot be made.
        ArtefactError: a file cannot be written.
    """
    inputs = {name: np.require(first[name], np.float32, "C") for name in suspect.inputs}
    net = subgraph(graph, suspect.nodes, inputs)
    outputs = {
        value: first[value] for node in net.nodes for value in node.outputs if value in first
    }
    if one_item:
        value = suspect.value
        cut = _item(net, inputs, outputs, value, first[value], second[value])
        if cut is None:
            return None
        inputs, outputs = cut
        net = subgraph(graph, suspect.nodes, inputs)
    return _write(net, inputs, outputs, Path(directory))


def subgraph(graph: Graph, nodes: Sequence[Node], inputs: Mapping[str, FloatArray]) -> Graph:
    """``nodes`` of ``graph`` as a net fed with ``inputs``; every value is a blob."""
    shapes: dict[str, Shape] = {name: array.shape for name, array in inputs.items()}
    for node in nodes:
        tops = node.layer.infer_shapes([shapes[value] for value in node.inputs])
        shapes.update(zip(node.outputs, tops, strict=True))
    read = {value for node in nodes for value in node.inputs}
    return replace(
        graph,
        name=" + ".join(node.layer.name for node in nodes),
        inputs=tuple(Input(name, array.shape) for name, array in inputs.items()),
        nodes=tuple(nodes),
        outputs=tuple(v for node in nodes for v in node.outputs if v not in read),
        blobs={value: value for value in shapes},
        shapes=shapes,
        params={key: graph.params[key] for node in nodes for key in node.params.values()},
        definition=_definition(graph, nodes, inputs),
        preprocessing=None,
    )


def _definition(graph: Graph, nodes: Sequence[Node], inputs: Mapping[str, FloatArray]) -> str:
    protos = _protos(graph)
    net = message_class("NetParameter")(name=" + ".join(node.layer.name for node in nodes))
    for name, array in inputs.items():
        layer = net.layer.add(name=f"input {name}", type="Input", top=[name])
        layer.input_param.shape.add(dim=array.shape)
    for node in nodes:
        layer = net.layer.add()
        layer.CopyFrom(protos[id(node)])
        layer.bottom[:] = node.inputs
        layer.top[:] = node.outputs
        # The net was filtered by them already.
        layer.ClearField("include")
        layer.ClearField("exclude")
    return str(text_format.MessageToString(net))


def _protos(graph: Graph) -> dict[int, Message]:
    """The layer message of every node, by its id: the definition has them in the same order."""
    net = parse_prototxt(graph.definition, "the definition of the net")
    layers = [layer for layer in net.layer if layer.type != "Input"]
    return {id(node): layer for node, layer in zip(graph.nodes, layers, strict=True)}


def _item(
    net: Graph,
    inputs: Mapping[str, FloatArray],
    outputs: Mapping[str, Array],
    value: str,
    first: Array,
    second: Array,
) -> tuple[dict[str, FloatArray], dict[str, Array]] | None:
    """Inputs and outputs cut to the item at which ``value`` differs most, or None."""
    batch = batch_of(net)
    shapes = shapes_at(net, batch, 1) if batch is not None and batch > 1 else None
    if shapes is None or net.shapes[value][0] != batch or len(first) != batch:
        return None
    item = worst_item(first, second)

    def cut(name: str, array: Array) -> Array:
        followed = shapes[name][:1] != net.shapes[name][:1]
        return array[item : item + 1] if followed else array

    return (
        {name: cut(name, array) for name, array in inputs.items()},
        {name: cut(name, array) for name, array in outputs.items()},
    )


def _write(
    net: Graph, inputs: Mapping[str, Array], outputs: Mapping[str, Array], directory: Path
) -> Reproducer:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParityError(f"{directory}: the folder cannot be made: {error.strerror}") from error
    model, prototxt = directory / "net.caffemodel", directory / "net.prototxt"
    write_caffemodel(net, model, prototxt)
    for name, arrays in (("inputs.npz", inputs), ("reference.npz", outputs)):
        with atomic_write(directory / name) as file:
            write_npz(file, arrays)
    paths = (model, prototxt, directory / "inputs.npz", directory / "reference.npz")
    return Reproducer(*(os.fspath(path) for path in paths))
