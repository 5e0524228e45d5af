"""A converted net, written back as the caffemodel and prototxt of today's Caffe."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

from caffe2torch.errors import ArtefactError
from caffe2torch.graph import FloatArray, Graph, Node, Shape
from caffe2torch.io.arrays import write_array
from caffe2torch.io.atomic import atomic_group
from caffe2torch.io.fields import head_bytes
from caffe2torch.io.parameters import Parameters
from caffe2torch.io.schema import Message, message_class
from caffe2torch.preprocessing import Preprocessing

MAX_BYTES = 2**31 - 1
"""No protobuf library reads a longer message."""


@dataclass(frozen=True)
class LayerBlobs:
    """One layer of a file: its message, and its learned blobs of ``shapes``.

    ``arrays`` gives their values, one or several at a time, when they are to be written.
    ``declared`` is the fork's own parameter message of the layer, if it has one.
    """

    proto: Message
    shapes: Sequence[Shape] = ()
    arrays: Callable[[], Iterable[FloatArray]] = tuple
    declared: Parameters | None = None


def write_caffemodel(
    graph: Graph,
    path_model: str | os.PathLike[str],
    path_prototxt: str | os.PathLike[str] | None = None,
) -> None:
    """Write the weights of ``graph``, and its deploy prototxt if a path is given.

    The caffemodel has the layers of ``graph.definition`` with float32 blobs in Caffe's
    shapes; a shared blob stands in every layer that uses it, as in Caffe's own files. How the
    input is made stands in the transform_param of the Input layer, which Caffe ignores. Arrays
    are streamed one at a time. The two files appear together (``atomic_group``) and have to
    lie in one folder. Raises ArtefactError for a net that such a file cannot hold: 2 GiB or
    more, two layers of one name with weights, or an input that Caffe has no words for.
    """
    net = graph.net
    if graph.preprocessing is not None:
        _record_transform(net, graph.preprocessing, path_model)
    with atomic_group() as group:
        if path_prototxt is not None:
            group.open(path_prototxt).write(graph.definition.encode())
        write_layers(group.open(path_model), os.fspath(path_model), net.name, _layers(net, graph))


def write_layers(file: BinaryIO, path: str, name: str, layers: Sequence[LayerBlobs]) -> None:
    """Write the caffemodel of a net called ``name``, as Caffe's Net::ToProto has it.

    ``path`` is for messages. Raises ArtefactError as ``write_caffemodel`` does.
    """
    _check_names(layers, path)
    heads = [[blob_head(shape) for shape in layer.shapes] for layer in layers]
    bodies = [_body(layer) for layer in layers]
    lengths = [
        sum(map(len, (body, *blobs))) + sum(map(_value_bytes, layer.shapes))
        for layer, body, blobs in zip(layers, bodies, heads, strict=True)
    ]
    head = message_class("NetParameter")(name=name).SerializeToString()
    before = [_head("NetParameter", "layer", length) for length in lengths]
    size = len(head) + sum(map(len, before)) + sum(lengths)
    if size > MAX_BYTES:
        raise ArtefactError(
            f"{path}: the net takes {size} bytes, and a caffemodel can have no "
            f"more than {MAX_BYTES}; write .safetensors or HDF5 instead"
        )
    file.write(head)
    for layer, start, body, blobs in zip(layers, before, bodies, heads, strict=True):
        file.write(start + body)
        for before_values, array in zip(blobs, layer.arrays(), strict=True):
            file.write(before_values)
            write_array(file, array)


def _record_transform(net: Message, record: Preprocessing, path: str | os.PathLike[str]) -> None:
    """Put ``record`` into the first Input layer, where ``read`` finds it."""
    if record.channel_order != "BGR" or record.std:
        raise ArtefactError(
            f"{os.fspath(path)}: Caffe feeds blue first and has no standard deviation; this net "
            f"takes {record.channel_order}, normalised. Write weights converted without --input."
        )
    transform = next(proto for proto in net.layer if proto.type == "Input").transform_param
    if record.crop_size is not None:
        transform.crop_size = record.crop_size
    if record.mean_file is not None:
        transform.mean_file = record.mean_file
    transform.mean_value[:] = record.mean
    transform.scale = record.scale
    transform.mirror = record.mirror


def _layers(net: Message, graph: Graph) -> list[LayerBlobs]:
    """The layers of ``net``: the inputs, which may have gained a transform, and the nodes."""
    return [
        *(LayerBlobs(proto) for proto in net.layer[: len(graph.sources)]),
        *(node_blobs(node, node.proto, graph) for node in graph.nodes),
    ]


def node_blobs(
    node: Node,
    proto: Message,
    graph: Graph,
    arrays: Callable[[], Mapping[str, FloatArray]] | None = None,
) -> LayerBlobs:
    """A node as the layer ``proto`` of a file.

    ``arrays`` gives its learned arrays by the layer's own names; by default the graph's.
    """
    bottoms = [graph.shapes[value] for value in node.inputs]
    shapes = [spec.shape for spec in node.layer.blob_specs(bottoms)]
    given = arrays or (lambda: graph.arrays(node))

    def blobs() -> Iterable[FloatArray]:
        return node.layer.export_blobs(given(), bottoms) if shapes else ()

    return LayerBlobs(proto, shapes, blobs, node.layer.parameters)


def _body(layer: LayerBlobs) -> bytes:
    bare = message_class("LayerParameter")()
    bare.CopyFrom(layer.proto)
    for field in ("place", "unknown_field", "blobs"):
        bare.ClearField(field)
    body: bytes = bare.SerializeToString()
    return body + layer.declared.as_bytes(layer.proto) if layer.declared else body


def _check_names(layers: Sequence[LayerBlobs], path: str) -> None:
    learning = Counter(layer.proto.name for layer in layers if layer.shapes)
    for name, count in learning.items():
        if count > 1:
            raise ArtefactError(
                f"{path}: {count} layers with weights are called {name!r}, and a "
                "caffemodel finds weights by name; rename them in the prototxt and convert again"
            )


def blob_head(shape: Shape, message: str = "LayerParameter", field: str = "blobs") -> bytes:
    """All bytes of a blob, a ``field`` of a ``message``, that stand before its values.

    A blob without axes has no shape field, as in Caffe's own files: OpenCV wants it so.
    """
    blob = message_class("BlobProto")()
    if shape:
        blob.shape.dim[:] = shape
    fields: bytes = blob.SerializeToString()
    before = fields + _head("BlobProto", "data", _value_bytes(shape))
    return _head(message, field, len(before) + _value_bytes(shape)) + before


def _head(message: str, field: str, length: int) -> bytes:
    """Tag and length of a field of ``length`` bytes."""
    number = message_class(message).DESCRIPTOR.fields_by_name[field].number
    return head_bytes(number, length)


def _value_bytes(shape: Shape) -> int:
    return 4 * prod(shape)
