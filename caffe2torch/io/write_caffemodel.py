"""A converted net, written back as the caffemodel and prototxt of today's Caffe."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from caffe2torch.errors import ArtefactError
from caffe2torch.graph import Graph, Node, Shape
from caffe2torch.io.arrays import write_array
from caffe2torch.io.atomic import atomic_group
from caffe2torch.io.fields import head_bytes
from caffe2torch.io.schema import Message, message_class
from caffe2torch.preprocessing import Preprocessing

MAX_BYTES = 2**31 - 1
"""No protobuf library reads a longer message."""


@dataclass(frozen=True)
class _Entry:
    """One layer of the file: its bytes before the blobs, and those before each blob's values."""

    head: bytes
    blob_heads: Sequence[bytes]
    size: int
    node: Node | None
    bottoms: Sequence[Shape]


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
    entries = _entries(net, graph)
    head = message_class("NetParameter")(name=net.name).SerializeToString()
    _check_names(entries, path_model)
    size = len(head) + sum(entry.size for entry in entries)
    if size > MAX_BYTES:
        raise ArtefactError(
            f"{os.fspath(path_model)}: the net takes {size} bytes, and a caffemodel can have no "
            f"more than {MAX_BYTES}; write .safetensors instead"
        )
    with atomic_group() as group:
        if path_prototxt is not None:
            group.open(path_prototxt).write(graph.definition.encode())
        file = group.open(path_model)
        file.write(head)
        for entry in entries:
            file.write(entry.head)
            if entry.node is not None and entry.blob_heads:
                params = {name: graph.params[key] for name, key in entry.node.params.items()}
                blobs = entry.node.layer.export_blobs(params, entry.bottoms)
                for blob_head, blob in zip(entry.blob_heads, blobs, strict=True):
                    file.write(blob_head)
                    write_array(file, blob)


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


def _entries(net: Message, graph: Graph) -> list[_Entry]:
    """The layers of ``net``: the inputs, which may have gained a transform, and the nodes."""
    sources = [_entry(proto, None, (), ()) for proto in net.layer[: len(graph.sources)]]
    nodes = []
    for node in graph.nodes:
        bottoms = [graph.shapes[value] for value in node.inputs]
        shapes = [spec.shape for spec in node.layer.blob_specs(bottoms)]
        nodes.append(_entry(node.proto, node, bottoms, shapes))
    return sources + nodes


def _entry(
    proto: Message, node: Node | None, bottoms: Sequence[Shape], shapes: Sequence[Shape]
) -> _Entry:
    bare = message_class("LayerParameter")()
    bare.CopyFrom(proto)
    bare.ClearField("place")
    bare.ClearField("unknown_field")
    body = bare.SerializeToString()
    if node is not None and node.layer.parameters is not None:
        body += node.layer.parameters.as_bytes(proto)
    blob_heads = [_blob_head(shape) for shape in shapes]
    length = sum(map(len, (body, *blob_heads))) + sum(map(_value_bytes, shapes))
    head = _head("NetParameter", "layer", length)
    return _Entry(head + body, blob_heads, len(head) + length, node, bottoms)


def _check_names(entries: Sequence[_Entry], path: str | os.PathLike[str]) -> None:
    learning = Counter(e.node.layer.name for e in entries if e.node and e.blob_heads)
    for name, count in learning.items():
        if count > 1:
            raise ArtefactError(
                f"{os.fspath(path)}: {count} layers with weights are called {name!r}, and a "
                "caffemodel finds weights by name; rename them in the prototxt and convert again"
            )


def _blob_head(shape: Shape) -> bytes:
    """All bytes of a layer's blob that stand before its values.

    A blob without axes has no shape field, as in Caffe's own files: OpenCV wants it so.
    """
    blob = message_class("BlobProto")()
    if shape:
        blob.shape.dim[:] = shape
    fields: bytes = blob.SerializeToString()
    before = fields + _head("BlobProto", "data", _value_bytes(shape))
    return _head("LayerParameter", "blobs", len(before) + _value_bytes(shape)) + before


def _head(message: str, field: str, length: int) -> bytes:
    """Tag and length of a field of ``length`` bytes."""
    number = message_class(message).DESCRIPTOR.fields_by_name[field].number
    return head_bytes(number, length)


def _value_bytes(shape: Shape) -> int:
    return 4 * prod(shape)
